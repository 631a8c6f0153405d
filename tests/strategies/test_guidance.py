from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pytest

from ovdecode import (
    AllowedTokens,
    BeamSearch,
    BestOfN,
    ClassifierFreeGuidance,
    ContrastiveDecoding,
    ContrastiveSearch,
    DExperts,
    DoLa,
    DraftModel,
    Ensemble,
    ExactSearch,
    Forward,
    Greedy,
    Guidance,
    LogitsProcessor,
    Model,
    ProxyTuning,
    Random,
    RepetitionPenalty,
    Sampling,
    Sequence,
    Smc,
    Speculative,
    StochasticBeamSearch,
    Strategy,
    TableRunner,
    Task,
    TopK,
    TopP,
    run,
)
from ovdecode.engine import Engine
from ovdecode.forward import Answer
from ovdecode.processor import Chain
from ovdecode.runners.base import ModelRunner
from ovdecode.strategy import Decoding
from ovdecode.testing import distribution, law_nothing_left, table_model

MODEL, OTHER, THIRD = table_model(0), table_model(1), table_model(2)
PROMPTS = [[0], [1, 2, 1, 2, 1], [4, 3, 0, 0]]


def row(model: Model, tokens: tuple[int, ...]) -> np.ndarray:
    (answer,) = model.runner.forward([Forward(model.vocabulary.prompt(tokens), hidden=True)])
    return answer.logits[0]


@dataclass(frozen=True)
class Against(Guidance):
    """The model's logits less half of another model's."""

    other: Model = OTHER
    strategy: Strategy = field(default=Greedy(), kw_only=True)

    def companions(self, request: Forward) -> list[Forward]:
        return [Forward(request.sequence, request.last, self.other)]

    def combine(self, sequence: Sequence, logits: Any, others: Any) -> Any:
        (other,) = others
        return logits - 0.5 * other


def against(other: Model) -> Model:
    """A model that says by itself what `Against` makes of the two."""

    def hidden(tokens: tuple[int, ...]) -> np.ndarray:
        (answer,) = MODEL.runner.forward([Forward(MODEL.vocabulary.prompt(tokens), hidden=True)])
        assert answer.hidden is not None
        return answer.hidden[0]

    table = TableRunner(lambda tokens: row(MODEL, tokens) - 0.5 * row(other, tokens), hidden=hidden)
    return Model(table, tuple(MODEL.vocabulary.eos_token_ids))


INNER: list[Strategy] = [
    Greedy(),
    Greedy(processors=RepetitionPenalty(1.5)),
    BeamSearch(num_beams=3, num_return_sequences=3),
    Sampling(temperature=0.7, top_k=3),
    Speculative(Greedy(), DraftModel(THIRD, num_tokens=2)),
    Speculative(Sampling(), DraftModel(THIRD, num_tokens=3)),
    BestOfN(n=1, strategy=BeamSearch(num_beams=2)),
    ContrastiveSearch(top_k=3),
    Against(THIRD, strategy=BeamSearch(num_beams=2)),
]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("inner", INNER, ids=str)
def test_around_any_strategy_as_if_the_model_itself_said_so(inner: Strategy, prompt: list[int]) -> None:
    found = MODEL.generate(prompt, Against(strategy=inner), max_new_tokens=6)
    expected = against(OTHER).generate(prompt, inner, max_new_tokens=6)
    assert [each.tokens for each in found.alternatives] == [each.tokens for each in expected.alternatives]


@pytest.mark.parametrize("inner", [Sampling(top_k=3), Speculative(Sampling(top_k=3), DraftModel(THIRD, num_tokens=2))])
def test_the_exact_law_of_what_is_drawn(inner: Strategy) -> None:
    found = distribution(Against(strategy=inner), MODEL, [1, 2], max_new_tokens=2)
    assert found == pytest.approx(distribution(inner, against(OTHER), [1, 2], max_new_tokens=2), abs=1e-6)


def test_one_inference_a_round_and_model() -> None:
    beams = MODEL.generate([0], BeamSearch(num_beams=3), max_new_tokens=4, ignore_eos=True)
    guided = MODEL.generate([0], Against(strategy=BeamSearch(num_beams=3)), max_new_tokens=4, ignore_eos=True)
    assert (beams.cost.forwards, guided.cost.forwards) == (4, 8)


