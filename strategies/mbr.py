"""Minimum Bayes risk decoding: of several texts, the one that agrees best with all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from math import fsum
from typing import Literal

import numpy as np

from ovdecode.plugin import one_of, require
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.pruning import prune
from ovdecode.strategies.sampling import Sampling
from ovdecode.strategies.several import decodings, finish, shown_text
from ovdecode.strategies.utilities.overlap import Chrf
from ovdecode.strategy import Decoding, Hypothesis, Outcome, Strategy
from ovdecode.utility import Utility


@register("mbr")
@dataclass(frozen=True)
class Mbr(Strategy):
    """Of n decodings by another strategy, the one with the highest expected utility, references being decodings too.

    Law: score(c) = Σ_r w(r) u(c, r) over the references r, which are the candidates themselves unless others
    are asked for; a candidate is compared with itself too. Decoding i is what its strategy does with the i-th
    independent stream of random numbers. Candidates are ranked by the score, equals by the model's own
    log-probability.
    Source: Eikema and Aziz 2020, "Is MAP Decoding All You Need? The Inadequacy of the Mode in Neural Machine
    Translation", arXiv:2005.10283, and 2022, "Sampling-Based Approximations to Minimum Bayes Risk Decoding
    for Neural Machine Translation", arXiv:2108.04718 (with references of their own); Bertsch et al. 2023,
    "It's MBR All the Way Down", arXiv:2310.01387.

    The result's `info` counts distinct `candidates` and `references`, and `comparisons` of two of them.

    Args:
        n: how many decodings; at least 1.
        strategy: what makes each of them.
        utility: what compares two texts.
        references: what makes the references; None for `strategy`.
        num_references: how many, decoded apart from the candidates; None for n. With neither this nor
            `references`, the candidates are the references.
        weighting: `uniform`, each decoded reference counts the same; or `model`, each distinct one by its
            probability under the model (Jinnai et al. 2024, "Model-Based Minimum Bayes Risk Decoding for Text
            Generation", arXiv:2311.05263).
        aggregate: compare each candidate with one aggregate of all references (Vamvas and Sennrich 2024,
            arXiv:2402.04251; DeNero et al. 2009), which the utility defines: linear cost, near the same score.
        pruning: confidence, between 0 and 1 (0.99 and 0.9 in the paper), with which a candidate must be beaten
            to be dropped before all references are seen (Cheng and Vlachos 2023, "Faster Minimum Bayes Risk
            Decoding with Confidence-based Pruning", arXiv:2311.14919); None keeps all. After 8 references,
            then 16, 32 and so on, a candidate is dropped unless it reaches the best one in more than 1 −
            pruning of 500 bootstrap samples of the references. Its score is that of the references it saw;
            it ranks below those that stayed longer.
        alternatives: every sequence that a decoding returns counts, not its best alone: for beam search, say,
            with n = 1.
        processors: applied before the processors of `strategy` and `references`.

    Example:
        >>> import ovdecode as od
        >>> rows = {(3,): [1.3, 1.0, 1.0, -9], (0,): [9, -9, -9, -9], (): [-9, 9, -9, -9]}
        >>> model = od.Model(od.TableRunner(rows))
        >>> beams = od.BeamSearch(num_beams=3, num_return_sequences=3)
        >>> model.generate([3], beams, max_new_tokens=2).text  # the most probable text, unlike the other two
        'aa'
        >>> generation = model.generate([3], od.Mbr(1, beams, alternatives=True), max_new_tokens=2)
        >>> [each.text for each in generation.alternatives]
        ['bb', 'cb', 'aa']
    """

    aliases = ("minimum_bayes_risk",)

    n: int = 8
    strategy: Strategy = field(default=Sampling())
    utility: Utility = field(default=Chrf())
    references: Strategy | None = None
    num_references: int | None = None
    weighting: Literal["uniform", "model"] = "uniform"
    aggregate: bool = False
    pruning: float | None = None
    alternatives: bool = False

    def __post_init__(self) -> None:
        require(self, "n", self.n >= 1, "a whole number of at least 1")
        some = self.num_references is None or self.num_references >= 1
        require(self, "num_references", some, "a whole number of at least 1, or none")
        one_of("weighting", self.weighting, Literal["uniform", "model"])
        able = type(self.utility).aggregate is not Utility.aggregate
        require(self, "aggregate", able or not self.aggregate, f"false with `{self.utility.name}`, which has none")
        if self.pruning is not None:
            require(self, "pruning", 0 < self.pruning < 1, "between 0 and 1, or none")
            plain = self.weighting == "uniform" and not self.aggregate
            require(self, "pruning", plain, "none with weights or aggregates: it wants references that count the same")

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Decode candidates and references in one batch, then compare."""
        running = decodings(self.strategy, self.n, prompt, stop, rng, processors=self.processors)
        if self.references is not None or self.num_references is not None:
            strategy, count = self.references or self.strategy, self.num_references or self.n
            running += decodings(strategy, count, prompt, stop, rng.split(-1), processors=self.processors)
        found = yield from finish(running, alternatives=self.alternatives)
        candidates = [one for sequences in found[: self.n] for one in sequences]
        references = [one for sequences in found[self.n :] for one in sequences] or candidates

        distinct = list(dict.fromkeys(candidates + references))
        texts = [shown_text(one, stop) for one in distinct]
        features = dict(zip(distinct, (yield from self.utility.features(texts, distinct)), strict=True))
        compare = cache(lambda one, other: self.utility.compare(features[one], features[other]))
        weights = self._weights(references)
        seen = dict.fromkeys(candidates, 0)
        if self.aggregate:
            all_of_them = self.utility.aggregate([features[one] for one in weights], np.array([*weights.values()]))
            scores = {one: self.utility.compare(features[one], all_of_them) for one in seen}
        elif self.pruning is not None:
            scores, seen = prune(compare, list(seen), references, float(self.pruning), rng)
        else:
            scores = {one: fsum(weight * compare(one, other) for other, weight in weights.items()) for one in seen}
        ranked = sorted(candidates, key=lambda one: (-seen[one], -scores[one], -one.logprob))
        info = {
            "candidates": len(seen),
            "references": len(weights),
            "comparisons": len(scores) if self.aggregate else compare.cache_info().currsize,
        }
        return Outcome(tuple(Hypothesis(one, scores[one]) for one in ranked), info)

    def _weights(self, references: list[Sequence]) -> dict[Sequence, float]:
        """The weight of each distinct reference; their sum is 1."""
        counts = Counter(references)
        if self.weighting == "uniform":
            return {one: count / len(references) for one, count in counts.items()}
        logprobs = np.array([one.logprob for one in counts])
        probabilities = np.exp(logprobs - logprobs.max())
        return dict(zip(counts, (probabilities / probabilities.sum()).tolist(), strict=True))
