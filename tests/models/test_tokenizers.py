"""Both tokenizers give the same ids, bytes and texts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_folder import make_folder
from test_from_gguf import script_environment
from tiny_gguf import write_tiny

from ovdecode import Model, TableRunner, Task
from ovdecode.errors import ModelError, PromptError, TokenError
from ovdecode.models import (
    HuggingFaceTokenizer,
    ModelFolder,
    OpenVINOTokenizer,
    Tokenizer,
    convert_gguf,
)
from ovdecode.models.tokenizer import FolderTokenizer
from ovdecode.text import TextState

TEXTS = [
    "",
    " ",
    "\n",
    "Hello world! 123",
    "  multiple   spaces  and tabs\t\t and\n\n\nlines \n end   ",
    "I'm you're he'll they'd we've it's DON'T 'S 'T",
    "12 345,678.9 a1b2 ½ ²³ ١٢٣ Ⅷ 〇 12:30 100%",
    "before digits:  9 \n 9 \xa09 \u3000 9\t\t9",
    "Café déjà vu naïve façade ﬁ ﬂ ß İ e\u0301",
    "日本語のテキスト Привет мир हिन्दी مرحبا שלום ไทย 한국어",
    "😀👍🏽👩\u200d👩\u200d👧\u200d👦 🇫🇷 emoji",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>a<|im_end|>b<|im_end",
    "def f(x):\n    return x**2  # sq\n\n\tif x: pass\r\n  win\r\n",
    "nul\x00 \x01 tail\x00",
    "no token for these: \x04 \x16 \U00040000",
    "\u00a0nbsp \u2003em \u200b zero \u2028line \ufeffbom",
    "[]{}()<>!?.,;:'\"`~@#$%^&*-_=+\\|/",
    "a" * 3000,
]
MESSAGES = [
    {"role": "user", "content": "Hé 12? <|im_end|>"},
    {"role": "assistant", "content": "ok"},
    {"role": "user", "content": "再 😀"},
]
CHARACTERS = "abz AZ  \n\t\r09½٣éß日😀👍\u200d'<|im_end|>.,-_\u00a0\u3000\u0301क्\x00\x04"


@pytest.fixture(scope="module")
def ours(smollm2_folder: ModelFolder) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(smollm2_folder)


@pytest.fixture(scope="module")
def theirs(smollm2_folder: ModelFolder) -> OpenVINOTokenizer:
    return OpenVINOTokenizer(smollm2_folder)


@pytest.fixture(params=[HuggingFaceTokenizer, OpenVINOTokenizer], scope="module")
def tokenizer(request: pytest.FixtureRequest, smollm2_folder: ModelFolder) -> Tokenizer:
    kind: Callable[[ModelFolder], Tokenizer] = request.param
    return kind(smollm2_folder)


def tiny(path: Path, **options: object) -> list[FolderTokenizer]:
    """Both tokenizers of a tiny model."""
    folder = convert_gguf(write_tiny(path / "tiny.gguf", **options), path / "out")  # type: ignore[arg-type]
    return [HuggingFaceTokenizer(folder), OpenVINOTokenizer(folder)]


def test_what_needs_no_transformers_is_what_transformers_reads(smollm2_folder: ModelFolder, tmp_path: Path) -> None:
    """A folder that says nothing beyond its `tokenizer.json` is read without transformers, which takes a second."""
    shutil.copy(smollm2_folder.path / "tokenizer.json", tmp_path)
    config = json.loads((smollm2_folder.path / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["padding_side"] = "left"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    make_folder(tmp_path)
    quick, slow = HuggingFaceTokenizer(smollm2_folder), HuggingFaceTokenizer(tmp_path)
    assert quick.spellings == slow.spellings
    assert quick.special_ids == slow.special_ids
    for text in TEXTS:
        for special in (False, True):
            assert quick.encode(text, special) == slow.encode(text, special)
        for skip in (False, True):
            assert quick.decode(quick.encode(text), skip) == slow.decode(slow.encode(text), skip)
    assert "_tokenizer" not in vars(quick)  # never made
    assert "_tokenizer" in vars(slow)


def test_a_special_token_that_transformers_would_add(smollm2_folder: ModelFolder, tmp_path: Path) -> None:
    shutil.copy(smollm2_folder.path / "tokenizer.json", tmp_path)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<never seen>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    make_folder(tmp_path)
    tokenizer = HuggingFaceTokenizer(tmp_path)
    assert tokenizer.vocab_size == 49153
    assert tokenizer.token_bytes(49152) == b"<never seen>"
    assert tokenizer.encode("a<never seen>")[-1] == 49152


@pytest.mark.parametrize("text", TEXTS)
def test_both_give_the_same_ids_and_the_text_back(
    ours: HuggingFaceTokenizer, theirs: OpenVINOTokenizer, text: str
) -> None:
    tokens = ours.encode(text)
    assert theirs.encode(text) == tokens
    spelled = text.translate({0x04: None, 0x16: None}).replace("\U00040000", "\ufffd" * 3)  # 3 of its 4 bytes
    assert ours.decode(tokens) == theirs.decode(tokens) == spelled


@settings(deadline=None, max_examples=300)
@given(text=st.text(st.sampled_from(CHARACTERS), max_size=40) | st.text(max_size=40))
def test_both_give_the_same_ids_for_any_text(ours: HuggingFaceTokenizer, theirs: OpenVINOTokenizer, text: str) -> None:
    assert ours.encode(text) == theirs.encode(text)


@settings(deadline=None, max_examples=300)
@given(text=st.text(st.sampled_from(CHARACTERS), max_size=40))
def test_the_one_expression_cuts_as_the_two_steps_of_llama_cpp(
    smollm2_folder: ModelFolder, ours: HuggingFaceTokenizer, text: str
) -> None:
    """llama.cpp takes every digit alone, then cuts what lies between by GPT-2's expression."""
    assert ours.encode(text) == two_step_tokenizer(smollm2_folder.path).encode(text)


