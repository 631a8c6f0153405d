from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import entropy

from ovdecode import CorpusPerplexity, Entropy, Forward, LogProbability, Model, Perplexity, TableRunner, Task, run
from ovdecode.errors import ConfigurationError
from ovdecode.metric import Result
from ovdecode.strategies.metrics import likelihood

COIN = Model(TableRunner({(): np.log([0.75, 0.25])}))
PROMPTS = ["The capital of France is", "Once upon a time", "one two three one two"]


def result(*logprobs: float) -> Result:
    return Result("", tokens=(0,) * len(logprobs), logprobs=logprobs)


def real_results(model: Model, count: int = 40) -> list[Result]:
    tasks = [Task(model, prompt, "sampling:top_p=0.9", max_new_tokens=count, ignore_eos=True) for prompt in PROMPTS]
    return [Result.of(generation) for generation in sorted(run(tasks), key=lambda each: each.index)]


def rows(model: Model, of: Result) -> np.ndarray:
    """Logits before each token of a text, all at once; shape (tokens, vocab)."""
    sequence = model.vocabulary.prompt(of.prompt_tokens + of.tokens)
    (answer,) = model.runner.forward([Forward(sequence, last=len(of.tokens) + 1)])
    return answer.logits[:-1].astype(np.float64)


def test_noted_log_probabilities() -> None:
    text = result(math.log(1 / 2), math.log(1 / 8))
    assert LogProbability()(text) == pytest.approx(math.log(1 / 16))
    assert LogProbability(mean=True)(text) == pytest.approx(math.log(1 / 4))
    assert Perplexity()(text) == pytest.approx(4.0)


def test_what_is_not_known_or_not_there_is_no_number() -> None:
    for metric in (LogProbability(), LogProbability(mean=True), Perplexity()):
        assert math.isnan(metric(result()))
        assert math.isnan(metric(result(-1.0, math.nan)))
    assert math.isnan(CorpusPerplexity()([result(), result()]))
    assert math.isnan(CorpusPerplexity()([result(-1.0), result(math.nan)]))
    assert math.isnan(Entropy(COIN)(Result("", prompt="a")))


def test_the_impossible_is_infinitely_surprising() -> None:
    assert Perplexity()(result(-math.inf)) == Perplexity()(result(-1e4)) == math.inf


def test_over_a_corpus_each_token_counts_the_same() -> None:
    texts = [result(math.log(1 / 8)), result(math.log(1 / 2), math.log(1 / 4)), result()]
    assert CorpusPerplexity()(texts) == pytest.approx(4.0)  # (3 + 1 + 2) / 3 bits, unlike the mean of 8 and √8


def test_at_a_temperature_it_is_the_flatter_or_sharper_distribution_s() -> None:
    text = Result("", tokens=(0, 1), prompt_tokens=(0,), model=COIN)
    squares = 9 / 16 + 1 / 16  # at a temperature of 1/2, p is as p squared: 0.9 and 0.1
    expected = math.exp(-(math.log(9 / 16 / squares) + math.log(1 / 16 / squares)) / 2)
    assert CorpusPerplexity(temperature=0.5)([text]) == pytest.approx(expected)
    assert CorpusPerplexity(temperature=1.0)([replace(text, logprobs=(0.0, 0.0))]) == 1.0  # those that were noted
    with pytest.raises(ConfigurationError, match="`temperature` of `corpus_perplexity` must be a finite number above"):
        CorpusPerplexity(temperature=0.0)


def test_asked_about_a_text_the_table_says_what_it_says() -> None:
    text = Result("aab", tokens=(0, 0, 1), prompt="b", prompt_tokens=(1,), model=COIN)
    assert LogProbability(COIN)(text) == pytest.approx(math.log(0.75 * 0.75 * 0.25))
    assert CorpusPerplexity(COIN)([text, text]) == pytest.approx((0.75 * 0.75 * 0.25) ** (-1 / 3))
    assert Entropy()(text) == pytest.approx(entropy([0.75, 0.25]))


def test_what_has_no_probability_adds_nothing_to_the_entropy() -> None:
    sure = Model(TableRunner({(): [0.0, -np.inf, 0.0]}))
    assert Entropy(sure)(Result("a", (0,), prompt_tokens=(0,), model=sure)) == pytest.approx(math.log(2))


@pytest.mark.parametrize("length", [1, 31, 32, 33, 64, 70])
def test_pieces_do_not_show(length: int) -> None:
    alternating = Model(TableRunner({(0,): np.log([0.5, 0.5]), (1,): np.log([0.9, 0.1])}))
    tokens = tuple(place * place % 3 % 2 for place in range(length))
    text = Result("", tokens, prompt_tokens=(1,), model=alternating)
    before = (1, *tokens[:-1])
    probabilities = [(0.5, 0.5) if last == 0 else (0.9, 0.1) for last in before]
    logprob = sum(math.log(each[token]) for each, token in zip(probabilities, tokens, strict=True))
    assert LogProbability(alternating)(text) == pytest.approx(logprob, rel=1e-5)
    assert Entropy()(text) == pytest.approx(np.mean([entropy(each) for each in probabilities]), rel=1e-5)


def test_a_piece_holds_few_rows_of_logits() -> None:
    assert max(map(len, likelihood.pieces(range(100)))) == likelihood.ROWS
    assert [each for piece in likelihood.pieces("abcde" * 9) for each in piece] == list("abcde" * 9)


def test_asked_again_the_model_says_the_same_bits(model: Model) -> None:
    results = real_results(model)
    assert all(len(each.tokens) == 40 for each in results)
    assert LogProbability(model).measure(results) == LogProbability().measure(results)
    assert Perplexity(model).measure(results) == Perplexity().measure(results)
    assert Perplexity()(results[0]) == pytest.approx(math.exp(-np.mean(results[0].logprobs)))


def test_under_another_precision_it_is_that_one_s_probability(model: Model, fast_model: Model) -> None:
    results = real_results(fast_model)
    values = LogProbability(model).measure(results)
    for value, each in zip(values, results, strict=True):
        logprobs = log_softmax(rows(model, each), axis=1)[np.arange(len(each.tokens)), each.tokens]
        assert value == pytest.approx(logprobs.sum(), rel=1e-5)
    noted = LogProbability().measure(results)
    assert values != noted
    assert values == pytest.approx(noted, rel=0.05)


def test_the_entropy_is_numpy_s(model: Model) -> None:
    results = real_results(model)
    expected = [entropy(np.exp(log_softmax(rows(model, each), axis=1)), axis=1).mean() for each in results]
    assert Entropy().measure(results) == pytest.approx(expected, rel=1e-5)


def test_a_text_of_people_that_is_not_decoded(model: Model) -> None:
    likely = Result(" Paris.", prompt="The capital of France is", model=None)
    unlikely = replace(likely, text=" Porridge.")
    first, second = LogProbability(model).measure([likely, unlikely])
    assert isinstance(first, float)
    assert isinstance(second, float)
    assert first > second + 5


def test_without_a_model_at_hand_the_entropy_says_so() -> None:
    with pytest.raises(ConfigurationError, match="`model` of a Result must be the model that decoded"):
        Entropy()(Result("a", (0,), prompt_tokens=(0,)))
