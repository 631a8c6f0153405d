"""Drafts with alternatives, by a smaller model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from operator import index
from typing import Literal

import numpy as np

from ovdecode.candidates import Candidates
from ovdecode.errors import DeadEnd
from ovdecode.forward import Forward, Logits
from ovdecode.model import Model
from ovdecode.plugin import one_of, require
from ovdecode.processor import Chain, LogitsProcessor
from ovdecode.proposer import Law, Proposer, Proposing, tree
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop

Alternatives = Literal["top", "distinct", "independent"]


@register("draft_tree")
@dataclass(frozen=True)
class DraftTree(Proposer):
    """A tree of tokens by a smaller model of the same vocabulary: several alternatives at each depth.

    Alternatives are the most probable tokens, as certain, with whatever law they are verified; or they are drawn from
    the law of the strategy that verifies them, with the draft model's logits: distinct ones (without replacement), or
    independent ones (with). A greedy strategy leaves but one to draw. Each depth takes one inference of the draft
    model.
    Source: Miao et al. 2024, "SpecInfer: Accelerating Large Language Model Serving with Tree-based Speculative
    Inference and Verification" (top, independent); Jeon et al. 2024, "Recursive Speculative Decoding: Accelerating LLM
    Inference via Sampling Without Replacement" (distinct).

    Args:
        model: who drafts, or a source to load it from.
        widths: how many alternatives there are at each depth, for each sequence that comes so far; each at least 1.
        alternatives: "top", "distinct" or "independent".
        processors: applied to the draft model's logits only.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]]))
        >>> small = od.Model(od.TableRunner([[0, 8, 9], [0, 0, 9], [9, 0, 0]]))
        >>> strategy = od.Speculative(proposer=od.DraftTree(small, widths=(2, 1)))
        >>> generation = model.generate([0], strategy, max_new_tokens=6)
        >>> generation.tokens, generation.info["rounds"], generation.info["accepted"]
        ((1, 2, 0, 1, 2, 0), 2, 4)
    """

    model: Model | str
    widths: tuple[int, ...] = (3, 2, 1, 1)
    alternatives: Alternatives = "top"
    processors: LogitsProcessor = field(default=Chain(), kw_only=True)

    def __post_init__(self) -> None:
        require(self, "model", isinstance(self.model, Model | str), "a model, or the source of one")
        try:
            widths = tuple(map(index, self.widths))
        except TypeError:
            widths = ()
        require(self, "widths", len(widths) > 0 and min(widths) >= 1, "whole numbers of at least 1, such as [3, 2, 1]")
        object.__setattr__(self, "widths", widths)
        one_of("alternatives", self.alternatives, Alternatives)

    def propose(self, sequence: Sequence, stop: Stop, law: Law, rng: Random) -> Proposing:
        """Grow the tree depth by depth."""
        nodes: list[tuple[int, int, Candidates | None]] = []
        tips = [(-1, sequence)]
        for width in self.widths:
            tips = [(place, tip) for place, tip in tips if not stop(tip)]
            if not tips:
                break
            rows = yield [Forward(tip, model=self.model) for _, tip in tips]
            grown = []
            for (place, tip), logits in zip(tips, rows, strict=True):
                with suppress(DeadEnd):
                    for token, drawn_from in islice(self._alternatives(logits, tip, law, rng), width):
                        grown.append((len(nodes), tip + token))
                        nodes.append((place, token, drawn_from))
            tips = grown
        return tree(nodes)

    def _alternatives(
        self, logits: Logits, sequence: Sequence, law: Law, rng: Random
    ) -> Iterator[tuple[int, Candidates | None]]:
        """Tokens for after `sequence`, one after the other, each with what it is drawn from."""
        candidates = self.processors(Candidates(logits), sequence)
        if self.alternatives == "top":
            best = candidates.top(max(self.widths)).possible
            for place in best.falling():
                yield int(best.ids[place]), None
            return
        candidates = law(candidates.spread(len(logits)), sequence)
        while candidates.weights.any():
            token = candidates.draw(rng)
            yield token, candidates
            if self.alternatives == "distinct":
                candidates = candidates.without(np.array([token]))
