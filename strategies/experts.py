"""A model steered by the difference of two others: DExperts, and tuning by proxy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ovdecode.candidates import Candidates
from ovdecode.forward import Forward, Logits
from ovdecode.guidance import Guidance
from ovdecode.model import Model
from ovdecode.plugin import require
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.contrast import steered
from ovdecode.strategies.greedy import Greedy
from ovdecode.strategies.processors.truncation import TopP
from ovdecode.strategies.sampling import Sampling
from ovdecode.strategy import Strategy


@register("dexperts")
@dataclass(frozen=True)
class DExperts(Guidance):
    """A model's nucleus, steered towards what an expert says and away from what an anti-expert says.

    Law: of the smallest set of the model's tokens whose mass reaches `filter_p`, another strategy decodes
    from the logits z + alpha · (z_expert − z_anti_expert). One of the two may be left out; the model itself
    then stands for it.
    Source: Liu et al. 2021, "DExperts: Decoding-Time Controlled Text Generation with Experts and
    Anti-Experts" (arXiv:2105.03023), who sample, with alpha = 2 against toxicity and 3.2 for a sentiment.

    Args:
        expert: a model tuned on what is wanted, with the same vocabulary; or a source to load it from.
        anti_expert: one tuned on what is not wanted.
        alpha: how strongly to steer; finite, at least 0.
        filter_p: mass of the model's nucleus, taken before steering; 0 < filter_p <= 1, where 1 keeps all
            tokens.
        strategy: what decodes from the steered logits.
        processors: applied to the model's logits, before its nucleus is found.

    Example:
        >>> import ovdecode as od
        >>> base, kind, rude = (
        ...     od.Model(od.TableRunner({(): row})) for row in ([1.0, 0.9, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0])
        ... )
        >>> base.generate([0], od.Greedy(), max_new_tokens=1).tokens
        (0,)
        >>> base.generate([0], od.DExperts(kind, rude, strategy=od.Greedy()), max_new_tokens=1).tokens
        (1,)
    """

    expert: Model | str | None = None
    anti_expert: Model | str | None = None
    alpha: float = 2.0
    filter_p: float = 0.9
    strategy: Strategy = field(default=Sampling(), kw_only=True)

    def __post_init__(self) -> None:
        for name, value in {"expert": self.expert, "anti_expert": self.anti_expert}.items():
            require(self, name, isinstance(value, Model | str | None), "a model, the source of one, or none")
        either = self.expert is not None or self.anti_expert is not None
        require(self, "expert", either, "given, or `anti_expert` must be")
        _require_alpha(self)
        require(self, "filter_p", 0 < self.filter_p <= 1, "above 0 and at most 1")

    def companions(self, request: Forward) -> list[Forward]:
        """The two, as far as they are given, about the same text."""
        given = [each for each in (self.expert, self.anti_expert) if each is not None]
        return [Forward(request.sequence, request.last, each) for each in given]

    def combine(self, sequence: Sequence, logits: Logits, others: list[Logits]) -> Logits:
        """The nucleus, steered."""
        given = iter(others)
        expert, anti_expert = (logits if each is None else next(given) for each in (self.expert, self.anti_expert))
        nucleus = TopP(self.filter_p)(Candidates.after(sequence, logits), sequence)
        scores = steered(nucleus.logits, self.alpha, expert[nucleus.ids], anti_expert[nucleus.ids])
        return nucleus.with_logits(scores).spread(len(logits))


@register("proxy_tuning")
@dataclass(frozen=True)
class ProxyTuning(Guidance):
    """A large model, with what tuning did to a small one added to its logits.

    Law: another strategy decodes from the logits z + alpha · (z_tuned − z_untuned).
    Source: Liu et al. 2024, "Tuning Language Models by Proxy" (arXiv:2401.08565), who take alpha = 1.

    Args:
        tuned: a small tuned model with the same vocabulary, or a source to load it from.
        untuned: the same small model before it was tuned.
        alpha: how much of the difference is added; finite, at least 0.
        strategy: what decodes from the tuned logits.
        processors: applied to the large model's logits, before the difference is added.

    Example:
        >>> import ovdecode as od
        >>> large, tuned, untuned = (
        ...     od.Model(od.TableRunner({(): row})) for row in ([3.0, 2.5, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0])
        ... )
        >>> large.generate([0], od.ProxyTuning(tuned, untuned), max_new_tokens=1).tokens
        (1,)
    """

    tuned: Model | str
    untuned: Model | str
    alpha: float = 1.0
    strategy: Strategy = field(default=Greedy(), kw_only=True)

    def __post_init__(self) -> None:
        for name, value in {"tuned": self.tuned, "untuned": self.untuned}.items():
            require(self, name, isinstance(value, Model | str), "a model, or the source of one")
        _require_alpha(self)

    def companions(self, request: Forward) -> list[Forward]:
        """Both small models, about the same text."""
        return [Forward(request.sequence, request.last, each) for each in (self.tuned, self.untuned)]

    def combine(self, sequence: Sequence, logits: Logits, others: list[Logits]) -> Logits:
        """What tuning did, added."""
        tuned, untuned = others
        return steered(logits, self.alpha, tuned, untuned)


def _require_alpha(plugin: DExperts | ProxyTuning) -> None:
    require(plugin, "alpha", 0 <= plugin.alpha < math.inf, "a finite number of at least 0")
