"""DRY: literal cases, breakers as ids and texts, and the definition written out as a reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovdecode import Candidates, Dry, Greedy, Model, TableRunner, Vocabulary
from ovdecode.errors import ConfigurationError
from ovdecode.spec import parse


def penalties(processor: Dry, tokens: list[int], prompt_length: int = 1, vocab: int = 6) -> dict[int, float]:
    """What is taken off the logits, of those that change."""
    sequence = Vocabulary(vocab).prompt(tokens[:prompt_length]) + tokens[prompt_length:]
    logits = processor(Candidates(np.zeros(vocab)), sequence).logits
    return {int(token): -float(logits[token]) for token in np.flatnonzero(logits)}


def test_the_penalty_grows_with_the_length_of_the_repetition() -> None:
    dry = Dry(multiplier=3.0, base=2.0)
    assert penalties(dry, [0, 1, 2, 3, 4, 0]) == {}  # a run of one is allowed
    assert penalties(dry, [0, 1, 2, 3, 4, 0, 1]) == {2: 3.0}
    assert penalties(dry, [0, 1, 2, 3, 4, 0, 1, 2]) == {3: 6.0}
    assert penalties(dry, [0, 1, 2, 3, 4, 0, 1, 2, 3]) == {4: 12.0}


def test_a_prompt_counts() -> None:
    assert penalties(Dry(1.0), [0, 1, 2, 3, 0, 1], prompt_length=6) == {2: 1.0}


def test_the_longest_run_before_a_token_counts() -> None:
    dry = Dry(1.0, base=2.0, allowed_length=1)
    assert penalties(dry, [1, 2, 3, 0, 1, 2, 5, 2, 3, 1, 2]) == {3: 2.0, 5: 2.0}
    assert penalties(dry, [2, 4, 0, 1, 2, 4, 1, 2]) == {4: 2.0}


def test_a_run_may_overlap_itself() -> None:
    assert penalties(Dry(1.0, base=2.0), [0, 1, 1, 1, 1]) == {1: 2.0}
    assert penalties(Dry(1.0, base=2.0), [0, 1, 0, 1, 0, 1]) == {0: 4.0}


def test_a_window_forgets() -> None:
    tokens = [0, 1, 2, 3, 0, 1]
    assert penalties(Dry(1.0, window=6), tokens) == {2: 1.0}
    assert penalties(Dry(1.0, window=5), tokens) == {}  # the run has become one token long
    assert penalties(Dry(1.0, allowed_length=1, window=5), tokens) == {2: 1.0}
    assert penalties(Dry(1.0, window=1), tokens) == {}


def test_a_breaker_cuts_the_run_and_goes_unpunished() -> None:
    tokens = [0, 1, 2, 3, 4, 0, 1, 2]
    assert penalties(Dry(1.0, base=2.0), tokens) == {3: 2.0}
    assert penalties(Dry(1.0, base=2.0, sequence_breakers=[0]), tokens) == {3: 1.0}
    assert penalties(Dry(1.0, base=2.0, sequence_breakers=[1]), tokens) == {}
    assert penalties(Dry(1.0, base=2.0, sequence_breakers=[3]), tokens) == {}


def test_a_breaker_given_as_a_text_breaks_within_a_token_and_across_several() -> None:
    tokens = [0, 1, 2, 3, 4, 0, 1, 2]  # "abcdeabc"
    assert penalties(Dry(1.0, base=2.0, sequence_breakers=["a"]), tokens) == {3: 1.0}
    assert penalties(Dry(1.0, base=2.0, sequence_breakers=["ea"]), tokens) == {3: 1.0}
    assert penalties(Dry(1.0, base=2.0, sequence_breakers=["ab"]), tokens) == {}
    assert penalties(Dry(1.0, base=2.0, sequence_breakers=["ca"]), tokens) == {3: 2.0}
    assert penalties(Dry(1.0, base=2.0, sequence_breakers=["d"]), tokens) == {}
    tokens = [26, 27, 28, 0, 26, 27]  # "a1b1c1aa1b1"
    assert penalties(Dry(1.0), tokens, vocab=30) == {28: 1.0}
    assert penalties(Dry(1.0, sequence_breakers=["1"]), tokens, vocab=30) == {}


def test_siblings_do_not_share_runs_or_breakers() -> None:
    dry = Dry(1.0, sequence_breakers=["ad"])
    trunk = Vocabulary(6).prompt([0, 1, 2, 3, 3, 0])
    row = Candidates(np.zeros(6))
    left, right = trunk + 1, trunk + [3, 0, 1]
    for _ in range(2):
        assert dry(row, left).logits.tolist() == [0, 0, -1, 0, 0, 0]
        assert dry(row, right).logits.tolist() == [0, 0, -1, 0, 0, 0]
        assert dry(row, trunk + [3, 0]).logits.tolist() == [0] * 6  # "ad" was broken between
        assert dry(row, trunk).logits.tolist() == [0] * 6


def test_huge_penalties_stay_numbers() -> None:
    tokens = [0] * 200
    for dry in (Dry(base=1e9), Dry(multiplier=1e300), Dry()):
        row = dry(Candidates(np.zeros(6, np.float32)), Vocabulary(6).prompt(tokens)).logits
        assert np.isfinite(row).all()
        assert row[0] < -1e11
    assert penalties(Dry(2.0, base=1), tokens) == {0: pytest.approx(2.0)}


def test_narrowed_candidates() -> None:
    narrow = Candidates(np.zeros(2), np.array([2, 4]))
    sequence = Vocabulary(6).prompt([0, 1, 2, 0, 1, 3, 0, 1])  # 3 would be penalised too
    assert Dry(1.0)(narrow, sequence).logits.tolist() == [-1, 0]


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=24),
    st.integers(1, 4),
    st.sets(st.integers(0, 3), max_size=1),
    st.none() | st.integers(1, 12),
)
def test_equals_its_definition(tokens: list[int], allowed: int, breakers: set[int], window: int | None) -> None:
    seen = tokens if window is None else tokens[-window:]
    expected: dict[int, float] = {}
    for start in range(len(seen)):
        for length in range(allowed, len(seen) - start):
            run, after = seen[start : start + length], seen[start + length]
            if run == seen[-length:] and not breakers & {*run, after}:
                expected[after] = max(expected.get(after, 0.0), 0.5 * 1.5 ** (length - allowed))
    assert penalties(Dry(0.5, 1.5, allowed, breakers, window), tokens, vocab=4) == pytest.approx(expected)


def test_it_ends_a_loop() -> None:
    circle = Model(TableRunner([[0, 3, 1], [1, 0, 3], [3, 1, 0]]))
    assert circle.generate([0], max_new_tokens=9).tokens == (1, 2, 0, 1, 2, 0, 1, 2, 0)
    generated = circle.generate([0], Greedy(processors=Dry(4.0)), max_new_tokens=9).tokens
    assert generated[:4] == (1, 2, 0, 1)
    assert generated[4] == 0  # "0 1" has come again, so 2 is down from 3 to -1


def test_a_loop_on_the_real_model(model: Model) -> None:
    prompt = "one two three one two three one two three one two"
    assert model.generate(prompt, max_new_tokens=4).text.startswith(" three one two")
    dry = Dry(multiplier=5.0, sequence_breakers=["\n"])
    assert "three" not in model.generate(prompt, Greedy(processors=dry), max_new_tokens=1).text
    spaced = Dry(multiplier=5.0, sequence_breakers=[" "])  # every word begins with one
    assert model.generate(prompt, Greedy(processors=spaced), max_new_tokens=4).text.startswith(" three one two")


def test_spec_strings_come_back() -> None:
    for dry in (Dry(), Dry(sequence_breakers=[]), Dry(1.0, 2, 3, ["\n", '"', "5", 5, "a b"], 64)):
        assert parse(str(dry), "processor") == dry


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("multiplier", 0),
        ("multiplier", math.inf),
        ("base", 0.9),
        ("allowed_length", 0),
        ("window", 0),
        ("sequence_breakers", "\n"),
        ("sequence_breakers", [""]),
        ("sequence_breakers", [-1]),
        ("sequence_breakers", [1.5]),
        ("sequence_breakers", 3),
    ],
)
def test_errors_name_the_parameter(parameter: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"`{parameter}` of `dry` must be"):
        Dry(**{parameter: value})
