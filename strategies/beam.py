"""Beam search."""

from __future__ import annotations

from dataclasses import dataclass

from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.beams import BeamStrategy, Search
from ovdecode.strategy import Decoding


@register("beam")
@dataclass(frozen=True)
class BeamSearch(BeamStrategy):
    """The best sequences that a search of bounded width finds; no randomness is used.

    Law: each round extends every running beam by every token and ranks the extensions by their summed
    log-probability. Of the best `num_beams`, those that the stop ends are finished, with the score
    sum / length ** length_penalty; the best `num_beams` of the others run on. The best finished ones are
    kept, `num_beams` of them, until all running beams are stopped or nothing better is to be expected.
    Source: Lowerre 1976, "The Harpy Speech Recognition System"; scores and stopping rules as in
    transformers 5 (`GenerationMixin._beam_search`), or of another engine by `preset`; `score="gnmt"` as in
    Wu et al. 2016, "Google's Neural Machine Translation System" (arXiv:1609.08144).

    As in transformers, processors work on log-probabilities, and what they leave is not normalised again. A
    beam for which they leave no token is dropped. One beam is greedy decoding.

    Example:
        >>> import ovdecode as od
        >>> rows = {(0,): [-9, 5, 5.1, -9], (1,): [-9, -9, -9, 9], (): [0, 0, 0, 0]}
        >>> model = od.Model(od.TableRunner(rows))
        >>> model.generate([0], od.Greedy(), max_new_tokens=2).tokens
        (2, 0)
        >>> model.generate([0], od.BeamSearch(num_beams=2), max_new_tokens=2).tokens
        (1, 3)
    """

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Extend all beams, set aside what is finished, go on with the best of the rest."""
        if stop(prompt):
            return prompt
        search = Search(self, prompt, stop)
        while beams := search.running:
            rows = yield [beam.sequence for beam in beams]
            search.take(search.best(rows))
        return search.finished.outcome(self, self.num_return_sequences)
