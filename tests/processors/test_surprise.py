"""Mirostat and adaptive-p: against loops that carry their state along, alone, in beams and in speculation."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from ovdecode import (
    AdaptiveP,
    BeamSearch,
    Candidates,
    DraftModel,
    Greedy,
    LogitsProcessor,
    Mirostat,
    Mirostat1,
    Model,
    PromptLookup,
    Sampling,
    Sequence,
    Speculative,
    TableRunner,
    Temperature,
    Vocabulary,
    run,
)
from ovdecode.engine import Task
from ovdecode.errors import ConfigurationError, LogitsError
from ovdecode.proposer import Proposer
from ovdecode.testing import distribution

PROMPT, LENGTH, VOCAB = (0, 1, 0), 3, 3
SHARES = np.array([0.5, 0.25, 0.125, 0.125])  # 1, 2, 3, 3 bits


def noise(seed: int) -> tuple[Callable[[tuple[int, ...]], NDArray[np.float64]], Model]:
    rows = cache(lambda tokens: np.random.default_rng([seed, *tokens]).standard_normal(VOCAB) * 1.5)
    return rows, Model(TableRunner(rows))


ROWS, MODEL = noise(1)
_, OTHER = noise(2)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


# ---- The methods as their sources write them: a state that each chosen token changes -----------------------


class Version2:
    def __init__(self, tau: float, eta: float) -> None:
        self.tau, self.eta, self.mu = tau, eta, 2 * tau

    def logits(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        shares = softmax(row)
        order = np.argsort(-shares)
        keep = [token for rank, token in enumerate(order) if rank == 0 or -math.log2(shares[token]) <= self.mu]
        return np.where(np.isin(np.arange(VOCAB), keep), row, -np.inf)

    def accept(self, row: NDArray[np.float64], token: int) -> None:
        self.mu -= self.eta * (-math.log2(softmax(row)[token]) - self.tau)


class Version1(Version2):
    def logits(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        shares = np.sort(softmax(row))[::-1]
        ranks = range(VOCAB - 1)
        t = [math.log((i + 2) / (i + 1)) for i in ranks]
        b = [math.log(shares[i] / shares[i + 1]) for i in ranks]
        s = sum(x * y for x, y in zip(t, b, strict=True)) / sum(x * x for x in t)
        k = ((s - 1) * 2**self.mu / (1 - VOCAB ** (1 - s))) ** (1 / s)
        count = min(max(round(k), 1), VOCAB)
        return np.where(np.isin(np.arange(VOCAB), np.argsort(-row)[:count]), row, -np.inf)


class Adaptive:
    def __init__(self, target: float, decay: float) -> None:
        self.target, self.decay = target, decay
        self.weighted_sum, self.total_weight = target / (1 - decay), 1 / (1 - decay)

    def logits(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        target = min(max(2 * self.target - self.weighted_sum / self.total_weight, 0), 1)
        distance = abs(softmax(row) - target) / 0.3
        return 5 - 10 * distance**2 / (1 + distance)

    def accept(self, row: NDArray[np.float64], token: int) -> None:
        self.weighted_sum = softmax(row)[token] + self.decay * self.weighted_sum
        self.total_weight = 1 + self.decay * self.total_weight


class Still:
    """One of these that stays as it began."""

    def __init__(self, loop: Version2 | Adaptive) -> None:
        self.logits = loop.logits

    def accept(self, row: NDArray[np.float64], token: int) -> None:
        pass


CASES = [
    (Mirostat(tau=1.2, eta=0.5), lambda: Version2(1.2, 0.5)),
    (Mirostat(tau=1.5, eta=2.0), lambda: Version2(1.5, 2.0)),
    (Mirostat1(tau=0.8, eta=1.0), lambda: Version1(0.8, 1.0)),
    (AdaptiveP(0.4, decay=0.5), lambda: Adaptive(0.4, 0.5)),
]
cases = pytest.mark.parametrize(("processor", "loop"), CASES, ids=lambda each: str(each) if each in dict(CASES) else "")


def exact(
    loop: Callable[[], Version2 | Adaptive | Still],
) -> tuple[dict[tuple[int, ...], float], dict[tuple[int, ...], float]]:
    """Of everything that can be decoded: its probability, and the sum of what the processor left of the logarithms."""
    shares, sums = {}, {}
    for tokens in product(range(VOCAB), repeat=LENGTH):
        state, sequence, share, total = loop(), PROMPT, 1.0, 0.0
        for token in tokens:
            row = ROWS(sequence)
            share *= softmax(state.logits(row))[token]
            total += state.logits(np.log(softmax(row)))[token]
            state.accept(row, token)
            sequence += (token,)
        if share > 0:
            shares[tokens], sums[tokens] = share, total
    return shares, sums


@cases
def test_sampling_follows_the_loop(processor: LogitsProcessor, loop: Callable[[], Version2]) -> None:
    shares, _ = exact(loop)
    found = distribution(Sampling(processors=processor), MODEL, list(PROMPT), max_new_tokens=LENGTH)
    assert found == pytest.approx(shares, abs=1e-5)
    assert shares != pytest.approx(exact(lambda: Still(loop()))[0], abs=1e-3), "the state must matter here"


@cases
@pytest.mark.parametrize(
    "proposer",
    [DraftModel(OTHER, 2), DraftModel(MODEL, 3), PromptLookup(2, 2)],
    ids=["other", "same", "lookup"],
)
def test_speculation_follows_the_loop(
    processor: LogitsProcessor, loop: Callable[[], Version2], proposer: Proposer
) -> None:
    shares, _ = exact(loop)
    strategy = Speculative(Sampling(processors=processor), proposer)
    found = distribution(strategy, MODEL, list(PROMPT), max_new_tokens=LENGTH)
    assert {tokens: share for tokens, share in found.items() if share > 0} == pytest.approx(shares, abs=1e-5)


@cases
def test_greedy_speculation_gives_greedy_tokens(processor: LogitsProcessor, loop: Callable[[], Version2]) -> None:
    plain = MODEL.generate(list(PROMPT), Greedy(processors=processor), max_new_tokens=8)
    drafted = Speculative(Greedy(processors=processor), DraftModel(OTHER, 3))
    assert MODEL.generate(list(PROMPT), drafted, max_new_tokens=8).tokens == plain.tokens


@cases
def test_beams_do_not_see_each_others_history(processor: LogitsProcessor, loop: Callable[[], Version2]) -> None:
    _, sums = exact(loop)
    width = VOCAB**LENGTH
    beam = BeamSearch(width, length_penalty=0.0, num_return_sequences=min(5, len(sums)), processors=processor)
    found = MODEL.generate(list(PROMPT), beam, max_new_tokens=LENGTH)
    best = sorted(sums.items(), key=lambda item: -item[1])[: min(5, len(sums))]
    assert [each.tokens for each in found.alternatives] == [tokens for tokens, _ in best]
    assert [each.score for each in found.alternatives] == pytest.approx([total for _, total in best], abs=1e-4)


@cases
def test_company_changes_nothing(processor: LogitsProcessor, loop: Callable[[], Version2]) -> None:
    tasks = [
        Task(MODEL, list(PROMPT), Sampling(processors=processor), max_new_tokens=5, seed=seed) for seed in range(6)
    ]
    alone = [MODEL.generate(task.prompt, task.method, max_new_tokens=5, seed=task.seed).tokens for task in tasks]
    assert [generation.tokens for generation in run(tasks)] == alone


# ---- By eye ------------------------------------------------------------------------------------------------


def answered(*tokens: int, vocabulary: Vocabulary | None = None) -> Sequence:
    """A prompt, and tokens whose model always gives `SHARES`."""
    sequence = (vocabulary or Vocabulary(len(SHARES))).prompt([0])
    for token in tokens:
        sequence.answered(np.log(SHARES).astype(np.float32), 0.0)
        sequence += token
    return sequence


def kept(processor: LogitsProcessor, sequence: Sequence) -> list[int]:
    return processor(Candidates(np.log(SHARES)), sequence).ids.tolist()


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [((), [0, 1]), ((0,), [0, 1]), ((0, 0), [0, 1]), ((2,), [0]), ((2, 0), [0]), ((1,), [0]), ((0, 0, 0), [0, 1])],
)
def test_the_bound_follows_the_surprise(tokens: tuple[int, ...], expected: list[int]) -> None:
    # μ is 2, and falls by half of what a token's bits exceed 1.
    assert kept(Mirostat(tau=1.0, eta=0.5), answered(*tokens)) == expected


def test_a_surprise_below_the_target_raises_the_bound() -> None:
    control = Mirostat(tau=1.4, eta=0.5)  # μ is 2.8; a token of 1 bit adds 0.2
    assert kept(control, answered()) == [0, 1]
    assert kept(control, answered(0)) == [0, 1, 2, 3]


def test_version_1_takes_k_from_zipf() -> None:
    zipf = Candidates(-2 * np.log(np.arange(1, 1001)))  # s = 2: k² = 2^μ · 1 / (1 - 1/1000)
    for tau, count in ((1.0, 2), (2.0, 4), (3.0, 8), (3.5, 11), (0.5, 1), (0.01, 1), (20.0, 1000)):
        assert len(Mirostat1(tau=tau)(zipf, Vocabulary(1000).root)) == count


def test_version_1_at_an_exponent_of_one() -> None:
    zipf = Candidates(-np.log(np.arange(1, 1001)))  # e / (1 - N^-e) is 1 / log N: k = 2^μ / 6.9
    assert len(Mirostat1(tau=4.0)(zipf, Vocabulary(1000).root)) == round(2**8 / math.log(1000))


def test_version_1_keeps_what_has_no_rank() -> None:
    even = Candidates(np.array([1, 1, 1, -np.inf], np.float32))
    assert len(Mirostat1()(even, Vocabulary(4).root)) == 4
    assert Mirostat1()(Candidates(np.array([-np.inf, 1.0])), Vocabulary(2).root).argmax() == 1


def test_the_target_moves_against_the_mean() -> None:
    adaptive = AdaptiveP(0.5, decay=0.75)
    assert adaptive.mean(answered()) == 0.5
    assert adaptive.mean(answered(1)) == pytest.approx(0.75 * 0.5 + 0.25 * 0.25)
    assert adaptive.mean(answered(1, 0)) == pytest.approx(0.75 * (0.75 * 0.5 + 0.25 * 0.25) + 0.25 * 0.5)
    assert AdaptiveP(0.5, decay=0.0).mean(answered(0, 2)) == pytest.approx(0.125)
    # Below the target, it aims higher: 2 · 0.25 - 0.125 is 0.375, half of 0.25 away.
    left = AdaptiveP(0.25, decay=0.0)(Candidates(np.log(SHARES)), answered(2))
    distance = 0.125 / 0.3
    assert left.logits[:2].tolist() == pytest.approx([5 - 10 * distance**2 / (1 + distance)] * 2)


def test_an_impossible_token_stays_impossible() -> None:
    left = AdaptiveP(0.0)(Candidates(np.array([1, 2, -np.inf], np.float32)), Vocabulary(3).root)
    assert left.logits[2] == -np.inf


def test_the_mean_of_a_long_text_does_not_read_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(math, "exp", lambda value, exp=math.exp: asked.append(value) or exp(value))
    AdaptiveP(0.5).mean(answered(*[0] * 500))
    assert len(asked) == math.ceil(math.log(1e-12) / math.log(0.9))


# ---- What is not known -------------------------------------------------------------------------------------


@pytest.mark.parametrize("processor", [Mirostat(1.0, 0.5), Mirostat1(1.0, 0.5), AdaptiveP(0.5)], ids=str)
def test_a_token_of_unknown_probability_counts_as_soon_as_it_is_known(processor: LogitsProcessor) -> None:
    candidates = Candidates(np.log(SHARES))

    def left(sequence: Sequence) -> list[float]:
        return processor(candidates, sequence).distribution(len(SHARES)).tolist()

    known = answered(0)
    drafted = known + [2, 2]
    assert math.isnan(drafted.logprob)
    assert left(drafted) == left(known)
    known.answered(np.log(SHARES).astype(np.float32), 0.0, child=known + 2)
    (known + 2).answered(np.log(SHARES).astype(np.float32), 0.0, child=drafted)
    assert left(drafted) == left(answered(0, 2, 2)) != left(known)


@pytest.mark.parametrize("processor", [Mirostat(1.0, 0.5), Mirostat1(1.0, 0.5), AdaptiveP(0.5)], ids=str)
def test_siblings_have_histories_of_their_own(processor: LogitsProcessor) -> None:
    candidates = Candidates(np.log(SHARES))
    vocabulary = Vocabulary(len(SHARES))
    one, other = answered(0, 0, vocabulary=vocabulary), answered(0, 2, vocabulary=vocabulary)
    assert one.parent is other.parent
    expected = [processor(candidates, each).distribution(len(SHARES)).tolist() for each in (one, other)]
    assert expected[0] != expected[1]
    again = [processor(candidates, each).distribution(len(SHARES)).tolist() for each in (other, one)]
    assert again[::-1] == expected


def test_a_prompt_has_no_surprise() -> None:
    prompt = Vocabulary(len(SHARES)).prompt([0, 3, 3, 3, 3])
    assert kept(Mirostat(1.0, 0.5), prompt) == kept(Mirostat(1.0, 0.5), answered())
    assert AdaptiveP(0.3).mean(prompt) == 0.3


# ---- The real model ----------------------------------------------------------------------------------------


def test_mirostat_on_the_real_model(model: Model) -> None:
    control = Mirostat(tau=2.0, eta=0.3)
    found = model.generate("Once upon a time", Sampling(processors=control), max_new_tokens=24, seed=1)
    mu, bits = 4.0, [-logprob / math.log(2) for logprob in found.token_logprobs]
    for surprise in bits:
        assert surprise <= mu + 1e-4
        mu -= 0.3 * (surprise - 2.0)
    free = model.generate("Once upon a time", Sampling(processors=Temperature(1.0)), max_new_tokens=24, seed=1)
    assert found.tokens != free.tokens


@pytest.mark.parametrize("processor", [Mirostat(), Mirostat1(), AdaptiveP(0.5)], ids=str)
def test_nan_is_called_nan(processor: LogitsProcessor) -> None:
    with pytest.raises(LogitsError, match="not numbers"):
        processor(Candidates(np.array([np.nan, 1, 2], np.float32)), Vocabulary(3).root)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Mirostat(tau=0.0), "`tau` of `mirostat` must be a finite number of bits above 0, got 0.0"),
        (lambda: Mirostat(eta=-0.1), "`eta` of `mirostat` must be a finite number of at least 0"),
        (lambda: Mirostat1(tau=math.inf), "`tau` of `mirostat_1`"),
        (lambda: Mirostat1(m=1), "`m` of `mirostat_1` must be a whole number of at least 2, got 1"),
        (lambda: AdaptiveP(1.1), "`target` of `adaptive_p` must be a number from 0 to 1, got 1.1"),
        (lambda: AdaptiveP(0.5, decay=1.0), "`decay` of `adaptive_p` must be a number from 0 to 0.99, got 1.0"),
    ],
)
def test_configuration_errors_name_the_parameter(build: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build()  # type: ignore[operator]
