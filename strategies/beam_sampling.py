"""Beam search that draws its extensions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ovdecode.candidates import Candidates
from ovdecode.errors import DeadEnd
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.beams import BeamStrategy, Search
from ovdecode.strategies.extensions import next_tokens
from ovdecode.strategy import Decoding, Hypothesis


@register("beam_sampling")
@dataclass(frozen=True)
class BeamSampling(BeamStrategy):
    """Beam search whose extensions are drawn at random, without replacement, in the place of the best ones.

    Law: each round forms all extensions of all running beams, with the sum of processed log-probabilities
    s of each, and draws K of them (all if there are fewer) one after another, each with a probability
    proportional to exp(s) among those not drawn yet; K is num_beams · max(2, 1 + number of end-of-text
    tokens). Those of the first `num_beams` drawn that the stop ends are finished; of all others drawn that it
    does not end, the `num_beams` with the largest sums run on. Scores and the end of the search are those of
    beam search.
    Source: transformers 5, `GenerationMixin._beam_search` with `do_sample=True` (beam-search multinomial
    sampling), where `torch.multinomial` makes the draws.

    As in transformers, processors work on log-probabilities, and what they leave is not normalised again:
    a temperature sharpens or flattens the last token's share in the sum alone.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[0, 1, 9], [9, 0, 1], [1, 9, 0]]))
        >>> model.generate([0], od.BeamSampling(num_beams=2), max_new_tokens=3).tokens
        (2, 1, 0)
    """

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Draw extensions, set aside what is finished, go on with the best of the rest."""
        if stop(prompt):
            return prompt
        search = Search(self, prompt, stop)
        while beams := search.running:
            rows = yield [beam.sequence for beam in beams]
            tokens = [next_tokens(self, logits, beam.sequence) for logits, beam in zip(rows, beams, strict=True)]
            drawn = _draw(beams, tokens, search.width, rng)
            ends = [bool(stop(each.sequence)) for each in drawn]
            running = [each for each, end in zip(drawn, ends, strict=True) if not end]
            count = len(drawn) if search.rules.any_rank else self.num_beams
            search.advance(
                sorted(running, key=lambda each: -each.score)[: self.num_beams],
                [each for each, end in zip(drawn[:count], ends, strict=False) if end],
            )
        return search.finished.outcome(self, self.num_return_sequences)


def _draw(beams: list[Hypothesis], tokens: list[Candidates], count: int, rng: Random) -> list[Hypothesis]:
    """At most `count` different extensions, in the order in which they are drawn: first the beam, then its token."""
    drawn = list[Hypothesis]()
    left = [each for each in zip(beams, tokens, strict=True) if len(each[1])]
    sums = np.array([beam.score + each.logsumexp for beam, each in left])
    while left:
        index = rng.choose(np.exp(sums - sums.max()))
        beam, each = left[index]
        token = each.draw(rng)
        place = each.positions(np.array([token]))
        drawn.append(Hypothesis(beam.sequence + token, beam.score + float(each.logits[place[0]])))
        if len(drawn) == count:
            break
        try:
            left[index] = beam, each.replaced(place, -np.inf)
            sums[index] = beam.score + left[index][1].logsumexp
        except DeadEnd:  # that was the last one of this beam
            del left[index]
            sums = np.delete(sums, index)
    return drawn
