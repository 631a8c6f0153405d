from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from ovdecode import (
    BeamSearch,
    BestOfN,
    Greedy,
    LogitBias,
    Model,
    Random,
    Sampling,
    Sequence,
    Strategy,
    SuppressedTokens,
    TableRunner,
    Task,
    TokenHealing,
    parse,
    run,
)
from ovdecode.errors import ConfigurationError, StrategyError
from ovdecode.strategy import Decoding
from ovdecode.testing.enumeration import distribution

COIN = Model(TableRunner({(): np.log([0.75, 0.25])}))


def test_the_most_probable_comes_first_and_all_are_kept() -> None:
    generation = COIN.generate([0], BestOfN(n=16), max_new_tokens=3)
    logprobs = [each.logprob for each in generation.alternatives]
    assert len(logprobs) == 16
    assert logprobs == sorted(logprobs, reverse=True)
    assert generation.tokens == generation.alternatives[0].tokens
    assert generation.score == pytest.approx(generation.logprob)


def test_the_law_is_that_of_the_maximum() -> None:
    # The better token comes out unless both samples are the worse one.
    assert distribution(BestOfN(n=2), COIN, [0], max_new_tokens=1) == pytest.approx({(0,): 15 / 16, (1,): 1 / 16})


def test_ranked_before_any_processor() -> None:
    biased = BestOfN(n=20, strategy=Sampling(processors=LogitBias({1: 1.5})))
    alternatives = COIN.generate([0], biased, max_new_tokens=1).alternatives
    assert [each.tokens for each in alternatives].count((1,)) > 6
    assert alternatives[0].tokens == (0,)
    assert alternatives[0].score == pytest.approx(np.log(0.75))


def test_the_mean_does_not_favour_short_texts() -> None:
    # Token 2 ends it at once with 0.4 / 0.7; token 0 has 0.3 / 0.7 and goes on with 0.9 each time.
    model = Model(TableRunner({(1,): np.log([0.3, 1e-9, 0.4]), (0,): np.log([0.9, 0.05, 0.05])}), eos_token_ids=[2])
    by_sum = model.generate([1], BestOfN(n=20), max_new_tokens=4)
    by_mean = model.generate([1], BestOfN(n=20, score="mean_logprob"), max_new_tokens=4)
    assert by_sum.tokens == (2,)
    assert by_mean.tokens == (0, 0, 0, 0)
    assert by_mean.score == pytest.approx(by_mean.logprob / 4)


def test_a_reward_ranks_whatever_the_model_thinks() -> None:
    ones = BestOfN(n=16, score=lambda sequence: int((sequence.generated == 1).sum()))
    generation = COIN.generate([0], ones, max_new_tokens=3)
    scores = [each.score for each in generation.alternatives]
    assert scores == [each.tokens.count(1) for each in generation.alternatives] == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]
    assert generation.logprob < generation.alternatives[-1].logprob


@pytest.mark.parametrize("reward", [None, float("nan"), "good"])
def test_a_reward_that_is_no_number_is_named(reward: Any) -> None:
    with pytest.raises(StrategyError, match="`score` of `best_of_n` must return a number, got"):
        COIN.generate([0], BestOfN(n=2, score=lambda sequence: reward), max_new_tokens=1)


@pytest.mark.parametrize("score", ["logprob", "mean_logprob"])
def test_ranked_by_another_model(score: Any) -> None:
    other = Model(TableRunner({(): [0.0, 1.0], (1,): np.log([0.9, 0.1])}))  # 1 after 0, 0 after 1
    generation = COIN.generate([0], BestOfN(n=64, score=score, model=other), max_new_tokens=3)
    assert generation.tokens == (1, 0, 1)
    after_zero = 1 - np.log(1 + np.e)
    total = after_zero + np.log(0.9) + after_zero
    assert generation.score == pytest.approx(total if score == "logprob" else total / 3)
    assert generation.logprob == pytest.approx(np.log(0.25 * 0.75 * 0.25))
    scores = [each.score for each in generation.alternatives]
    assert scores == sorted(scores, reverse=True)


def test_the_model_itself_named_as_another_agrees() -> None:
    plain, named = (COIN.generate([0], BestOfN(n=6, model=model), max_new_tokens=4) for model in (None, COIN))
    assert [each.tokens for each in named.alternatives] == [each.tokens for each in plain.alternatives]
    assert [each.score for each in named.alternatives] == pytest.approx([each.score for each in plain.alternatives])


def test_the_samples_are_different_and_repeatable() -> None:
    first, again = (COIN.generate([0], BestOfN(n=8), max_new_tokens=8) for _ in range(2))
    assert len({each.tokens for each in first.alternatives}) > 1
    assert [each.tokens for each in first.alternatives] == [each.tokens for each in again.alternatives]