def test_the_logprob_is_the_models_own() -> None:
    guided = MODEL.generate([0], Against(), max_new_tokens=4)
    sequence = MODEL.vocabulary.prompt([0])
    for token, logprob in zip(guided.tokens, guided.token_logprobs, strict=True):
        logits = row(MODEL, tuple(sequence))
        assert logprob == pytest.approx(logits[token] - np.logaddexp.reduce(logits), abs=1e-5)
        sequence += token


@pytest.mark.parametrize(("inner", "streams"), [(Greedy(), True), (Sampling(), True), (BeamSearch(), False)])
def test_text_is_streamed_if_the_inner_strategy_streams(inner: Strategy, streams: bool) -> None:
    assert Against(strategy=inner).commits is streams
    for guided in (Against(strategy=inner), ClassifierFreeGuidance(negative_prompt=[1], strategy=inner)):
        pieces = list(MODEL.stream([0], guided, max_new_tokens=4, ignore_eos=True))
        assert len(pieces) == (4 if streams else 1)


# ---- Guidance in guidance ---------------------------------------------------------------------------------------

GUIDES: dict[str, Guidance] = {
    "cfg": ClassifierFreeGuidance(1.5),
    "cfg below 1": ClassifierFreeGuidance(0.5),
    "cfg of 1": ClassifierFreeGuidance(1.0),
    "contrastive_decoding": ContrastiveDecoding(OTHER),
    "contrastive_decoding with beta": ContrastiveDecoding(OTHER, beta=0.5),
    "dexperts": DExperts(OTHER, THIRD, filter_p=0.6, strategy=Greedy()),
    "dola": DoLa(layers=[1, 2]),
    "product": Ensemble([OTHER]),
    "mixture": Ensemble([OTHER], kind="mixture"),
    "mixture of few": Ensemble([OTHER], kind="mixture", processors=TopK(2)),
    "proxy_tuning": ProxyTuning(OTHER, THIRD),
}
START = (1, 2, 1, 2, 0)


@cache
def saying(name: str) -> Model:
    """A model that says by itself what such a guide makes of `MODEL`, in texts that begin with `START`, and in those
    that begin with its last token, which classifier-free guidance asks about."""

    @cache
    def logits(tokens: tuple[int, ...]) -> Any:
        begin = START if tokens[: len(START)] == START else START[-1:]
        answers: list[Any] = []

        def ask(prompt: Sequence) -> Sequence:
            for token in tokens[len(begin) :]:
                prompt += token
            return prompt

        MODEL.generate(list(begin), replace(GUIDES[name], strategy=Asking(ask, answers)), max_new_tokens=1)
        return answers[0]

    def layer(number: int) -> Any:
        def rows(tokens: tuple[int, ...]) -> Any:
            (answer,) = MODEL.runner.forward([Forward(MODEL.vocabulary.prompt(tokens), layers=(number,))])
            assert answer.layers is not None
            return answer.layers[number][0]

        return rows

    table = TableRunner(logits, layers={number: layer(number) for number in range(4)})
    return Model(table, tuple(MODEL.vocabulary.eos_token_ids))


@pytest.mark.parametrize("inner", GUIDES)
@pytest.mark.parametrize("outer", GUIDES)
def test_any_guidance_around_any_other_as_if_the_model_itself_said_so(outer: str, inner: str) -> None:
    # Those that mask tokens, around those that subtract what is said without the prompt, gave inf or NaN.
    found = MODEL.generate(list(START), replace(GUIDES[outer], strategy=GUIDES[inner]), max_new_tokens=3)
    expected = saying(outer).generate(list(START), GUIDES[inner], max_new_tokens=3)
    assert found.tokens == expected.tokens


# ---- What a companion is sent, and what comes of it ------------------------------------------------------------


@dataclass(frozen=True)
class Asking(Strategy):
    """Asks what it is told to, once."""

    ask: Any = None
    told: Any = None

    def decode(self, prompt: Sequence, stop: Any, rng: Random) -> Decoding:
        self.told.append((yield self.ask(prompt)))
        return prompt + 0


def told(guide: Any, ask: Any) -> Any:
    answers: list[Any] = []
    MODEL.generate([1, 2, 3], guide(strategy=Asking(ask, answers)), max_new_tokens=1)
    return answers[0]


EXPECTED = [row(MODEL, tokens) - 0.5 * row(OTHER, tokens) for tokens in ((1,), (1, 2), (1, 2, 3))]