def two_step_tokenizer(folder: Path, made: dict[Path, object] = {}) -> HuggingFaceTokenizer:  # noqa: B006
    from tokenizers import Tokenizer, pre_tokenizers

    class TwoSteps(HuggingFaceTokenizer):
        def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
            tokens: list[int] = made[folder].encode(text).ids  # type: ignore[attr-defined]
            return tokens

    if folder not in made:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        made[folder] = tokenizer
    return TwoSteps(folder)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hello, we can use", [19556, 28, 392, 416, 722]),
        ("The capital of France is", [504, 3575, 282, 4649, 314]),
        ("Hello world! 123", [19556, 905, 17, 216, 33, 34, 35]),
        ("Café déjà vu.", [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30]),
        ("  multiple   spaces", [216, 2701, 256, 5600]),
        ("<|im_start|>user\n", [1, 4093, 198]),
    ],
)
def test_ids_that_the_model_was_trained_on(tokenizer: Tokenizer, text: str, tokens: list[int]) -> None:
    assert tokenizer.encode(text) == tokens


def test_every_token_has_the_same_bytes_in_both(ours: HuggingFaceTokenizer, theirs: OpenVINOTokenizer) -> None:
    assert ours.vocab_size == theirs.vocab_size == 49152
    assert ours.spellings == theirs.spellings
    assert ours.special_ids == theirs.special_ids == frozenset(range(17))
    assert ours.eos_token_ids == theirs.eos_token_ids == (2,)
    assert ours.token_bytes(2) == b"<|im_end|>"
    assert ours.token_bytes(216) == b" "


@settings(deadline=None, max_examples=200)
@given(tokens=st.lists(st.integers(0, 49151) | st.integers(0, 300), max_size=12))
@example(tokens=[184, 111])  # two bytes of a surrogate
def test_any_ids_decode_as_their_bytes_do(
    ours: HuggingFaceTokenizer, theirs: OpenVINOTokenizer, tokens: list[int]
) -> None:
    for skip in (False, True):
        kept = [token for token in tokens if not (skip and token in ours.special_ids)]
        expected = b"".join(ours.token_bytes(token) for token in kept).decode("utf-8", "replace")
        assert ours.decode(tokens, skip_special_tokens=skip) == expected
        assert theirs.decode(tokens, skip_special_tokens=skip) == expected
        state = TextState()
        for token in tokens:
            if not (skip and token in ours.special_ids):
                state = state.push(ours.token_bytes(token))
        assert state.finish() == expected


def test_a_text_longer_than_the_context_is_not_cut(tokenizer: Tokenizer) -> None:
    """The tokenizer that OpenVINO GenAI makes for a GGUF file kept 8192 tokens, without a word."""
    assert len(tokenizer.encode("a b " * 6000)) == 12001


def test_a_conversation_is_the_same_in_both(ours: HuggingFaceTokenizer, theirs: OpenVINOTokenizer) -> None:
    tokens = ours.apply_chat_template(MESSAGES)
    assert theirs.apply_chat_template(MESSAGES) == tokens
    assert ours.decode(tokens).endswith("<|im_start|>user\n再 😀<|im_end|>\n<|im_start|>assistant\n")
    bare = ours.apply_chat_template(MESSAGES, add_generation_prompt=False)
    assert theirs.apply_chat_template(MESSAGES, add_generation_prompt=False) == bare
    assert tokens[: len(bare)] == bare


