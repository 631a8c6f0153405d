"""Jacobi decoding: the model corrects its own guess at what follows, all tokens at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from ovdecode.plugin import require
from ovdecode.proposer import continuations
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.greedy import Greedy
from ovdecode.strategies.verification import Verifier
from ovdecode.strategy import Decoding, Stepwise, Strategy


@register("jacobi")
@dataclass(frozen=True)
class Jacobi(Strategy):
    """What another strategy would decode, from guesses that the model improves in parallel.

    After the decided tokens stand `num_tokens` guesses. One inference gives the model's best token at every position;
    what is verified is decided, and the best tokens at the other positions are the next guesses. The first ones repeat
    the last token.

    Law: exactly that of `strategy` on the same logits. A guess is a certain draft, verified as by `speculative`.
    Source: Santilli et al. 2023, "Accelerating Transformer Inference for Translation via Parallel Decoding", who keep a
    block until it is right throughout; here it moves on with every token that is decided.

    `info` is that of `speculative`. A model that is not trained for it is seldom right about a token whose
    predecessor it does not know: expect few fewer inferences than tokens.

    Args:
        strategy: whose law is kept; one that draws token by token.
        num_tokens: how many tokens are guessed; at least 1.
        processors: applied before the processors of `strategy`.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[0, 9, 0], [0, 9, 0], [0, 9, 0]]))
        >>> generation = model.generate([0], od.Jacobi(num_tokens=3), max_new_tokens=8)
        >>> generation.tokens, generation.info["rounds"]
        ((1, 1, 1, 1, 1, 1, 1, 1), 3)
    """

    aliases = ("jacobi_decoding",)

    commits: ClassVar[bool] = True

    strategy: Stepwise = field(default=Greedy())
    num_tokens: int = 4

    def __post_init__(self) -> None:
        require(self, "num_tokens", self.num_tokens >= 1, "at least 1")

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Verify the guesses, and guess again from the same logits."""
        law = replace(self.strategy, processors=self.processors | self.strategy.processors).law
        sequence, verifier = prompt, Verifier(law, stop, rng)
        guesses: list[int] = []
        while not stop(sequence):
            guesses += [guesses[-1] if guesses else sequence.token] * (self.num_tokens - len(guesses))
            guessed = sequence + guesses
            round_ = yield from verifier.verify(sequence, continuations([guesses]))
            sequence = round_.sequence
            wrong = [node for node in guessed.path(sequence.length - 1) if node in round_.logits]
            guesses = [int(round_.logits[node].argmax()) for node in wrong]
        return verifier.outcome(sequence)