def test_every_form_of_request_gets_its_form_of_answer() -> None:
    assert told(Against, lambda prompt: prompt) == pytest.approx(EXPECTED[2], abs=1e-6)
    assert told(Against, lambda prompt: Forward(prompt, last=2)) == pytest.approx(np.array(EXPECTED[1:]), abs=1e-6)
    assert told(Against, lambda prompt: Forward(prompt, last=0)).shape == (0, 6)
    several = told(Against, lambda prompt: [prompt, prompt[:2]])
    assert np.array(several) == pytest.approx(np.array([EXPECTED[2], EXPECTED[1]]), abs=1e-6)
    rich = told(Against, lambda prompt: Forward(prompt, last=2, hidden=True, layers=(1,)))
    assert isinstance(rich, Answer)
    assert rich.logits == pytest.approx(np.array(EXPECTED[1:]), abs=1e-6)
    assert rich.logsumexp == pytest.approx(np.logaddexp.reduce(EXPECTED[1:], axis=1), abs=1e-5)
    own = MODEL.runner.forward([Forward(MODEL.vocabulary.prompt([1, 2, 3]), last=2, hidden=True, layers=(1,))])[0]
    assert np.array_equal(rich.hidden, own.hidden)  # type: ignore[arg-type]
    assert rich.layers is not None
    assert np.array_equal(rich.layers[1], own.layers[1])  # type: ignore[index]


def test_answers_can_not_be_written_to() -> None:
    assert not told(Against, lambda prompt: prompt).flags.writeable


def test_another_models_answer_is_left_alone() -> None:
    assert np.array_equal(told(Against, lambda prompt: Forward(prompt, model=THIRD)), row(THIRD, (1, 2, 3)))


@dataclass(frozen=True)
class Last(Against):
    """A companion that knows about the last position only."""

    def companions(self, request: Forward) -> list[Forward]:
        return [Forward(request.sequence, min(1, request.rows), self.other)]


def test_where_a_companion_says_nothing_the_model_stands_alone() -> None:
    expected = [row(MODEL, (1,)), row(MODEL, (1, 2)), EXPECTED[2]]
    assert told(Last, lambda prompt: Forward(prompt, last=3)) == pytest.approx(np.array(expected), abs=1e-6)


class Noted(TableRunner):
    """A table that notes what is asked of it."""

    def submit(self, requests: Any) -> Any:
        self.asked = [*getattr(self, "asked", []), [(request.rows, request.layers) for request in requests]]
        return super().submit(requests)


@dataclass(frozen=True)
class Layered(Guidance):
    """Two inner layers instead of the last."""

    strategy: Strategy = field(default=Greedy(), kw_only=True)

    def companions(self, request: Forward) -> list[Forward]:
        return [Forward(request.sequence, request.last, choose_layers=lambda count: (count - 2, count - 1))]

    def combine(self, sequence: Sequence, logits: Any, others: Any) -> Any:
        one, other = others
        return one + other


def layered() -> tuple[Model, Noted]:
    layers = {0: {(): [9.0, 0, 0]}, 1: {(): [0, 2.0, 1.0]}, 2: {(): [0, 0, 2.0]}}
    runner = Noted({(): [5.0, 0, 0]}, layers=layers)
    return Model(runner), runner


def test_a_companion_that_asks_for_more_stands_for_the_request() -> None:
    model, runner = layered()
    assert model.generate([0], Layered(), max_new_tokens=2).tokens == (2, 2)
    assert runner.asked == [[(1, (1, 2))], [(1, (1, 2))]]
    assert list(model.stream([0], Layered(), max_new_tokens=2)) == ["c", "c"]


def test_nobody_is_given_the_layers_that_another_asked_for() -> None:
    # The two tasks' requests are merged; the answer to each once held the layers of both.
    model, _ = layered()
    answers: list[Any] = []
    asking = Asking(lambda prompt: Forward(prompt, layers=(0,)), answers)
    generations = list(run([Task(model, [0], Layered(), 1), Task(model, [0], asking, 1)]))
    assert [each.tokens for each in sorted(generations, key=lambda each: each.index)] == [(2,), (0,)]
    assert list(answers[0].layers) == [0]


def test_a_runner_without_layers_says_so() -> None:
    class Bare(ModelRunner):
        vocab_size = 2

        def recompute(self, tokens: Any, request: Forward) -> Answer:
            return Answer(np.zeros((1, 2), np.float32), np.zeros(1, np.float32))

    from ovdecode.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="`layers` can't be asked for: the runner `recompute`"):
        Model(Bare()).generate([0], Layered(), max_new_tokens=1)


# ---- Processors ------------------------------------------------------------------------------------------------


