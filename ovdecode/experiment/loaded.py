"""The models of an experiment, loaded as it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ovdecode.errors import ConfigurationError
from ovdecode.experiment.plan import Experiment

if TYPE_CHECKING:
    from ovdecode.model import Model


class Models:
    """The models of an experiment, each loaded when it is first asked for.

    Args:
        experiment: says how they are loaded.
        loaded: those that are there already, by their source.

    Raises:
        ConfigurationError: if one that is there runs in another precision than the experiment's.
    """

    def __init__(self, experiment: Experiment, loaded: Mapping[str, Model] | None = None) -> None:
        self._options, self._loaded = experiment.load_options(), dict(loaded or {})
        for source, model in self._loaded.items():
            if model.runner.precision != experiment.precision:
                raise ConfigurationError(
                    f"`precision` of the experiment must be that of the model `{source}`, which is "
                    f"{model.runner.precision!r}, got {experiment.precision!r}"
                )

    def __call__(self, source: str) -> Model:
        """The model of a source."""
        from ovdecode.loading import load

        if source not in self._loaded:
            self._loaded[source] = load(source, **self._options)
        return self._loaded[source]