def test_one_inference_a_round_for_all_samples() -> None:
    generation = COIN.generate([0], BestOfN(n=8), max_new_tokens=5)
    assert generation.cost.forwards == 5


def test_any_strategy_can_be_the_inner_one() -> None:
    assert COIN.generate([0], BestOfN(n=2, strategy=Greedy()), max_new_tokens=2).tokens == (0, 0)
    assert COIN.generate([0], BestOfN(n=2, strategy=BeamSearch()), max_new_tokens=2).tokens == (0, 0)
    nested = BestOfN(n=2, strategy=BestOfN(n=3))
    assert len(COIN.generate([0], nested, max_new_tokens=2).alternatives) == 2


def test_own_processors_come_before_those_of_the_inner_strategy() -> None:
    strategy = BestOfN(n=4, strategy=Sampling(top_k=1), processors=SuppressedTokens([0]))
    assert COIN.generate([0], strategy, max_new_tokens=2).tokens == (1, 1)


def test_samples_of_different_length() -> None:
    model = Model(TableRunner({(): np.log([0.5, 0.5])}), eos_token_ids=[1])
    generation = model.generate([0], BestOfN(n=16), max_new_tokens=6)
    assert generation.tokens == (1,)
    assert len({len(each.tokens) for each in generation.alternatives}) > 1
    assert all(each.stop_reason for each in generation.alternatives)


def test_alone_and_among_others() -> None:
    alone = COIN.generate([0], BestOfN(), max_new_tokens=6)
    tasks = [Task(COIN, [0], strategy, max_new_tokens=6) for strategy in ("sampling", "best_of_n", "beam")]
    together = {str(generation.task.strategy): generation for generation in run(tasks)}
    assert together["best_of_n"].alternatives == alone.alternatives


@pytest.mark.parametrize("spec", ["best_of_n", "best_of_n:n=2,strategy=(sampling:top_k=3),score=mean_logprob"])
def test_spec_round_trip(spec: str) -> None:
    assert str(parse(spec)) == spec


@pytest.mark.parametrize("parameters", [{"n": 0}, {"strategy": "sampling"}, {"score": "length"}, {"model": 3}])
def test_a_parameter_out_of_range_is_named(parameters: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(parameters))}`"):
        BestOfN(**parameters)  # type: ignore[arg-type]


def test_a_reward_and_another_model_exclude_each_other() -> None:
    with pytest.raises(ConfigurationError, match="`model` of `best_of_n` must be none where `score` is a function"):
        BestOfN(score=lambda sequence: 0.0, model=COIN)


@dataclass(frozen=True)
class Forced(Strategy):
    """Token 1 unasked in one of two decodings, token 0 in the other."""

    def decode(self, prompt: Sequence, stop: Any, rng: Random) -> Decoding:
        yield prompt
        return prompt + (1 if rng.key[-1] == 0 else 0) + 0


def test_tokens_that_were_forced_are_ranked_by_what_the_model_says_of_them() -> None:
    # Their probability was NaN when they were ranked, so the order was that of the decodings.
    generation = COIN.generate([0], BestOfN(n=2, strategy=Forced()), max_new_tokens=2)
    assert [each.tokens for each in generation.alternatives] == [(0, 0), (1, 0)]
    assert [each.score for each in generation.alternatives] == pytest.approx(
        [2 * np.log(0.75), np.log(0.75) + np.log(0.25)]
    )


@pytest.mark.parametrize("score", ["logprob", "mean_logprob"])
@pytest.mark.parametrize("other", [False, True], ids=["itself", "another"])
def test_the_tokens_of_a_reopened_prompt_count(score: Any, other: bool) -> None:
    """The length was counted from the end of the prompt, though tokens of it were chosen again: the mean was of too
    few tokens, and another model's log-probability left some out."""
    model = Model(TableRunner({(): np.log([0.1, 0.2, 0.3, 0.4])}))
    rater = model if other else None
    method = BestOfN(2, TokenHealing(num_tokens=3), score=score, model=rater)
    generation = model.generate([1, 0, 0, 0], method, max_new_tokens=4)
    assert (generation.tokens, generation.taken_back) == ((0, 0, 0, 3), 3)
    total = 3 * np.log(0.1) + np.log(0.4)
    assert generation.score == pytest.approx(total if score == "logprob" else total / 4)


def test_the_tokens_of_a_reopened_prompt_count_on_a_model(model: Model) -> None:
    method = BestOfN(2, TokenHealing(), score="mean_logprob")
    generation = model.generate("The capital of France is ", method, max_new_tokens=3)
    assert generation.taken_back == 1
    assert generation.score == pytest.approx(np.mean(generation.token_logprobs))
