from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from ovdecode import (
    Bleu,
    Chrf,
    Greedy,
    Mbr,
    Model,
    Random,
    Sampling,
    Sequence,
    Strategy,
    TableRunner,
    TokenF1,
    parse,
)
from ovdecode.errors import ConfigurationError
from ovdecode.stopping import Stop
from ovdecode.strategies.pruning import prune
from ovdecode.strategy import Decoding
from ovdecode.testing import distribution
from ovdecode.utility import Utility

LETTERS = Model(TableRunner({(): np.log([0.4, 0.3, 0.2, 0.1])}))


@dataclass(frozen=True)
class Given(Strategy):
    """Decoding i is text i of a list."""

    texts: tuple[str, ...] = ()

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        yield from ()
        return prompt + [ord(letter) - ord("a") for letter in self.texts[rng.key[-1]]]


def mbr(*texts: str, **options: Any) -> tuple[list[tuple[str, float]], dict[str, float]]:
    options.setdefault("utility", TokenF1())
    generation = LETTERS.generate([0], Mbr(len(texts), Given(texts), **options), max_new_tokens=9)
    return [(each.text, each.score) for each in generation.alternatives], dict(generation.info)


def test_expected_utilities_by_hand() -> None:
    # F1: ab and ac ½, ac and cd ½, ab and cd 0, each with itself 1.
    ranked, info = mbr("ab", "ac", "cd")
    assert ranked == [("ac", pytest.approx(2 / 3)), ("ab", pytest.approx(1 / 2)), ("cd", pytest.approx(1 / 2))]
    assert info == {"candidates": 3, "references": 3, "comparisons": 9}


def test_equals_are_ranked_by_the_model() -> None:
    assert [text for text, _ in mbr("d", "b")[0]] == [text for text, _ in mbr("b", "d")[0]] == ["b", "d"]


def test_a_text_decoded_twice_counts_twice_and_is_compared_once() -> None:
    ranked, info = mbr("d", "b", "d")
    assert ranked == [("d", pytest.approx(2 / 3)), ("d", pytest.approx(2 / 3)), ("b", pytest.approx(1 / 3))]
    assert info == {"candidates": 2, "references": 2, "comparisons": 4}


def test_weights_by_the_model_count_each_text_once_by_its_probability() -> None:
    # p(b) = 0.3 and p(d) = 0.1, however often d was drawn.
    ranked, _ = mbr("d", "b", "d", weighting="model")
    assert ranked == [("b", pytest.approx(0.75)), ("d", pytest.approx(0.25)), ("d", pytest.approx(0.25))]


def test_references_of_their_own() -> None:
    ranked, info = mbr("b", "d", references=Given(("d", "d", "bd")), num_references=3)
    # d is itself twice, and 2/3 of bd; b is 2/3 of bd only.
    assert ranked == [("d", pytest.approx(8 / 9)), ("b", pytest.approx(2 / 9))]
    assert info == {"candidates": 2, "references": 2, "comparisons": 4}


def test_more_references_by_the_same_strategy_are_other_decodings() -> None:
    one, two = (
        LETTERS.generate([0], Mbr(3, utility=TokenF1(), num_references=count), max_new_tokens=4) for count in (3, 40)
    )
    assert {each.tokens for each in one.alternatives} == {each.tokens for each in two.alternatives}
    assert one.info["comparisons"] > 9 - 3  # hardly a reference is a candidate
    assert two.info["references"] > 20
    assert two.cost.forwards == 4


def test_the_law_is_that_of_the_majority_where_texts_agree_or_not() -> None:
    coin = Model(TableRunner({(): np.log([0.75, 0.25])}))
    exact = distribution(Mbr(3, utility=TokenF1()), coin, [0], max_new_tokens=1)
    assert exact == pytest.approx({(0,): 0.75**3 + 3 * 0.75**2 * 0.25, (1,): 0.25**3 + 3 * 0.25**2 * 0.75})


TEXTS = ("abcd", "abcc", "abdd", "ccdd", "abcdab")
# From fastchrf 0.2.1, the implementation of Vamvas and Sennrich: aggregate_chrf([TEXTS], [TEXTS]).
AGGREGATED = dict(zip(TEXTS, (58.117645, 46.016966, 38.693394, 32.556132, 64.059664), strict=True))


@pytest.mark.parametrize(
    ("utility", "theirs"), [(Chrf(), CHRF()), (Bleu(tokenize="char"), BLEU(effective_order=True, tokenize="char"))]
)
def test_sums_of_sacrebleu(utility: Utility, theirs: CHRF | BLEU) -> None:
    expected = {one: np.mean([theirs.sentence_score(one, [other]).score for other in TEXTS]) for one in TEXTS}
    ranked, _ = mbr(*TEXTS, utility=utility)
    assert dict(ranked) == pytest.approx(expected)
    assert ranked[0][0] == max(expected, key=lambda text: expected[text])


def test_an_aggregate_costs_one_comparison_for_each_candidate() -> None:
    ranked, info = mbr(*TEXTS, utility=Chrf(), aggregate=True)
    assert info["comparisons"] == 5
    assert dict(ranked) == pytest.approx(AGGREGATED, abs=1e-4)


