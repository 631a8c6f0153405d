"""What beam searches share: their parameters, and what runs on and what is finished after a round."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from ovdecode.forward import Logits
from ovdecode.plugin import require
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.extensions import (
    Extensions,
    Finished,
    Formula,
    final_score,
    length_bound,
    likeliest,
    next_tokens,
    require_positive,
)
from ovdecode.strategy import Hypothesis, Strategy

Preset = Literal["hf", "genai", "fairseq", "vllm"]


@dataclass(frozen=True)
class Rules:
    """Where engines differ.

    Attributes:
        any_rank: every extension that ends is finished, not only those among the `num_beams` best.
        whole_length: the length counts the prompt, and leaves out an end-of-text token.
        first_come: the first `num_beams` finished sequences are final, and then the search ends.
        looks_back: the early stop looks at the beams as they were before the round, and drops those that the bound on
            the length would finish.
        exhaustive: the search goes on as long as anything runs.
    """

    any_rank: bool = False
    whole_length: bool = False
    first_come: bool = False
    looks_back: bool = False
    exhaustive: bool = False


RULES: dict[str, Rules] = {
    "hf": Rules(),
    "genai": Rules(looks_back=True),
    "fairseq": Rules(first_come=True),
    "vllm": Rules(any_rank=True, whole_length=True, exhaustive=True),
}


@dataclass(frozen=True)
class BeamStrategy(Strategy):
    """A search that keeps a bounded number of sequences running.

    Args:
        num_beams: width of the search; at least 1.
        length_penalty: the exponent of the length; above 0 favours long sequences, 0 compares plain sums.
        early_stopping: when to end once `num_beams` sequences are finished. True: at once. False: when the best running
            beam, scored at its present length, would not enter them. "never": when it would not even at the length that
            favours it most (with a length penalty above 0, the longest that the stop allows).
        num_return_sequences: how many of the finished sequences are returned; at most `num_beams`.
        score: `length` for sum / length ** length_penalty, or `gnmt` for sum / ((5 + length) / 6) ** length_penalty.
        preset: whose rules. `hf`: those of transformers, described here. `genai`: openvino.genai, whose stop criteria
            EARLY, HEURISTIC and NEVER are True, False and "never" here; it asks whether a beam may improve before it
            appends the round's tokens. `fairseq`: the first `num_beams` finished sequences are final and end the search
            (at its bound fairseq forces the end of text, which takes a processor). `vllm`: every extension that ends is
            finished, whatever its rank; the length counts the prompt and not the end of text; nothing ends the search
            early. The last two have no `early_stopping`.
    """

    commits: ClassVar[bool] = False

    num_beams: int = 4
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    num_return_sequences: int = 1
    score: Formula = "length"
    preset: Preset = "hf"

    def __post_init__(self) -> None:
        require_positive(self, "num_beams")
        require(self, "length_penalty", math.isfinite(self.length_penalty), "a finite number")
        known = isinstance(self.early_stopping, bool) or self.early_stopping == "never"
        require(self, "early_stopping", known, 'true, false or "never"')
        fits = 1 <= self.num_return_sequences <= self.num_beams
        require(self, "num_return_sequences", fits, f"between 1 and `num_beams`, which is {self.num_beams}")
        require(self, "score", self.score in get_args(Formula), "length or gnmt")
        require(self, "preset", self.preset in list(RULES), "hf, genai, fairseq or vllm")
        own = self.preset in ("hf", "genai") or self.early_stopping is False
        require(self, "early_stopping", own, f"left out with the preset {self.preset}, which has its own rule")


class Search:
    """One beam search under way.

    Attributes:
        running: the beams to extend, best first; none when the search has ended.
        chosen: those that the last round chose to run on, even if the search, or the bound on the length, then ended.
        finished: the best finished sequences.

    Args:
        strategy: its parameters.
        prompt: where it starts.
        stop: what ends a sequence.
        num_beams: how many beams run; by default the strategy's.
    """

    def __init__(self, strategy: BeamStrategy, prompt: Sequence, stop: Stop, num_beams: int | None = None) -> None:
        self.strategy, self.prompt, self.stop = strategy, prompt, stop
        self.num_beams = num_beams or strategy.num_beams
        self.rules, self.bound = RULES[strategy.preset], length_bound(stop, prompt)
        self.width = max(2, 1 + len(prompt.vocabulary.eos_token_ids)) * self.num_beams
        self.running = self.chosen = [Hypothesis(prompt, 0.0)]
        self.finished = Finished(self.num_beams)

    def best(self, rows: Items[Logits]) -> Iterator[Hypothesis]:
        """The best extensions of the running beams, best first, given the logits after each."""
        if self.rules.any_rank:
            pairs = zip(self.running, rows, strict=True)
            tokens = [next_tokens(self.strategy, logits, beam.sequence, self.width) for beam, logits in pairs]
            return Extensions.by(self.running, tokens).best()
        return likeliest(self.strategy, self.running, rows, self.width).best(self.width)

    def take(self, ranked: Iterable[Hypothesis]) -> None:
        """Go on with the best extensions, given best first."""
        running, ended = list[Hypothesis](), list[Hypothesis]()
        for rank, extension in enumerate(ranked):
            if self.ends(extension.sequence):
                if rank < self.num_beams or self.rules.any_rank:
                    ended.append(extension)
            elif len(running) < self.num_beams:
                running.append(extension)
            if len(running) == self.num_beams and not self.rules.any_rank:
                break
        self.advance(running, ended)

    def ends(self, sequence: Sequence) -> bool:
        """Whether a sequence is finished, other than by the bound on the length alone."""
        at_bound = sequence.length - self.prompt.length == self.bound
        if at_bound:
            return sequence.token in sequence.vocabulary.eos_token_ids
        return bool(self.stop(sequence))

    def advance(self, running: list[Hypothesis], ended: list[Hypothesis]) -> None:
        """Run on with some, and finish others; unless that ends the search."""
        before, self.chosen = self.running[0], sorted(running, key=lambda each: -each.score)
        self._finish(ended)
        over = self._decided(before if self.rules.looks_back else next(iter(self.chosen), None))
        cut = bool(running) and running[0].sequence.length - self.prompt.length == self.bound
        if cut and not (over and self.rules.looks_back):
            self._finish(self.chosen)
        self.running = [] if cut or over else self.chosen

    def _finish(self, ended: list[Hypothesis]) -> None:
        if self.rules.first_come:
            ended = ended[: self.num_beams - len(self.finished.hypotheses)]
        self.finished.add(Hypothesis(each.sequence, self._score(each.score, self._length(each))) for each in ended)

    def _score(self, total: float, length: float) -> float:
        return final_score(total, length, self.strategy.length_penalty, self.strategy.score)

    def _length(self, beam: Hypothesis) -> int:
        sequence = beam.sequence
        if not self.rules.whole_length:
            return sequence.length - self.prompt.length
        return sequence.length - (sequence.token in sequence.vocabulary.eos_token_ids)

    def _decided(self, best: Hypothesis | None) -> bool:
        """Whether the best running beam is not to enter the finished ones any more."""
        if best is None or self.rules.exhaustive or not self.finished.full:
            return False
        if self.rules.first_come or self.strategy.early_stopping is True:
            return True
        length: float = best.sequence.length - self.prompt.length
        if self.strategy.early_stopping == "never" and self.strategy.length_penalty > 0:
            length = math.inf if self.bound is None else self.bound
        return length > 0 and self._score(best.score, length) <= self.finished.worst
