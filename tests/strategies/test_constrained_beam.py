from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_tables import complete, noise, noise_model

from ovdecode import ConstrainedBeamSearch, MaxNewTokens, Model, SuppressedTokens, TableRunner, parse
from ovdecode.errors import ConfigurationError, LogitsError
from ovdecode.strategies.phrases import progress_with

A, B, C, EOS = range(4)
LIKES_A = Model(TableRunner({(): np.log([0.7, 0.1, 0.1, 0.1])}), [EOS])


def contains(tokens: tuple[int, ...], phrase: tuple[int, ...]) -> bool:
    return any(tokens[start : start + len(phrase)] == phrase for start in range(len(tokens)))


@pytest.mark.parametrize(
    ("phrases", "length", "best"),
    [
        ([[B]], 1, (B,)),
        ([[B, C]], 2, (B, C)),
        ([[B], [C]], 2, (B, C)),
        ([[B, C], [C, B]], 3, (B, C, B)),  # phrases may overlap
        ([[B, B, C]], 4, (A, B, B, C)),
        (["b", [C]], 2, (B, C)),  # text is encoded
    ],
)
def test_the_phrases_are_there(phrases: list, length: int, best: tuple[int, ...]) -> None:
    strategy = ConstrainedBeamSearch(4, phrases=phrases)
    generation = LIKES_A.generate([A], strategy, max_new_tokens=length)
    assert generation.tokens == best
    assert generation.info["phrases_met"] == len(phrases)


def test_a_false_start_is_taken_back() -> None:
    """After B B, the second B may still begin the phrase B C."""
    rows = {(A,): np.log([0.01, 0.97, 0.01, 0.01]), (A, B): np.log([0.01, 0.97, 0.01, 0.01]), (): [0.0] * 4}
    strategy = ConstrainedBeamSearch(4, phrases=[[B, C]])
    assert Model(TableRunner(rows), [EOS]).generate([A], strategy, max_new_tokens=3).tokens == (B, B, C)


def test_the_end_of_text_waits_for_the_phrases() -> None:
    model = Model(TableRunner({(): np.log([0.04, 0.03, 0.03, 0.9])}), [EOS])
    generation = model.generate([A], ConstrainedBeamSearch(2, phrases=[[B], [C]]), max_new_tokens=6)
    assert sorted(generation.tokens[:2]) == [B, C]
    assert generation.tokens[2:] == (EOS,)


phrase = st.lists(st.integers(0, 3), min_size=1, max_size=2).map(tuple)


@given(seed=st.integers(0, 9), phrases=st.lists(phrase, min_size=1, max_size=2), beams=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_every_result_contains_every_phrase_if_there_is_room(seed: int, phrases: list, beams: int) -> None:
    strategy = ConstrainedBeamSearch(beams, num_return_sequences=beams, phrases=phrases)
    room = sum(map(len, set(phrases)))
    for length in (room, room + 2):
        generation = noise_model(seed, 5).generate([0], strategy, max_new_tokens=length)
        for each in generation.alternatives:
            assert all(contains(each.tokens, phrase) for phrase in phrases)


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_finds_the_best_of_those_that_contain_them(seed: int) -> None:
    found = [
        (logprob, tokens)
        for tokens, logprob in complete(noise(seed, 4), 4, 4, eos=3)
        if contains(tokens, (1, 2)) and contains(tokens, (0,))
    ]
    strategy = ConstrainedBeamSearch(400, 0.0, "never", phrases=[[1, 2], [0]])
    generation = noise_model(seed, 4).generate([0], strategy, max_new_tokens=4)
    assert (generation.tokens, generation.score) == (max(found)[1], pytest.approx(max(found)[0], abs=1e-4))


def test_phrases_in_the_prompt_do_not_count_and_siblings_do_not_share() -> None:
    strategy = ConstrainedBeamSearch(3, num_return_sequences=3, phrases=[[B, C]])
    for each in LIKES_A.generate([B, C, B], strategy, max_new_tokens=4).alternatives:
        assert contains(each.tokens, (B, C))


def test_siblings_do_not_see_each_others_progress() -> None:
    progress = progress_with(((B, C), (A,)))
    begun = LIKES_A.vocabulary.prompt([A]) + B
    assert progress(begun) == ((False, False), (1, 0), 1)
    assert progress(begun + C) == ((True, False), (0, 0), 2)
    assert progress(begun + B) == ((False, False), (1, 0), 1)
    assert progress(begun + A + C) == ((False, True), (0, 0), 1)
    assert progress(begun + A).helpful(((B, C), (A,))) == {B}


def test_too_little_room_is_an_error() -> None:
    with pytest.raises(LogitsError, match="no sequence of at most 2 tokens that contains all of its 2 phrases"):
        LIKES_A.generate([A], ConstrainedBeamSearch(2, phrases=[[B, B], [C]]), max_new_tokens=2)


def test_what_is_excluded_by_processors_is_an_error() -> None:
    strategy = ConstrainedBeamSearch(2, phrases=[[B]], processors=SuppressedTokens([B]))
    with pytest.raises(LogitsError, match="processors that do not exclude them"):
        LIKES_A.generate([A], strategy, max_new_tokens=3)


def test_the_next_best_on_request() -> None:
    strategy = ConstrainedBeamSearch(2, phrases=[[B, B], [C]], strict=False)
    generation = LIKES_A.generate([A], strategy, max_new_tokens=2)
    assert generation.tokens == (B, B)
    assert generation.info["phrases_met"] == 1


def test_a_stop_inside_a_phrase_drops_the_sequence() -> None:
    strategy = ConstrainedBeamSearch(2, phrases=[[B, EOS, C]])
    with pytest.raises(LogitsError, match="which have 3 tokens"):
        LIKES_A.generate([A], strategy, max_new_tokens=6)
    assert LIKES_A.generate([A], strategy, max_new_tokens=3, ignore_eos=True, stop=MaxNewTokens(5)).tokens == (
        B,
        EOS,
        C,
    )


@pytest.mark.parametrize("phrases", [(), "", [[]], 5, [[1.5]], ["a", ""]])
def test_phrases_must_be_given(phrases: object) -> None:
    with pytest.raises(ConfigurationError, match="`phrases` of `constrained_beam` must be one or more texts or lists"):
        ConstrainedBeamSearch(phrases=phrases)


def test_spec_round_trip() -> None:
    strategy = ConstrainedBeamSearch(2, phrases=[" Paris", [12, 5], "7"])
    assert str(strategy) == 'constrained_beam:num_beams=2,phrases=[" Paris",[12,5],"7"]'
    assert parse(str(strategy)) == strategy
    assert parse("constrained_beam:phrases=abc") == ConstrainedBeamSearch(phrases="abc")


def test_on_a_real_model(model: Model) -> None:
    strategy = ConstrainedBeamSearch(4, phrases=[" river", " old"])
    generation = model.generate("The capital of France is", strategy, max_new_tokens=10)
    assert " river" in generation.text
    assert " old" in generation.text
