"""Traces: what a finished text's model and chain said at every token, found again by asking the model."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ovdecode.candidates import Candidates
from ovdecode.engine import Engine, Task
from ovdecode.forward import Forward, Logits
from ovdecode.processor import LogitsProcessor, trace
from ovdecode.random import Random
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding, Outcome, Strategy, gather, outcome

CHUNK = 32
"""How many rows of logits are asked for at once: they are what a trace takes memory for."""
MAX_LIVE = 8
"""How many texts are traced at once."""


@dataclass(frozen=True)
class Alternative:
    """A token that could have come at a position.

    Attributes:
        token: its id.
        probability: the model's own.
        left: its probability after the whole chain; 0 if a stage removed it.
        removed_by: which stage of the chain removed it, counted from 0; None if it was left.
    """

    token: int
    probability: float
    left: float
    removed_by: int | None


@dataclass(frozen=True)
class Position:
    """What was possible at one token of a text.

    Attributes:
        alternatives: the most probable tokens, and the one that was chosen, best first.
        removed: for each stage of the chain, how many tokens it removed and the probability that they had.
    """

    alternatives: tuple[Alternative, ...]
    removed: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Trace:
    """A text seen token by token.

    Attributes:
        stages: spec strings of the strategy's processors, in order.
        positions: one for each token of the text.
    """

    stages: tuple[str, ...]
    positions: tuple[Position, ...]


@dataclass(frozen=True)
class Explored:
    """A decoding done again, with everything that it asked about.

    Attributes:
        tokens: what it decoded.
        branches: the generated tokens of every sequence that it asked its model about or returned, and that is not the
            beginning of another such; in rising order.
    """

    tokens: tuple[int, ...]
    branches: tuple[tuple[int, ...], ...]


def trace_texts(texts: Iterable[tuple[Task, tuple[int, ...], int]], alternatives: int = 8) -> list[Trace | Exception]:
    """Trace finished texts, all of them in one batch.

    Args:
        texts: for each, the task, the tokens that came of it, and how many tokens of the prompt these stand for again
            (`taken_back` of a generation).
        alternatives: how many of the most probable tokens are kept at each position.

    Returns:
        For each text its trace, or what went wrong with it.
    """
    return _found(
        replace(
            task,
            strategy=_Tracing(
                chain_of=task.method.chain, tokens=tokens, taken_back=taken_back, alternatives=alternatives
            ),
            max_new_tokens=1,
            stop=None,
            ignore_eos=True,
        )
        for task, tokens, taken_back in texts
    )


def explore(tasks: Iterable[Task]) -> list[Explored | Exception]:
    """Decode again, all tasks in one batch, and tell what each strategy asked about.

    Returns:
        For each task what it explored, or what went wrong with it.
    """
    return _found(replace(task, strategy=_Exploring(strategy=task.method)) for task in tasks)


def _found(tasks: Iterable[Task]) -> list[Any]:
    """What the observers that the tasks run have found, or what went wrong, in the order of the tasks."""
    found: dict[int, Any] = {}
    for generation in Engine(max_live=MAX_LIVE).run(tasks):
        observer = generation.task.strategy
        assert isinstance(observer, _Observer)
        found[generation.index] = generation.error or observer.found[0]
    return [found[index] for index in range(len(found))]


@dataclass(frozen=True)
class _Observer(Strategy):
    """A strategy that is run for what it notes, not for what it decodes."""

    found: list[Any] = field(default_factory=list, init=False)


@dataclass(frozen=True)
class _Tracing(_Observer):
    chain_of: LogitsProcessor = field(kw_only=True)
    tokens: tuple[int, ...] = field(kw_only=True)
    taken_back: int = field(kw_only=True)
    alternatives: int = field(kw_only=True)

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Ask about every position of a text."""
        sequence = prompt.reopen(self.taken_back) + self.tokens
        nodes = sequence.path(sequence.prompt_length)
        positions: list[Position] = []
        for start in range(0, len(nodes), CHUNK):
            chunk = nodes[start : start + CHUNK]
            before = chunk[-1].parent
            assert before is not None
            rows = yield Forward(before, last=len(chunk))  # (chunk, vocab)
            positions += [self._position(node, logits) for node, logits in zip(chunk, rows, strict=True)]
        self.found.append(Trace(tuple(map(str, self.chain_of.stages)), tuple(positions)))
        return prompt

    def _position(self, node: Sequence, logits: Logits) -> Position:
        assert node.parent is not None
        candidates = Candidates.after(node.parent, logits)
        stages = trace(self.chain_of, candidates, node.parent)
        shown = np.union1d(candidates.top(self.alternatives).ids, [node.token])
        removed_by: dict[int, int] = {}
        for place, stage in enumerate(stages):
            left = stage.candidates.only(shown)
            for token in np.setdiff1d(shown, left.ids[left.logits > -np.inf]).tolist():
                removed_by.setdefault(token, place)
        before = candidates.probabilities_of(shown)
        after = stages[-1].candidates.probabilities_of(shown) if stages else before
        alternatives = [
            Alternative(int(shown[at]), float(before[at]), float(after[at]), removed_by.get(int(shown[at])))
            for at in np.argsort(-before, kind="stable")
        ]
        return Position(tuple(alternatives), tuple((stage.removed_tokens, stage.removed_mass) for stage in stages))


@dataclass(frozen=True)
class _Exploring(_Observer):
    strategy: Strategy = field(kw_only=True)

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Let the strategy decode, and note what it asks its model about."""
        asked: set[tuple[int, ...]] = set()
        with closing(gather([self.strategy.decode(prompt, stop, rng)])) as running:
            answers: Any = None
            while True:
                try:
                    wanted = running.send(answers)
                except StopIteration as finished:
                    result: Sequence | Outcome = finished.value[0]
                    break
                for request in wanted:
                    if isinstance(request, Sequence) or request.own:
                        sequence = request if isinstance(request, Sequence) else request.sequence
                        asked.add(tuple(sequence.generated.tolist()))
                answers = yield wanted
        found = outcome(result)
        asked |= {tuple(each.sequence.generated.tolist()) for each in found.hypotheses}
        self.found.append(Explored(tuple(found.sequence.generated.tolist()), _ends(asked)))
        return result


def _ends(sequences: set[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Those that are not the beginning of another: in rising order, what continues a sequence comes right after it."""
    ordered = sorted(sequences)
    following = [*ordered[1:], ()]
    return tuple(each for each, after in zip(ordered, following, strict=True) if after[: len(each)] != each)
