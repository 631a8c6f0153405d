"""What proposers share that draw one token after another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator
from typing import Any

from ovdecode.candidates import Candidates
from ovdecode.errors import DeadEnd
from ovdecode.forward import Forward, Logits
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.proposer import Law, Proposer, Proposing, chain
from ovdecode.random import Random
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop


class Drawing(Proposer):
    """Decodes up to `num_tokens` tokens from logits that are not the verifying strategy's own, by its law.

    A draft ends after a token that those logits gave less than `threshold`. Leaving that very token out would make
    those that stay more probable than what they were drawn from says. It also ends where nothing is left to draw.

    Subclass it as a frozen dataclass with these parameters, in an order of its own, and write `ask`.
    """

    num_tokens: int
    threshold: float | None
    processors: LogitsProcessor

    def __post_init__(self) -> None:
        require(self, "num_tokens", self.num_tokens >= 1, "at least 1")
        above = self.threshold is None or 0 < self.threshold <= 1
        require(self, "threshold", above, "above 0 and at most 1, or none")

    @abstractmethod
    def ask(self, sequence: Sequence) -> Generator[Forward, Any, Logits]:
        """Ask for the logits to draft from after `sequence`, shape (vocab,)."""

    def propose(self, sequence: Sequence, stop: Stop, law: Law, rng: Random) -> Proposing:
        """Draw token after token."""
        drawn: list[tuple[int, Candidates | None]] = []
        while len(drawn) < self.num_tokens and not stop(sequence):
            logits = yield from self.ask(sequence)
            try:
                processed = self.processors(Candidates(logits), sequence)
                candidates = law(processed.spread(len(logits)), sequence)
                drawn.append((candidates.draw(rng), candidates))
            except DeadEnd:
                break
            sequence += drawn[-1][0]
            if self.threshold is not None and processed.probabilities_of(sequence.tokens[-1:])[0] < self.threshold:
                break
        return chain(drawn)
