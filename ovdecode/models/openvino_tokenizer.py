"""The tokenizer as OpenVINO models: the same contract without transformers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ovdecode.errors import ModelError
from ovdecode.models.chat import find_chat_template, no_template, render_chat
from ovdecode.models.spelling import byte_level_bytes, sentencepiece_bytes
from ovdecode.models.tokenizer import FolderTokenizer, Messages, check_text


class OpenVINOTokenizer(FolderTokenizer):
    """`openvino_tokenizer.xml` and `openvino_detokenizer.xml` of a model folder, compiled at first use.

    Not to be shared among threads: each model owns one inference request.

    Args:
        folder: The model folder, or its path.

    Raises:
        ModelError: At first use, if the folder holds no such models or they cannot be read.
    """

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The tokens that are markup, not text."""
        return frozenset(int(token) for token in _constant(_decoder(self._detokenizer_graph), 4))

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """The ids of a text; literals of special tokens in it become those tokens."""
        check_text(text)
        before, after = self._added
        # A string on its way to OpenVINO loses trailing NUL characters: end with a token, and drop it.
        ends_in_nul = text.endswith("\0")
        tokens = self._run_tokenizer(text + self._mark if ends_in_nul else text)
        if ends_in_nul:
            del tokens[len(tokens) - after - 1]
        return tokens if add_special_tokens else tokens[before : len(tokens) - after]

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of some ids, with U+FFFD for bytes that are no character."""
        import numpy as np

        for token in tokens:
            self.token_bytes(token)
        spelled = [token for token in tokens if token < self.vocab_size]
        if skip_special_tokens:
            spelled = [token for token in spelled if token not in self.special_ids]
        # NumPy strings lose trailing NUL characters: end with one visible character, and drop it.
        text = str(self._detokenizer(np.array([[*spelled, self._visible]], dtype=np.int64))[0][0])[:-1]
        if "\ufffd" in text:
            # Of the bytes of a surrogate OpenVINO makes one U+FFFD, where Unicode and Python have one for each.
            plain = b"".join(map(self.token_bytes, spelled)).decode("utf-8", "replace")
            return plain if plain.replace("\ufffd", "") == text.replace("\ufffd", "") else text
        return text

    def apply_chat_template(self, messages: Messages, add_generation_prompt: bool = True) -> list[int]:
        """The ids of a conversation in the model's own format."""
        template = find_chat_template(self.folder.path)
        if template is None and self._tokenizer_graph.has_rt_info("chat_template"):
            template = self._tokenizer_graph.get_rt_info("chat_template").astype(str)
        if not template:
            raise no_template(self.folder.path)
        return self.encode(render_chat(template, self.folder.path, messages, add_generation_prompt))

    @cached_property
    def _mark(self) -> str:
        """The literal of a special token: it stands alone whatever is before it."""
        return self.spellings[min(self.special_ids)].decode("utf-8")

    @cached_property
    def _visible(self) -> int:
        """A token that spells one visible character (a letter: clean-up may move spaces before points)."""
        return self.spellings.index(b"a")

    @cached_property
    def _added(self) -> tuple[int, int]:
        """How many tokens the tokenizer puts before and after every text."""
        alone, some = self._run_tokenizer(""), self._run_tokenizer("a")
        before = 0
        while before < len(alone) and alone[before] == some[before]:
            before += 1
        return before, len(alone) - before

    def _run_tokenizer(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer([text])["input_ids"][0].tolist()
        return tokens

    @cached_property
    def _tokenizer(self) -> Any:
        return _compile(self._tokenizer_graph)

    @cached_property
    def _detokenizer(self) -> Any:
        """The detokenizer with no token skipped: what to skip is decided here, call by call."""
        import numpy as np
        import openvino

        graph = self._detokenizer_graph.clone()
        nothing = openvino.opset13.constant(np.zeros(0, dtype=np.int32))
        _decoder(graph).input(4).replace_source_output(nothing.output(0))
        graph.validate_nodes_and_infer_types()
        return _compile(graph)

    @cached_property
    def _tokenizer_graph(self) -> Any:
        return _read(self.folder.path / "openvino_tokenizer.xml")

    @cached_property
    def _detokenizer_graph(self) -> Any:
        return _read(self.folder.path / "openvino_detokenizer.xml")

    @cached_property
    def spellings(self) -> list[bytes]:
        """The bytes of every id, read off the vocabulary in the detokenizer."""
        decoder = _decoder(self._detokenizer_graph)
        begins, ends, characters = (_constant(decoder, index) for index in (1, 2, 3))
        vocabulary = characters.tobytes()
        entries = [vocabulary[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
        kinds = {node.get_type_name() for node in self._detokenizer_graph.get_ops()}
        if "CharsToBytes" in kinds:
            return [byte_level_bytes(entry.decode("utf-8")) for entry in entries]
        if "ByteFallback" in kinds:
            return [sentencepiece_bytes(entry.decode("utf-8")) for entry in entries]
        return entries


def _read(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(
            f"`{path}` must be an OpenVINO tokenizer model, but there is no such file. Make it with: "
            f"convert_tokenizer {path.parent} --with-detokenizer -o {path.parent}"
        )
    import openvino

    try:
        import openvino_tokenizers  # noqa: F401  (teaches OpenVINO the operations on strings)
    except ImportError as error:
        raise ModelError(
            f"`{path.name}` needs the package `openvino-tokenizers`, which is not installed. Run: pip "
            "install openvino-tokenizers"
        ) from error
    try:
        return openvino.Core().read_model(path)
    except RuntimeError as error:
        raise ModelError(f"`{path}` must be an OpenVINO tokenizer model, but it cannot be read: {error}") from error


def _compile(graph: Any) -> Any:
    import openvino

    return openvino.Core().compile_model(graph, "CPU")


def _decoder(graph: Any) -> Any:
    for node in graph.get_ops():
        if node.get_type_name() == "VocabDecoder":
            return node
    raise ModelError(
        "`openvino_detokenizer.xml` must hold its vocabulary in a `VocabDecoder`, but it holds none (a "
        "SentencePiece model does not show its bytes). Use the Hugging Face tokenizer, or convert this one "
        "again without `--use-sentencepiece-backend`."
    )


def _constant(node: Any, index: int) -> Any:
    """The array behind an input, looking through the slice that OpenVINO GenAI switches skipping with."""
    source = node.input_value(index).get_node()
    while source.get_type_name() != "Constant":
        source = source.input_value(0).get_node()
    return source.data
