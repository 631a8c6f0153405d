"""Deliberately broken plugins: each law is broken by one of them, and says so by its name."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest

import ovdecode as od
from ovdecode import (
    BeamSearch,
    BestOfN,
    Candidates,
    ContrastiveDecoding,
    Engine,
    Eos,
    Fold,
    Greedy,
    LogitsProcessor,
    Model,
    Random,
    Sampling,
    Sequence,
    StoppingCriterion,
    StopReason,
    Strategy,
    TableRunner,
    Task,
    register,
    registry,
    require,
    testing,
)
from ovdecode.errors import ConfigurationError, LogitsError
from ovdecode.plugin import Plugin, is_whole
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding, Hypothesis, Outcome
from ovdecode.testing import (
    cases,
    check_processor,
    check_stopping,
    check_strategy,
    law_configuration,
    law_determinism,
    law_distribution,
    law_isolation,
    law_nothing_left,
    law_processor_chain,
    law_processor_determinism,
    law_processor_isolation,
    law_processor_narrowing,
    law_processor_purity,
    law_processor_representation,
    law_purity,
    law_stopping,
    law_stopping_bound,
    law_stopping_combination,
    law_stopping_isolation,
    law_stopping_purity,
    law_stopping_reason,
    law_stopping_text,
    table_model,
)
from ovdecode.testing.configuration import _absurd


def breaks(law: Callable[..., None], name: str, plugin: Plugin, *arguments: Any, match: str | None = None) -> None:
    """The law fails on the plugin, its message starts with its name and says what was seen and expected."""
    with pytest.raises(AssertionError, match=match) as caught:
        law(plugin, *arguments)
    assert re.match(rf"{name}: `.*` gave [\s\S]+; expected [\s\S]+", str(caught.value)), str(caught.value)


@contextmanager
def registered(plugin: type[Plugin], name: str) -> Iterator[None]:
    register(name)(plugin)
    try:
        yield
    finally:
        del registry._registered[plugin.family, name]


# Strategies


@dataclass(frozen=True)
class Stepwise(Strategy):
    """Greedy, but for what a subclass does to it."""

    commits: ClassVar[bool] = True

    def choose(self, logits: Any, sequence: Sequence, rng: Random) -> int:
        return int(logits.argmax())

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        sequence = prompt
        while not stop(sequence):
            logits = yield sequence
            sequence += self.choose(logits, sequence, rng)
        return sequence


@pytest.mark.parametrize(
    "law", [law_determinism, law_isolation, law_distribution, law_stopping, law_nothing_left, law_purity]
)
def test_an_honest_strategy_breaks_nothing(law: Callable[..., None]) -> None:
    law(Stepwise())


@dataclass(frozen=True)
class GlobalDice(Stepwise):
    def choose(self, logits: Any, sequence: Sequence, rng: Random) -> int:
        return int(np.random.randint(len(logits)))  # noqa: NPY002


@dataclass(frozen=True)
class PythonDice(Stepwise):
    def choose(self, logits: Any, sequence: Sequence, rng: Random) -> int:
        return random.randrange(len(logits))


@dataclass(frozen=True)
class OwnDice(Stepwise):
    def choose(self, logits: Any, sequence: Sequence, rng: Random) -> int:
        return int(np.random.default_rng().integers(len(logits)))


@dataclass(frozen=True)
class Remembering(Stepwise):
    seen: list[int] = field(default_factory=list, compare=False)

    def choose(self, logits: Any, sequence: Sequence, rng: Random) -> int:
        self.seen.append(0)
        return len(self.seen) % len(logits)


@pytest.mark.parametrize(
    ("strategy", "match"),
    [
        (GlobalDice(), "another global state of `np.random`"),
        (PythonDice(), "another global state of `random`"),
        (OwnDice(), "tokens .* in another run with seed"),
        (Remembering(), "tokens .* in another run with seed"),
    ],
)
def test_determinism(strategy: Strategy, match: str) -> None:
    breaks(law_determinism, "Determinism", strategy, match=match)


def test_the_global_random_states_are_put_back() -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    law_determinism(Sampling())
    with pytest.raises(AssertionError):
        law_determinism(GlobalDice())
    values = random.random(), np.random.random()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert values == (random.random(), np.random.random())  # noqa: NPY002


@dataclass(frozen=True)
class Shared(Stepwise):
    """Right when it runs alone: it begins anew with each prompt, but all its runs write in one place."""

    last: dict[str, int] = field(default_factory=dict, compare=False)

    def choose(self, logits: Any, sequence: Sequence, rng: Random) -> int:
        if sequence.generated_length == 0:
            self.last["token"] = int(logits.argmax())
        self.last["token"] = (self.last["token"] + 1) % len(logits)
        return self.last["token"]


class Crowded(TableRunner):
    """A model whose logits depend on how many are asked for at once."""

    def submit(self, requests: Any) -> Any:
        answers = super().submit(requests)()
        for answer in answers:
            answer.logits.flags.writeable = True
            answer.logits[:, len(requests) % self.vocab_size] += 5
        return lambda: answers


def test_isolation() -> None:
    law_determinism(Shared())
    breaks(law_isolation, "Isolation", Shared(), match=r"tokens .* 9 others .*; expected tokens .* as alone")


def test_isolation_of_a_model_that_depends_on_the_batch() -> None:
    breaks(law_isolation, "Isolation", Greedy(), Model(Crowded(np.eye(6))))


def test_isolation_when_a_long_list_is_answered_in_parts() -> None:
    """The engine once forgot what the model said about the parts that were answered first."""
    law_isolation(BeamSearch(num_beams=6))


@dataclass(frozen=True)
class Delayed(Stepwise):
    """Honest, but goes on with an answer that is one request old."""

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        sequence = prompt
        while not stop(sequence):
            logits = yield sequence
            yield prompt
            sequence += int(logits.argmax())
        return sequence


def test_isolation_of_log_probabilities_when_an_answer_is_used_late() -> None:
    law_isolation(Delayed())


@dataclass(frozen=True)
class Uniform(Stepwise):
    """Says sampling, does something else."""

    def choose(self, logits: Any, sequence: Sequence, rng: Random) -> int:
        return rng.choose(np.ones(len(logits)))


@dataclass(frozen=True)
class Inflated(Stepwise):
    """Chooses among weights of which one is negative, so that the rest sums to more than 1."""

    def choose(self, logits: Any, sequence: Sequence, rng: Random) -> int:
        return rng.choose(np.array([0.6, 0.6, -0.2, 0.0, 0.0, 0.0]))


@dataclass(frozen=True)
class Peeking(Stepwise):
    """Does something else when it is enumerated."""

    def choose(self, logits: Any, sequence: Sequence, rng: Random) -> int:
        return rng.choose(np.ones(3)) + (0 if type(rng) is Random else 3)


@dataclass(frozen=True)
class GumbelMax(Stepwise):
    """Sampling by continuous noise."""

    scale: float = 1.0

    def choose(self, logits: Any, sequence: Sequence, rng: Random) -> int:
        return int((logits + self.scale * rng.gumbel(len(logits))).argmax())


COIN = Model(TableRunner({(): np.log([0.75, 0.25])}))
FAIR = {(0,): 0.75, (1,): 0.25}


def test_distribution() -> None:
    law_distribution(Sampling(), FAIR, COIN, [0], 1)
    breaks(law_distribution, "Exact distribution", Uniform(), FAIR, COIN, [0], 1, match=r"0\.5; expected 0\.75")
    breaks(law_distribution, "Exact distribution", Inflated(), match=r"the sum 1\.44")
    breaks(law_distribution, "Exact distribution", Peeking(), match="of 300 samples")


def test_distribution_with_continuous_noise() -> None:
    law_distribution(GumbelMax(), FAIR, COIN, [0], 1)
    breaks(
        law_distribution,
        "Exact distribution",
        GumbelMax(scale=0.1),
        FAIR,
        COIN,
        [0],
        1,
        match="of 300 samples",
    )


def test_distribution_of_a_strategy_with_too_many_paths() -> None:
    law_distribution(BestOfN(n=40), max_paths=5)


@dataclass(frozen=True)
class Overrunning(Stepwise):
    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        sequence = yield from super().decode(prompt, stop, rng)
        assert isinstance(sequence, Sequence)
        return sequence + 0


@dataclass(frozen=True)
class AtLeastOne(Stepwise):
    """Forgets to ask about the prompt."""

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        sequence = prompt + int((yield prompt).argmax())
        return (yield from super().decode(sequence, stop, rng))


@dataclass(frozen=True)
class GivingUp(Stepwise):
    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        logits = yield prompt
        return prompt if stop(prompt) else prompt + int(logits.argmax())


@dataclass(frozen=True)
class SecondRate(Stepwise):
    """The best is right, an alternative is not."""

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        best = yield from super().decode(prompt, stop, rng)
        assert isinstance(best, Sequence)
        return Outcome((Hypothesis(best, 0.0), Hypothesis(best + 0, -1.0)))


@dataclass(frozen=True)
class TakingBack(Stepwise):
    """Streams what it then does not return."""

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        yield from super().decode(prompt, stop, rng)
        sequence = prompt
        while not stop(sequence):
            sequence += 0
        return sequence


@dataclass(frozen=True)
class Unknowing(Stepwise):
    """Asks about sequences whose probability is not known."""

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        sequence, apart = prompt, prompt.apart()
        while not stop(apart):
            token = int((yield sequence).argmax())
            sequence, apart = sequence + token, apart + token
        return sequence


@pytest.mark.parametrize(
    ("strategy", "match"),
    [
        (Unknowing(), "expected nothing after .* unlikely stops"),
        (Overrunning(), "expected nothing after"),
        (AtLeastOne(), "expected nothing after .* max_length"),
        (GivingUp(), "without a reason"),
        (SecondRate(), "expected nothing after"),
        (TakingBack(), "the stream .* as it `commits`"),
    ],
)
def test_stopping(strategy: Strategy, match: str) -> None:
    breaks(law_stopping, "Stopping", strategy, match=match)


LEAK: list[Any] = []


@dataclass(frozen=True)
class Leaking(Stepwise):
    def choose(self, logits: Any, sequence: Sequence, rng: Random) -> int:
        LEAK.append(sequence)
        return super().choose(logits, sequence, rng)


@dataclass(frozen=True)
class Circular(Stepwise):
    """Its sequences are only freed by the garbage collector."""

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        circle: list[Any] = [prompt]
        circle.append(circle)
        return (yield from super().decode(prompt, stop, rng))


@dataclass(frozen=True)
class LeakingWhenClosed(Stepwise):
    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        try:
            return (yield from super().decode(prompt, stop, rng))
        except GeneratorExit:
            LEAK.append(prompt)
            raise


@dataclass(frozen=True)
class LeakingOnError(Stepwise):
    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        try:
            return (yield from super().decode(prompt, stop, rng))
        except ArithmeticError:
            LEAK.append(prompt)
            raise


@pytest.mark.parametrize(
    ("strategy", "match"),
    [
        (Leaking(), "after it returned, held by somebody"),
        (Circular(), "after it returned, in a reference cycle"),
        (LeakingWhenClosed(), "after it was cancelled at request 1"),
        (LeakingOnError(), "after request 1 raised a LogitsError"),
    ],
)
def test_nothing_left(strategy: Strategy, match: str) -> None:
    LEAK.clear()
    breaks(law_nothing_left, "Nothing is left behind", strategy, match=match)
    LEAK.clear()


def test_an_error_that_is_kept_keeps_no_sequence() -> None:
    """Its traceback once held the engine's and the strategy's variables, and so the pages of the sequence."""
    model = Model(TableRunner(lambda tokens: np.full(4, np.nan if len(tokens) > 3 else 0.0)))
    (generation,) = Engine().run([Task(model, [0], BestOfN(n=2))])
    assert isinstance(generation.error, LogitsError)
    assert cases.alive(model.vocabulary) == 0


@dataclass(frozen=True)
class Writing(Stepwise):
    def choose(self, logits: Any, sequence: Sequence, rng: Random) -> int:
        logits -= logits.max()
        return int(logits.argmax())


@dataclass(frozen=True)
class Forcing(Stepwise):
    """Takes the write protection off."""

    def choose(self, logits: Any, sequence: Sequence, rng: Random) -> int:
        (logits.base if logits.base is not None else logits).flags.writeable = True
        logits.flags.writeable = True
        logits[0] = 99
        return int(logits.argmax())


def test_purity() -> None:
    breaks(law_purity, "Purity", Writing(), match="read-only")
    breaks(law_purity, "Purity", Forcing(), match="changed arrays of logits")


def test_an_error_breaks_the_law_that_meets_it() -> None:
    failing = cases.Failing()
    for law, name in [
        (law_determinism, "Determinism"),
        (law_isolation, "Isolation"),
        (law_stopping, "Stopping"),
        (law_nothing_left, "Nothing is left behind"),
        (law_distribution, "Exact distribution"),
    ]:
        breaks(law, name, failing, match="RuntimeError: this strategy fails on purpose")


def test_check_strategy_is_one_line() -> None:
    check_strategy(Sampling(temperature=0.8))
    check_strategy(ContrastiveDecoding(table_model(1)))
    check_strategy(Sampling(), model=COIN, prompts=[[0]], expected=None, invalid={"top_k": [0]})
    with pytest.raises(AssertionError, match=r"^Configuration: `Stepwise` gave a docstring without"):
        check_strategy(Stepwise())


# Configuration


@dataclass(frozen=True)
class Width(LogitsProcessor):
    """Keeps the best.

    Source: Somebody 2020, "A Width".

    Args:
        width: how many.
    """

    width: int | float = 2  # not one plain type, so that each class below checks it itself, or forgets to
    label: Any = ""

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        return candidates.top(int(self.width))


@dataclass(frozen=True)
class Sound(Width):
    """Keeps the best.

    Source: Somebody 2020, "A Width".

    Args:
        width: how many.
        label: anything.
    """

    def __post_init__(self) -> None:
        require(self, "width", is_whole(self.width) and self.width >= 1, "a whole number of at least 1")


@dataclass(frozen=True)
class Terse(Sound):
    __doc__ = None


@dataclass(frozen=True)
class Sourceless(Sound):
    """Keeps the best."""


@dataclass(frozen=True)
class Unvalidated(Sound):
    """Keeps the best.

    Source: Somebody 2020, "A Width".
    """

    def __post_init__(self) -> None:
        pass


@dataclass(frozen=True)
class Vague(Sound):
    """Keeps the best.

    Source: Somebody 2020, "A Width".
    """

    def __post_init__(self) -> None:
        if not isinstance(self.width, int):
            raise ConfigurationError("bad value")


@dataclass(frozen=True, eq=False)
class ByIdentity(Sound):
    """Keeps the best.

    Source: Somebody 2020, "A Width".
    """

    __hash__ = object.__hash__
    __eq__ = object.__eq__


@dataclass(frozen=True)
class Unspelled(Sound):
    """Keeps the best.

    Source: Somebody 2020, "A Width".
    """

    def __str__(self) -> str:
        return "unspelled"


class NoDataclass(Sound):
    """Keeps the best.

    Source: Somebody 2020, "A Width".
    """


@pytest.mark.parametrize(
    ("plugin", "arguments", "match"),
    [
        (NoDataclass, {}, "no dataclass; expected @dataclass"),
        (Terse, {}, "no docstring"),
        (Sourceless, {}, "without a source"),
        (Width, {}, "no documentation of `label`"),
        (Sound, {"label": [1]}, "hashable parameters"),
        (ByIdentity, {}, "a copy that is not equal"),
        (Unspelled, {"width": 3}, "the spec `unspelled`, which parses to"),
        (Sound, {"label": (1.5, object())}, "the spec"),
        (Unvalidated, {}, r"for width=nan; expected a ConfigurationError that names `width`"),
        (Vague, {}, "bad value.* for width=nan; expected a ConfigurationError that names `width`"),
    ],
)
def test_configuration(plugin: type[Plugin], arguments: dict[str, Any], match: str) -> None:
    with registered(plugin, "unspelled"):
        breaks(law_configuration, "Configuration", plugin(**arguments), match=match)


def test_configuration_of_a_sound_plugin() -> None:
    with registered(Sound, "sound"):
        law_configuration(Sound(), {"width": [0, -1, "2"]})
        check_processor(Sound())
        breaks(law_configuration, "Configuration", Sound(), {"width": [5]}, match="for width=5")
    breaks(law_configuration, "Configuration", Sound(), match="no plugin registered as processor `sound`")


# Processors


@dataclass(frozen=True)
class Doing(LogitsProcessor):
    """A processor that is a function."""

    function: Callable[[Candidates, Sequence], Any] = lambda candidates, sequence: candidates

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        result: Candidates = self.function(candidates, sequence)
        return result


def scale_in_place(candidates: Candidates, sequence: Sequence) -> Candidates:
    array = candidates.logits
    array *= 0.5
    return candidates


def unlock_and_scale(candidates: Candidates, sequence: Sequence) -> Candidates:
    if candidates.logits.flags.writeable:
        candidates.logits[0] += 1
    return candidates


def replace_logits(candidates: Candidates, sequence: Sequence) -> Candidates:
    candidates.logits = candidates.logits / 2
    return candidates


def keep_candidates(candidates: Candidates, sequence: Sequence) -> Candidates:
    LEAK.append(candidates)
    return candidates


def keep_sequence(candidates: Candidates, sequence: Sequence) -> Candidates:
    LEAK.append(sequence)
    return candidates


def jitter(candidates: Candidates, sequence: Sequence) -> Candidates:
    noise = np.random.default_rng().random(len(candidates)).astype(np.float32)
    return candidates.with_logits(candidates.logits + noise)


def global_jitter(candidates: Candidates, sequence: Sequence) -> Candidates:
    random.random()
    return candidates


def revive(candidates: Candidates, sequence: Sequence) -> Candidates:
    return candidates.with_logits(np.maximum(candidates.logits, np.float32(-1e9)))


def add_a_token(candidates: Candidates, sequence: Sequence) -> Candidates:
    return Candidates(np.zeros(6, candidates.logits.dtype), np.arange(6))


def shuffle(candidates: Candidates, sequence: Sequence) -> Candidates:
    return Candidates(candidates.logits[::-1], candidates.ids[::-1])


def to_nan(candidates: Candidates, sequence: Sequence) -> Candidates:
    with np.errstate(invalid="ignore"):
        return candidates.with_logits(candidates.logits - candidates.logits)


def upcast(candidates: Candidates, sequence: Sequence) -> Candidates:
    return candidates.with_logits(candidates.logits.astype(np.float64))


def crash_on_nothing(candidates: Candidates, sequence: Sequence) -> Candidates:
    return candidates.with_logits(candidates.logits - candidates.logits.max())


def by_position(candidates: Candidates, sequence: Sequence) -> Candidates:
    """Takes the second place for the second token, which it only is in a dense row."""
    if len(candidates) < 2:
        return candidates
    return candidates.with_logits(candidates.logits + np.eye(len(candidates), dtype=np.float32)[1])


def by_form(candidates: Candidates, sequence: Sequence) -> Candidates:
    return candidates.top(2) if candidates.dense else candidates


@pytest.mark.parametrize(
    ("law", "name", "function", "match"),
    [
        (law_processor_purity, "Purity", scale_in_place, "read-only"),
        (law_processor_purity, "Purity", unlock_and_scale, "left as they were"),
        (law_processor_purity, "Purity", replace_logits, "left as they were"),
        (law_processor_purity, "Purity", keep_candidates, "a reference kept"),
        (law_processor_purity, "Purity", keep_sequence, "sequences still held"),
        (law_processor_purity, "Purity", lambda candidates, sequence: candidates.logits, "expected"),
        (law_processor_determinism, "Determinism", jitter, "the second time"),
        (law_processor_determinism, "Determinism", global_jitter, "global state of `random`"),
        (law_processor_narrowing, "Narrowing", revive, "not possible"),
        (law_processor_narrowing, "Narrowing", add_a_token, "which were not among"),
        (law_processor_narrowing, "Narrowing", shuffle, "rising ids"),
        (law_processor_narrowing, "Narrowing", to_nan, "logits that are numbers"),
        (law_processor_narrowing, "Narrowing", upcast, "float64 for float32"),
        (law_processor_narrowing, "Narrowing", crash_on_nothing, "ValueError"),
        (law_processor_representation, "Representation", by_position, "its finite logits"),
        (law_processor_representation, "Representation", by_form, "explicit ids"),
    ],
)
def test_processor(law: Callable[..., None], name: str, function: Any, match: str) -> None:
    LEAK.clear()
    breaks(law, name, Doing(function), match=match)
    LEAK.clear()


@dataclass(frozen=True)
class Stateful(LogitsProcessor):
    """The per-request state of other engines, which siblings share."""

    seen: dict[int, int] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seen", {})

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        rank = self.seen.setdefault(sequence.token, len(self.seen))
        return candidates.with_logits(candidates.logits - np.float32(rank))


@dataclass(frozen=True)
class Unchainable(Doing):
    """Drops what it is chained to."""

    def __or__(self, other: LogitsProcessor) -> Any:
        return super().__or__(Doing())


def test_processor_chain() -> None:
    law_processor_chain(Doing())
    breaks(law_processor_chain, "Chain", Unchainable(), match=r"\(a \| b\) \| c")


def test_processor_isolation() -> None:
    breaks(law_processor_isolation, "Isolation", Stateful(), match="asked after others")


def test_state_that_is_a_fold_is_isolated() -> None:
    seen = Fold(0, lambda state, sequence: state + 1)
    honest = Doing(lambda candidates, sequence: candidates.top(1 + seen(sequence)))
    law_processor_isolation(honest)
    law_processor_purity(honest)


# Stopping criteria


@dataclass(frozen=True)
class Asking(StoppingCriterion):
    """A criterion that is a function."""

    function: Callable[[Sequence], Any] = lambda sequence: None

    def __call__(self, sequence: Sequence) -> StopReason | None:
        reason: StopReason | None = self.function(sequence)
        return reason


REASON = StopReason("test")
ASKED: list[Any] = []


def every_second_call(sequence: Sequence) -> Any:
    ASKED.append(sequence.length)
    return REASON if len(ASKED) % 2 else None


def hoard(sequence: Sequence) -> Any:
    ASKED.append(sequence)


def dice(sequence: Sequence) -> Any:
    random.random()


@dataclass(frozen=True)
class Bounded(Asking):
    bounded: ClassVar[bool] = True


@dataclass(frozen=True)
class Near(Bounded):
    def bound(self, prompt: Sequence) -> int:
        return 2


@dataclass(frozen=True)
class Unclaimed(Asking):
    def bound(self, prompt: Sequence) -> int:
        return 2


@dataclass(frozen=True)
class Patience(StoppingCriterion):
    """Counts its calls, whoever is asked about."""

    calls: list[int] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "calls", [])

    def __call__(self, sequence: Sequence) -> StopReason | None:
        if sequence.length not in self.calls:
            self.calls.append(sequence.length)
        return REASON if len(self.calls) > 2 else None


@dataclass(frozen=True)
class Greedily(Asking):
    """Cannot be negated."""

    def __invert__(self) -> Any:
        return self


def after(count: int) -> Callable[[Sequence], Any]:
    return lambda sequence: REASON if sequence.generated_length >= count else None


def at_third(sequence: Sequence) -> Any:
    return REASON if sequence.generated_length == 3 else None


def cut(end: int) -> Callable[[Sequence], Any]:
    return lambda sequence: StopReason("test", "", end) if sequence.generated_length >= 3 else None


@pytest.mark.parametrize(
    ("law", "name", "criterion", "match"),
    [
        (law_stopping_reason, "Reason", Asking(lambda sequence: False), "False for"),
        (law_stopping_reason, "Reason", Asking(lambda sequence: StopReason("")), "a name"),
        (law_stopping_purity, "Purity", Asking(every_second_call), "when asked again"),
        (law_stopping_purity, "Purity", Asking(hoard), "sequences still held"),
        (law_stopping_purity, "Purity", Asking(dice), "global state of `random`"),
        (law_stopping_isolation, "Isolation", Patience(), "asked after others"),
        (law_stopping_bound, "Bound", Bounded(), "no stop within"),
        (law_stopping_bound, "Bound", Bounded(at_third), "a stop that stays"),
        (law_stopping_bound, "Bound", Near(after(3)), "at most its bound of 2"),
        (law_stopping_bound, "Bound", Unclaimed(after(2)), "without a claim to end"),
        (law_stopping_text, "Text", Asking(cut(99)), "between 0 and 3"),
        (law_stopping_text, "Text", Asking(cut(1)), "a larger `withheld`"),
        (law_stopping_combination, "Combination", Greedily(), "from ~c"),
    ],
)
def test_stopping_criterion(law: Callable[..., None], name: str, criterion: Any, match: str) -> None:
    ASKED.clear()
    breaks(law, name, criterion, match=match)
    ASKED.clear()


def test_an_honest_criterion_breaks_nothing() -> None:
    for law in (law_stopping_reason, law_stopping_purity, law_stopping_isolation, law_stopping_text):
        law(Bounded(after(3)))
    law_stopping_bound(Bounded(after(3)))
    law_stopping_combination(Bounded(after(3)))


def test_check_stopping_is_one_line() -> None:
    check_stopping(Eos())
    with pytest.raises(AssertionError, match=r"^Configuration: `Asking` gave "):
        check_stopping(Asking())


def test_every_name_of_the_module_is_there() -> None:
    for name in testing.__all__:
        if name != "check_runner":
            assert callable(getattr(testing, name))
    with pytest.raises(AttributeError, match="no attribute `check_nothing`"):
        testing.check_nothing  # noqa: B018


@pytest.mark.parametrize(("kind", "value"), [(od.Greedy, "a word"), (od.Speculative, True)])
def test_a_plugin_is_tried_where_a_plugin_belongs(kind: Any, value: Any) -> None:
    assert value in _absurd(kind())["processors"]
    assert True in _absurd(od.BeamSearch())["num_beams"]
