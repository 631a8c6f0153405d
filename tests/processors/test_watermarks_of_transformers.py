"""The watermarks of transformers against what transformers itself did: see tests/data/presets/record_watermarks.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest

from ovdecode import Candidates, KgwWatermarkHF, Model, Sampling, SynthIdWatermarkHF, TableRunner, Vocabulary
from ovdecode.errors import ConfigurationError

DATA = json.loads((Path(__file__).parents[1] / "data" / "presets" / "watermarks.json").read_text())
LOGITS = np.array(DATA["logits"], np.float32)


def prefixes() -> list[Any]:
    """The recorded text after each of its tokens."""
    whole = Vocabulary(len(LOGITS)).prompt(DATA["prompt"]) + DATA["text"]
    return [whole.prompt, *whole.path(whole.prompt_length)]


@pytest.mark.parametrize("case", DATA["green"], ids=lambda case: str(case["config"]))
def test_the_green_tokens_are_those_of_transformers(case: dict[str, Any]) -> None:
    mark = KgwWatermarkHF(**case["config"])
    found = [mark(Candidates(LOGITS), sequence).logits - LOGITS for sequence in prefixes()]
    assert [np.flatnonzero(raised).tolist() for raised in found] == case["green"]
    assert np.concatenate(found)[np.concatenate(found) > 0] == pytest.approx(mark.bias, abs=1e-6)


@pytest.mark.parametrize("case", DATA["green"], ids=lambda case: str(case["config"]))
def test_the_detector_counts_what_that_of_transformers_counts(case: dict[str, Any]) -> None:
    mark = KgwWatermarkHF(**case["config"])
    found = mark.detect(Vocabulary(len(LOGITS)).root + DATA["text"])
    green, scored = case["detected"]
    if mark.seeding_scheme == "lefthash" and mark.context_width == 1:
        assert (round(found.score * found.scored), found.scored) == (green, scored)
    else:  # transformers scores what repeats a list and a token in another context again, and begins a token earlier
        assert found.scored <= scored
    assert 0 < found.p_value <= 1


@pytest.mark.parametrize("case", DATA["tournament"], ids=lambda case: str(case["config"]))
def test_the_tournament_is_that_of_transformers(case: dict[str, Any]) -> None:
    mark = SynthIdWatermarkHF(**case["config"])
    for sequence, expected in zip(prefixes(), case["distributions"], strict=True):
        found = mark(Candidates(LOGITS), sequence).distribution(len(LOGITS))
        assert found == pytest.approx(expected, abs=5e-7)


def test_p_values_are_uniform_without_the_mark() -> None:
    random = np.random.default_rng(0)

    def p_value(mark: Any, vocab: int, length: int) -> float:
        return float(mark.detect(Vocabulary(vocab).root + random.integers(0, vocab, length).tolist()).p_value)

    # The table of `selfhash` takes long to make for a key, so it is the text alone that varies there.
    selfhash = KgwWatermarkHF(seeding_scheme="selfhash", context_width=3)
    found = [
        [p_value(KgwWatermarkHF(hashing_key=key), 40, 600) for key in range(1, 101)],
        [p_value(selfhash, 300, 100) for _ in range(60)],
        [p_value(SynthIdWatermarkHF([key, key + 1000], ngram_len=2), 100, 80) for key in range(100)],
    ]
    for p_values in found:
        assert kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("mark", "another"),
    [
        (KgwWatermarkHF(bias=4.0), KgwWatermarkHF(1, bias=4.0)),
        (SynthIdWatermarkHF(range(100, 109), ngram_len=3), SynthIdWatermarkHF(range(9), ngram_len=3)),
    ],
    ids=str,
)
def test_a_mark_is_found_with_its_key_only(mark: Any, another: Any) -> None:
    model = Model(TableRunner({(): np.zeros(50)}))
    tokens = model.generate([3, 1], Sampling(processors=mark), max_new_tokens=80, seed=1).tokens
    for text in (model.vocabulary.prompt([3, 1]) + tokens, model.vocabulary.root + tokens):
        assert mark.detect(text).p_value < 1e-3
        assert another.detect(text).p_value > 1e-3


def test_a_context_marks_once_and_siblings_do_not_share_theirs() -> None:
    prompt = Vocabulary(50).prompt([4])
    mark, row = SynthIdWatermarkHF([3], ngram_len=2), Candidates(LOGITS[:50])
    once, again = prompt + [7, 8], prompt + [7, 8, 7]
    for _ in range(2):
        assert mark(row, again) is row
        assert mark(row, prompt + [7, 9, 8]).logits != pytest.approx(row.logits)
        assert mark(row, once).logits == pytest.approx(mark(row, prompt + [9, 8]).logits)
    assert mark.detect(again + 8).scored == 3


@pytest.mark.parametrize(
    ("make", "parameter"),
    [
        (lambda: SynthIdWatermarkHF([]), "keys"),
        (lambda: SynthIdWatermarkHF([2**63]), "keys"),
        (lambda: SynthIdWatermarkHF([1], ngram_len=1), "ngram_len"),
        (lambda: SynthIdWatermarkHF([1], context_history_size=0), "context_history_size"),
        (lambda: SynthIdWatermarkHF([1], sampling_table_seed=-1), "sampling_table_seed"),
        (lambda: SynthIdWatermarkHF([1], sampling_table_size=0), "sampling_table_size"),
        (lambda: KgwWatermarkHF(greenlist_ratio=1.0), "greenlist_ratio"),
    ],
)
def test_a_parameter_out_of_range_is_named(make: Any, parameter: str) -> None:
    with pytest.raises(ConfigurationError, match=f"`{parameter}` of `.*_watermark_hf`"):
        make()