def test_messages_that_are_none(tokenizer: Tokenizer) -> None:
    with pytest.raises(PromptError, match="`messages` must fit the model's chat template"):
        tokenizer.apply_chat_template([{"role": "user"}])


@pytest.mark.parametrize("token", [-1, 49152])
def test_an_id_outside_the_vocabulary(tokenizer: Tokenizer, token: int) -> None:
    with pytest.raises(TokenError, match=f"from 0 to 49151, but it is {token}"):
        tokenizer.token_bytes(token)
    with pytest.raises(TokenError, match=f"from 0 to 49151, but it is {token}"):
        tokenizer.decode([token])


def test_half_a_surrogate_pair(tokenizer: Tokenizer) -> None:
    with pytest.raises(PromptError, match="the character at 2 is half of a surrogate pair"):
        tokenizer.encode("ab\ud83d")


def test_a_text_that_is_no_string(tokenizer: Tokenizer) -> None:
    with pytest.raises(PromptError, match="must be a string, but it is a bytes"):
        tokenizer.encode(b"ab")  # type: ignore[arg-type]


def test_the_bos_token_is_added_on_request(tmp_path: Path) -> None:
    for tokenizer in tiny(tmp_path, pre="llama-bpe"):
        assert tokenizer.encode("a") == tokenizer.encode("a", add_special_tokens=True)[1:]
        assert tokenizer.encode("a", add_special_tokens=True)[0] == 0
        assert tokenizer.encode("") == []


def test_a_text_prompt_begins_with_bos_where_the_tokenizer_adds_one(tmp_path: Path) -> None:
    """Text prompts never got the BOS token, which llama and its like do not work well without."""
    flags = {"tokenizer.ggml.add_eos_token": True}
    for tokenizer in tiny(tmp_path, pre="llama-bpe", metadata=flags):
        model = Model(TableRunner(lambda tokens: [0.0] * 288), (1,), tokenizer)
        assert model.encode("the") == [0, *tokenizer.encode("the")]
        assert model.encode("a<|eos|>") == [0, *tokenizer.encode("a"), 1]  # the user wrote it, so it stays
        assert model.encode("") == [0]
        assert Task(model, "a b").start().tokens.tolist() == [0, *tokenizer.encode("a b")]


def test_a_text_prompt_stays_as_it_is_where_the_tokenizer_adds_nothing(tokenizer: Tokenizer) -> None:
    assert Model(TableRunner([[0.0]]), (), tokenizer).encode("Once upon") == tokenizer.encode("Once upon")
    assert Model(TableRunner([[0.0]])).encode("ab") == [0, 1]


def test_the_file_decides_what_is_added(tmp_path: Path) -> None:
    flags = {"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.add_eos_token": True}
    for tokenizer in tiny(tmp_path, pre="llama-bpe", metadata=flags):
        assert tokenizer.encode("a", add_special_tokens=True) == [*tokenizer.encode("a"), 1]


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "smaug-bpe", "qwen2"])
def test_every_family_agrees_with_itself(tmp_path: Path, pre: str) -> None:
    ours, theirs = tiny(tmp_path, pre=pre)
    for text in [*TEXTS[:-1], "the  the<tool>abc 1234", "a<|eos|><tool>"]:
        assert ours.encode(text) == theirs.encode(text)
    assert ours.spellings == theirs.spellings
    assert ours.special_ids == theirs.special_ids == {0, 1, 2}
    assert ours.decode(ours.encode("the<tool>")) == theirs.decode(ours.encode("the<tool>")) == "the<tool>"


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("gpt-2", ["It", "'s", " ", " 1234", "'", "S", " end", "\n\n"]),
        ("smollm", ["It", "'s", "  ", "1", "2", "3", "4", "'", "S", " end", "\n\n"]),
        ("llama-bpe", ["It", "'s", " ", " ", "123", "4", "'S", " end", "\n\n"]),
        ("qwen2", ["It", "'s", " ", " ", "1", "2", "3", "4", "'S", " end", "\n\n"]),
    ],
)
def test_how_each_family_cuts(pre: str, pieces: list[str]) -> None:
    from tokenizers import Regex, pre_tokenizers

    from ovdecode.models.gguf_tokenizer import PRE_TOKENIZERS

    split = pre_tokenizers.Split(Regex(PRE_TOKENIZERS[pre].pattern), "isolated")
    assert [piece for piece, _ in split.pre_tokenize_str("It's  1234'S end\n\n")] == pieces


