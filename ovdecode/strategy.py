"""A strategy is a generator: it yields the sequences whose next-token logits it wants, and is sent the logits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import Any, ClassVar, TypeAlias

from ovdecode.candidates import Candidates
from ovdecode.errors import StrategyError
from ovdecode.forward import Forward, Logits
from ovdecode.plugin import Plugin
from ovdecode.processor import Chain, LogitsProcessor
from ovdecode.random import Random
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop

Request: TypeAlias = Sequence | Forward


@dataclass(frozen=True)
class Hypothesis:
    """A finished sequence with the score that its strategy ranks it by (higher is better)."""

    sequence: Sequence
    score: float


@dataclass(frozen=True)
class Outcome:
    """What a strategy found.

    Attributes:
        hypotheses: best first; at least one.
        info: diagnostics by name, such as how many drafted tokens were accepted.
    """

    hypotheses: tuple[Hypothesis, ...]
    info: Mapping[str, float] = field(default_factory=dict)

    @property
    def sequence(self) -> Sequence:
        """The best sequence."""
        return self.hypotheses[0].sequence


Decoding: TypeAlias = Generator["Request | list[Request]", Any, Sequence | Outcome]
"""A running strategy. One request gets one answer, a list gets a list; the return value is what was decoded."""


@dataclass(frozen=True)
class Strategy(Plugin):
    """How tokens are chosen. Subclass it as a frozen dataclass and write `decode`.

    Args:
        processors: applied to the model's logits before the method sees them.
    """

    family: ClassVar[str] = "strategy"

    processors: LogitsProcessor = field(default=Chain(), kw_only=True)

    @property
    def commits(self) -> bool:
        """Whether each request only extends what is already decided, so that text can be shown while it grows: what
        comes before the first position asked about is final. False for beam search; a strategy of which it is true,
        such as greedy decoding, says `commits: ClassVar[bool] = True`."""
        return False

    @property
    def chain(self) -> LogitsProcessor:
        """Everything that is applied to the model's logits before a token is chosen, in order: the processors, then
        those of an inner `strategy`."""
        inner = getattr(self, "strategy", None)
        return self.processors | inner.chain if isinstance(inner, Strategy) else self.processors

    @abstractmethod
    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Decode from `prompt` until `stop(sequence)` gives a reason.

        Args:
            prompt: where to start.
            stop: asked about each finished candidate; truthy when it ends here.
            rng: the only source of randomness.

        Yields:
            A sequence, a `Forward`, or a list of these; is sent the logits, or a list of them.

        Returns:
            The decoded sequence, or an `Outcome` with several.
        """

    def candidates(self, logits: Logits, sequence: Sequence) -> Candidates:
        """What this strategy's processors leave of the logits after `sequence`."""
        return self.processors(Candidates.after(sequence, logits), sequence)


@dataclass(frozen=True)
class Stepwise(Strategy):
    """A strategy that draws one token after another. Subclass it and write `law`.

    The law of a token depends on the model's logits and the tokens before it, and on nothing else: so another strategy
    may draw from it in another order, several tokens at a time (`Speculative`), with the same result.
    """

    described: ClassVar[str] = (
        "one that draws token by token, such as greedy, sampling or gumbel; guidance, such as cfg or dola, "
        "goes around this strategy and not inside"
    )
    commits: ClassVar[bool] = True

    @abstractmethod
    def law(self, logits: Logits, sequence: Sequence) -> Candidates:
        """What the token after `sequence` is drawn from; a single candidate is certain."""

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Extend by a draw until the stop."""
        sequence = prompt
        while not stop(sequence):
            logits = yield sequence
            sequence += self.law(logits, sequence).draw(rng)
        return sequence


def outcome(value: Sequence | Outcome) -> Outcome:
    """The return value of any strategy, as an `Outcome`; a bare sequence is scored by its log-probability.

    Raises:
        StrategyError: if it is neither, or a score or a value of `info` is no number.
    """
    if isinstance(value, Outcome):
        _check_numbers(value)
        return value
    if not isinstance(value, Sequence):
        raise StrategyError(
            f"a strategy must return a Sequence or an Outcome, but returned {type(value).__name__}: {value!r:.80}"
        )
    return Outcome((Hypothesis(value, value.logprob),))


def _check_numbers(found: Outcome) -> None:
    for hypothesis in found.hypotheses or ():
        if isinstance(hypothesis, Hypothesis) and not isinstance(hypothesis.score, Real):
            raise StrategyError(
                f"the score of a Hypothesis must be a real number, but is {type(hypothesis.score).__name__}: "
                f"{hypothesis.score!r:.80}; convert it with float()"
            )
    if not isinstance(found.info, Mapping):
        raise StrategyError(f"`info` of an Outcome must be a mapping of names to numbers, got {found.info!r:.80}")
    for name, number in found.info.items():
        if not isinstance(name, str):
            raise StrategyError(f"a name in `info` of an Outcome must be text, got {name!r:.80}")
        if not isinstance(number, Real):
            raise StrategyError(
                f"`{name}` in `info` of an Outcome must be a real number, but is {type(number).__name__}: "
                f"{number!r:.80}; leave it out, or say it in numbers"
            )


def requests_of(value: Any, asker: Callable[[], str]) -> list[Request]:
    """What a decoding yielded, as a list of requests.

    Args:
        value: a request, or a list of at least one.
        asker: tells who yielded it; the error begins with that.

    Raises:
        StrategyError: for anything else.
    """
    requests: list[Request] = value if isinstance(value, list) else [value]
    if not requests:
        raise StrategyError(f"{asker()} must yield at least one request, but yielded an empty list")
    for item in requests:
        if not isinstance(item, Sequence | Forward):
            raise StrategyError(
                f"{asker()} must yield a Sequence, a Forward, or a list of these, but yielded "
                f"{type(item).__name__}: {item!r:.80}"
            )
    return requests


def gather(decodings: Iterable[Decoding]) -> Generator[list[Request], Any, list[Sequence | Outcome]]:
    """Run several decodings inside one strategy, in one batch: `results = yield from gather(...)`.

    Each round asks for what all unfinished decodings want. Results come in the order of the decodings. If one raises,
    all are closed and the error goes on.

    Raises:
        StrategyError: if one is no generator, or yields anything but requests.
    """
    running = list(decodings)
    for index, decoding in enumerate(running):
        if not hasattr(decoding, "send"):
            raise StrategyError(
                f"decoding {index} of `gather` must be a generator (use `yield` in `decode`), but is "
                f"{type(decoding).__name__}: {decoding!r:.80}"
            )
    results: dict[int, Sequence | Outcome] = {}
    wanted: dict[int, Request | list[Request]] = {}

    def resume(index: int, answer: Any) -> None:
        try:
            wanted[index] = running[index].send(answer)
        except StopIteration as finished:
            wanted.pop(index, None)
            results[index] = finished.value

    try:
        for index in range(len(running)):
            resume(index, None)
        while wanted:
            asked = list(wanted.items())
            answers = yield [
                request
                for index, want in asked
                for request in requests_of(want, partial("decoding {} of `gather`".format, index))
            ]
            given = iter(answers)
            for index, want in asked:
                resume(index, [next(given) for _ in want] if isinstance(want, list) else next(given))
    finally:
        for decoding in running:
            decoding.close()
    return [results[index] for index in range(len(running))]
