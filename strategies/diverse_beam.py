"""Diverse beam search: groups of beams that avoid what the groups before them chose."""

from __future__ import annotations

import math
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.plugin import require
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.beams import BeamStrategy, Search
from ovdecode.strategies.extensions import Extensions, Finished, next_tokens, require_positive
from ovdecode.strategy import Decoding, Hypothesis


@register("diverse_beam")
@dataclass(frozen=True)
class DiverseBeamSearch(BeamStrategy):
    """Beam search in groups, one after another in each round, each of which is to differ from those before it.

    Law: each of the G groups is a beam search of width num_beams / G of its own. In each round, group g takes
    from the log-probability of token v, for every earlier group h, diversity_penalty · Δ_h(v). `hamming`:
    Δ_h(v) is how many beams of h were extended by v in this round. `cumulative`: Δ_h(v) is
    exp(−D / diversity_temperature), where D counts, over all beams of h and all generated positions, where
    that beam differs from the extension by v. Sums and scores contain the penalties. The finished sequences
    of all groups are ranked by score; no randomness is used.
    Source: Vijayakumar et al. 2016, "Diverse Beam Search: Decoding Diverse Solutions from Neural Sequence
    Models" (arXiv:1610.02424), who find 0.2 to 0.8 good for the penalty; what is finished, and when a group
    ends, is as in beam search. As in openvino.genai, the beams of h are those that run on (fairseq counts
    all 2 · width best extensions).

    Args:
        num_beam_groups: how many groups; `num_beams` must be a multiple of it. One is beam search.
        diversity_penalty: at least 0.
        diversity: `hamming` or `cumulative`.
        diversity_temperature: how much unlikeness makes groups free of each other; above 0, for `cumulative`.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner({(): [3.0, 2.8, 0.0]}))
        >>> strategy = od.DiverseBeamSearch(2, num_beam_groups=2, diversity_penalty=1.0, num_return_sequences=2)
        >>> [each.tokens for each in model.generate([0], strategy, max_new_tokens=3).alternatives]
        [(0, 0, 0), (1, 1, 1)]
    """

    aliases = ("group_beam_search",)

    num_beam_groups: int = 2
    diversity_penalty: float = 0.5
    diversity: Literal["hamming", "cumulative"] = "hamming"
    diversity_temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "num_beam_groups")
        divides = self.num_beams % self.num_beam_groups == 0
        require(self, "num_beam_groups", divides, f"a divisor of `num_beams`, which is {self.num_beams}")
        sound = math.isfinite(self.diversity_penalty) and self.diversity_penalty >= 0
        require(self, "diversity_penalty", sound, "a finite number of at least 0")
        require(self, "diversity", self.diversity in ("hamming", "cumulative"), "hamming or cumulative")
        sound = math.isfinite(self.diversity_temperature) and self.diversity_temperature > 0
        require(self, "diversity_temperature", sound, "a finite number above 0")

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Ask about the beams of all groups at once, then extend group by group."""
        if stop(prompt):
            return prompt
        size = self.num_beams // self.num_beam_groups
        groups = [Search(self, prompt, stop, size) for _ in range(self.num_beam_groups)]
        while live := [group for group in groups if group.running]:
            answers = iter((yield [beam.sequence for group in live for beam in group.running]))
            chosen = list[list[Hypothesis]]()
            for group in live:
                # A penalty moves no more tokens than there are beams before these: so many more are enough.
                enough = group.width + sum(map(len, chosen))
                tokens = [
                    self._diverse(
                        next_tokens(self, next(answers), beam.sequence, enough), beam.sequence, prompt, chosen
                    )
                    for beam in group.running
                ]
                best = [each.top(group.width) for each in tokens]
                group.take(Extensions.by(group.running, best).best(None if group.rules.any_rank else group.width))
                chosen.append(group.chosen)
        found = Finished(self.num_beams)
        found.add(each for group in groups for each in group.finished.hypotheses)
        return found.outcome(self, self.num_return_sequences)

    def _diverse(
        self, tokens: Candidates, sequence: Sequence, prompt: Sequence, chosen: Items[list[Hypothesis]]
    ) -> Candidates:
        """The next tokens of a beam, less what they have in common with the groups before it."""
        logprobs = tokens.logits.astype(np.float64)
        for beams in filter(None, chosen):
            same = np.zeros(len(tokens))  # how many of the beams end with each token
            for beam in beams:
                same[tokens.positions(np.array([beam.sequence.token]))] += 1
            alike = same if self.diversity == "hamming" else self._fading(same, sequence, prompt, beams)
            logprobs -= self.diversity_penalty * alike
        return tokens.with_logits(logprobs)

    def _fading(
        self, same: NDArray[np.float64], sequence: Sequence, prompt: Sequence, beams: list[Hypothesis]
    ) -> NDArray[np.float64]:
        before = sequence.tokens[prompt.length :]
        different = sum(np.count_nonzero(beam.sequence.tokens[prompt.length : -1] != before) for beam in beams)
        return np.exp(-(different + len(beams) - same) / self.diversity_temperature)
