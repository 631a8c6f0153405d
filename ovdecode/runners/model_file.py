"""A model on disk that need not be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from ovdecode.errors import ModelError

if TYPE_CHECKING:
    import openvino as ov

ModelSource: TypeAlias = Union["ov.Model", "ModelFile"]
"""What a runner is made of: a model, or the file of one."""


class ModelFile:
    """An OpenVINO IR of a language model. Nobody holds its graph but who has read it.

    Args:
        xml: the graph; its weights are the `.bin` beside it.
    """

    def __init__(self, xml: Path) -> None:
        self.xml = xml

    def read(self) -> ov.Model:
        """The graph, checked.

        Raises:
            ModelError: OpenVINO can't read it, or it is no language model.
        """
        import openvino as ov

        from ovdecode.runners.graph import check_language_model

        try:
            model = ov.Core().read_model(self.xml)
        except RuntimeError as error:
            raise ModelError(
                f"`{self.xml}` must be an OpenVINO model, but OpenVINO can't read it: {error}; export it again"
            ) from error
        check_language_model(model)
        return model

    @property
    def identity(self) -> str:
        """Another one if the graph, or the file of its weights, is another one."""
        from hashlib import sha256

        graph = sha256(self.xml.read_bytes()).hexdigest()
        weights = self.xml.with_suffix(".bin").resolve()
        if not weights.exists():
            return graph
        status = weights.stat()
        return f"{graph} {weights} {status.st_size} {status.st_mtime_ns}"


def graph_of(source: ModelSource) -> ov.Model:
    """The graph of a model, read if it is on disk."""
    return source.read() if isinstance(source, ModelFile) else source