def test_a_base_model_has_no_chat_template(tmp_path: Path) -> None:
    for tokenizer in tiny(tmp_path):
        with pytest.raises(ModelError, match="must hold a chat template"):
            tokenizer.apply_chat_template(MESSAGES)


def test_a_template_may_refuse(tmp_path: Path) -> None:
    template = "{% if messages|length > 1 %}{{ raise_exception('one message only') }}{% endif %}{{ bos_token }}"
    for tokenizer in tiny(tmp_path, metadata={"tokenizer.chat_template": template}):
        assert tokenizer.apply_chat_template(MESSAGES[:1]) == [0]
        with pytest.raises(PromptError, match="one message only"):
            tokenizer.apply_chat_template(MESSAGES)


def test_a_template_cannot_leave_its_sandbox(tmp_path: Path) -> None:
    template = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    for tokenizer in tiny(tmp_path, metadata={"tokenizer.chat_template": template}):
        with pytest.raises((ModelError, PromptError), match="unsafe"):
            tokenizer.apply_chat_template(MESSAGES)


def test_ids_that_only_the_model_has_spell_nothing(tmp_path: Path) -> None:
    for tokenizer in tiny(tmp_path):
        folder = tokenizer.folder
        padded = type(tokenizer)(ModelFolder(folder.path, folder.xml, folder.name, vocab_size=300))
        assert padded.token_bytes(299) == b""
        assert padded.decode([299]) == ""
        with pytest.raises(TokenError, match="from 0 to 299"):
            padded.token_bytes(300)


def test_a_folder_without_tokenizer(tmp_path: Path) -> None:
    make_folder(tmp_path)
    with pytest.raises(ModelError, match=r"must hold a Hugging Face tokenizer \(tokenizer.json\)"):
        HuggingFaceTokenizer(tmp_path).encode("a")
    with pytest.raises(ModelError, match=r"openvino_tokenizer.xml` must be an OpenVINO tokenizer model"):
        OpenVINOTokenizer(tmp_path).encode("a")


def test_a_corrupt_tokenizer(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    (tmp_path / "openvino_tokenizer.xml").write_text("<net>")
    with pytest.raises(ModelError, match="it cannot be read"):
        HuggingFaceTokenizer(tmp_path).encode("a")
    with pytest.raises(ModelError, match="it cannot be read"):
        OpenVINOTokenizer(tmp_path).encode("a")


@pytest.mark.parametrize("content", ['{"model": 5}', '{"model": {"vocab": {}}, "added_tokens": [], "decoder": null}'])
def test_a_tokenizer_of_something_else(smollm2_folder: ModelFolder, tmp_path: Path, content: str) -> None:
    shutil.copy(smollm2_folder.path / "tokenizer_config.json", tmp_path)
    (make_folder(tmp_path) / "tokenizer.json").write_text(content)
    tokenizer = HuggingFaceTokenizer(tmp_path)
    tokenizer.read_ahead()
    with pytest.raises(ModelError, match="must hold a Hugging Face tokenizer"):
        tokenizer.encode("Hi")


def test_byte_fallback_vocabularies_spell_bytes(tmp_path: Path) -> None:
    import openvino
    from openvino_tokenizers import convert_tokenizer
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    names = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "ab"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={name: index for index, name in enumerate(names)},
            merges=[("▁", "a"), ("a", "b")],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>")  # type: ignore[no-untyped-call]
    make_folder(tmp_path)
    fast.save_pretrained(tmp_path)
    for model, name in zip(convert_tokenizer(fast, with_detokenizer=True), ("tokenizer", "detokenizer"), strict=True):
        openvino.save_model(model, tmp_path / f"openvino_{name}.xml")
    both: list[FolderTokenizer] = [HuggingFaceTokenizer(tmp_path), OpenVINOTokenizer(tmp_path)]
    for tokens in (both[0].encode("b aé"), both[1].encode("b aé")):
        assert [both[0].token_bytes(token) for token in tokens] == [b"b", b" a", b"\xc3", b"\xa9"]
        assert both[0].decode(tokens) == both[1].decode(tokens) == "b aé"
    assert both[0].spellings == both[1].spellings


def test_importing_models_loads_nothing_heavy() -> None:
    heavy = "openvino transformers gguf openvino_genai openvino_tokenizers huggingface_hub tokenizers jinja2"
    code = (
        "import json, sys, ovdecode.models; "
        f"print(json.dumps([name for name in {heavy.split()} if name in sys.modules]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env=script_environment(), capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout) == []