def test_weights_of_the_model_aggregate_too() -> None:
    # Letters: b by 3/4 and d by 1/4, so b has 3/4 in common with the aggregate, of its 1 and of their 1.
    ranked, _ = mbr("b", "d", utility=Chrf(char_order=1), aggregate=True, weighting="model")
    assert ranked == [("b", pytest.approx(75.0)), ("d", pytest.approx(25.0))]


def test_pruning_compares_less_and_finds_the_same() -> None:
    methods = [Mbr(64, Sampling(), TokenF1(), pruning=pruning) for pruning in (None, 0.99, 0.9)]
    full, careful, bold = (LETTERS.generate([0], method, max_new_tokens=5) for method in methods)
    assert full.info["candidates"] == careful.info["candidates"] == bold.info["candidates"] > 50
    assert full.info["comparisons"] > careful.info["comparisons"] > bold.info["comparisons"]
    assert (careful.tokens, careful.score) == (full.tokens, full.score)
    assert len(careful.alternatives) == 64


def test_pruned_candidates_rank_below_those_that_stayed_longer() -> None:
    # Of the first 8 references, a is right 6 times, c twice, b never; of all others, none is.
    prompt = LETTERS.vocabulary.prompt([0])
    a, b, c = (prompt + token for token in (0, 1, 2))
    references = [prompt + right for right in (0, 0, 2, 0, 0, 2, 0, 0)] + [prompt + 3] * 60
    scores, seen = prune(lambda one, other: float(one is other), [a, b, c], references, 0.99, Random(1))
    # All of 8 draws miss the 6 with a probability of 0.00002, so b is dropped; c catches up in one of ten samples.
    assert seen == {a: 68, b: 8, c: 68}
    assert scores == pytest.approx({a: 6 / 68, b: 0.0, c: 2 / 68})


def test_pruning_ends_with_the_last_candidate_and_one_alone_is_compared_all_the_same() -> None:
    ranked, info = mbr(*("ab",) * 30, "dd", pruning=0.99)
    assert info["comparisons"] == 2  # with ab, in the first 8 references; dd is not seen
    assert ranked[-1] == ("dd", 0.0)
    assert mbr("ab", pruning=0.99)[0] == [("ab", 1.0)]


def test_a_dropped_candidate_ranks_below_even_with_a_better_score() -> None:
    # Seven of the first 8 references are ac (or ca, as good), one is b; only ac and ca are held against the 60 others.
    references = Given((*["ac"] * 7, "b", *["dd"] * 60))
    ranked, _ = mbr("b", "ac", "ca", references=references, num_references=68, pruning=0.5)
    assert ranked == [("ac", pytest.approx(7 / 68)), ("ca", pytest.approx(7 / 68)), ("b", pytest.approx(1 / 8))]


def test_pruning_is_repeatable_and_costs_no_model() -> None:
    method = Mbr(16, Sampling(), TokenF1(), pruning=0.9)
    first, again = (LETTERS.generate([0], method, max_new_tokens=4) for _ in range(2))
    assert first.alternatives == again.alternatives
    assert first.info == again.info
    assert first.cost.forwards == 4


@dataclass(frozen=True)
class Shorter(Utility):
    """The least utility there can be: a function of two texts."""

    name = "shorter"

    def compare(self, candidate: str, reference: str) -> float:
        return float(len(candidate) < len(reference))


def test_a_utility_is_a_function_of_two_texts() -> None:
    ranked, _ = mbr("abc", "a", "ab", utility=Shorter())
    assert [text for text, _ in ranked] == ["a", "ab", "abc"]
    with pytest.raises(ConfigurationError, match="`aggregate` of `mbr` must be false with `shorter`, which has none"):
        Mbr(utility=Shorter(), aggregate=True)
    with pytest.raises(ConfigurationError, match="`aggregate` must be false with `shorter`"):
        Shorter().aggregate([], np.array([]))


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"n": 0}, "`n` of `mbr` must be a whole number of at least 1"),
        ({"num_references": 0}, "`num_references` of `mbr`"),
        ({"weighting": "best"}, "`weighting` must be one of uniform, model"),
        ({"pruning": 1.0}, "`pruning` of `mbr` must be between 0 and 1"),
        ({"pruning": 0.9, "aggregate": True}, "`pruning` of `mbr` must be none with weights or aggregates"),
        ({"pruning": 0.9, "weighting": "model"}, "`pruning` of `mbr` must be none with weights or aggregates"),
        ({"utility": "chrf"}, "`utility` of `mbr` must be a utility"),
    ],
)
def test_a_parameter_out_of_range_is_named(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Mbr(**parameters)


def test_spec_round_trip() -> None:
    text = "mbr:n=4,strategy=(sampling:top_k=5),utility=(chrf:char_order=3),references=(beam),pruning=0.9"
    assert str(parse(text)) == text
    assert parse("mbr:utility=bleu") == Mbr(utility=Bleu())
    assert parse("mbr:references=greedy") == Mbr(references=Greedy())


def test_on_a_real_model(model: Model) -> None:
    method = Mbr(4, Sampling(temperature=0.8, top_k=20))
    generation = model.generate("The capital of France is", method, max_new_tokens=8, seed=1)
    texts = [each.text for each in generation.alternatives]
    expected = [np.mean([CHRF().sentence_score(one, [other]).score for other in texts]) for one in texts]
    assert [each.score for each in generation.alternatives] == pytest.approx(expected)
    assert expected == sorted(expected, reverse=True)
    assert len(set(texts)) > 1