def test_own_processors_come_before_the_combination_and_those_of_the_strategy_after() -> None:
    model = Model(TableRunner({(): [4.0, 3.0, -1.0]}))
    other = Model(TableRunner({(): [0.0, 0.0, 0.0]}))
    # Penalised before: 4 / 2 < 3. The combination adds 10 to all, and then 14 / 2 < 13.
    assert model.generate([0], Against(other, processors=RepetitionPenalty(2.0)), max_new_tokens=1).tokens == (1,)
    shifted = Against(Model(TableRunner({(): [-20.0, 0.0, -20.0]})), processors=RepetitionPenalty(2.0))
    assert model.generate([0], shifted, max_new_tokens=1).tokens == (0,)
    after = Against(Model(TableRunner({(): [-20.0, 0.0, -20.0]})), strategy=Greedy(processors=RepetitionPenalty(2.0)))
    assert model.generate([0], after, max_new_tokens=1).tokens == (2,)


def test_what_processors_exclude_stays_excluded() -> None:
    # A mixture would bring back what only one of its models excludes.
    model, other = (Model(TableRunner({(): logits})) for logits in ([1.0, 0.0, 0.0], [0.0, 9.0, 0.0]))
    mixture = Ensemble([other], kind="mixture", processors=AllowedTokens([0, 2]))
    assert model.generate([0], mixture, max_new_tokens=2).tokens == (0, 0)


@dataclass(frozen=True)
class NothingAfterTwo(RepetitionPenalty):
    """Leaves no token possible after token 2."""

    penalty: float = 1.0

    def __call__(self, candidates: Any, sequence: Sequence) -> Any:
        return candidates.keep(np.full(len(candidates), sequence.token != 2))


def test_a_beam_at_a_dead_end_is_dropped() -> None:
    model = Model(TableRunner({(0,): [0.0, 1.0, 3.0], (): [2.0, 1.0, 0.0]}))
    flat = Model(TableRunner({(): [0.0, 0.0, 0.0]}))
    search = Against(flat, strategy=BeamSearch(num_beams=2), processors=NothingAfterTwo())
    assert model.generate([0], search, max_new_tokens=2).tokens == (1, 0)


@pytest.mark.parametrize("after", [Chain(), TopK(3), TopP(0.9)], ids=str)
@pytest.mark.parametrize("inner", [BeamSearch(num_beams=2), ExactSearch(), StochasticBeamSearch(3), Smc(16)], ids=str)
def test_a_dead_end_is_nothing_to_combine(inner: Strategy, after: LogitsProcessor) -> None:
    # The processors after it failed, and then all beams; without them, -inf − -inf was computed, with a warning. What
    # the combination brings back, as a mixture does, is no way on either.
    model = Model(TableRunner({(0,): [0.0, 1.0, 1.5], (): [2.0, 1.0, 0.0]}))
    flat = Model(TableRunner({(): [0.0, 0.0, 0.0]}))
    chain = NothingAfterTwo() | after
    outer = Ensemble([flat], kind="mixture", strategy=inner)
    for strategy in (Against(flat, strategy=outer, processors=chain), replace(outer, processors=chain)):
        with np.errstate(invalid="raise"):
            generation = model.generate([0], strategy, max_new_tokens=2)
        assert all(2 not in each.tokens[:1] for each in generation.alternatives)


# ---- Errors and leftovers --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken(Against):
    """Fails when it combines."""

    commits: ClassVar[bool] = True

    def combine(self, sequence: Sequence, logits: Any, others: Any) -> Any:
        raise RuntimeError("on purpose")


def test_nothing_is_left_behind_when_it_fails() -> None:
    (generation,) = Engine().run([Task(MODEL, [0], Broken(strategy=BeamSearch()))])
    assert isinstance(generation.error, RuntimeError)
    law_nothing_left(Against(strategy=BeamSearch(num_beams=2)), MODEL, [[0]])


PROSE = ("The capital of France is", "one two three one two three one two")


@pytest.mark.parametrize("prompt", PROSE)
def test_on_a_real_model_any_search_is_guided_alike(prompt: str, model: Model) -> None:
    def guided(inner: Strategy) -> tuple[int, ...]:
        strategy = ClassifierFreeGuidance(1.5, negative_prompt="Hello", strategy=inner)
        return model.generate(prompt, strategy, max_new_tokens=12).tokens

    expected = guided(Greedy())
    assert guided(Speculative()) == expected
    assert guided(Speculative(Greedy(), DraftModel(model, num_tokens=3))) == expected
    assert guided(BeamSearch(num_beams=1)) == expected
    assert guided(Sampling(top_k=1)) == expected
