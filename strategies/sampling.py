"""Sampling from what the processors leave."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

from ovdecode.candidates import Candidates
from ovdecode.forward import Logits
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.presets import Preset, chain
from ovdecode.strategy import Stepwise


@register("sampling")
@dataclass(frozen=True)
class Sampling(Stepwise):
    """Each token drawn at random, with the probability that the processors leave it.

    Law: p(token | sequence) = softmax of the processed logits, over the tokens that are still candidates;
    without any processor, the model's own distribution.
    Source: ancestral sampling; truncated as in Fan et al. 2018 (top-k) and Holtzman et al. 2020 (top-p).

    The parameters stand for the processors of the same name. A parameter of None leaves its processor out. They come
    after `processors`, in this order: penalties, DRY, top-nσ, temperature, top-H, top-k, top-p, min-p, typical,
    epsilon, eta, XTC. For any other, write the chain: `Sampling(processors=TopK(50) | TopP(0.9) | Temperature(0.7))`.

    With a preset, they mean what they mean to that engine, in its order and with its defaults: `hf` (transformers),
    `llama.cpp`, `genai` (openvino.genai), `vllm` or `fairseq`. A parameter of None then has the engine's default, what
    switches a stage off is the engine's (top_k=0, top_p=1.0), and one that the engine does not have is an error; `str`
    of `chain` says what comes of it. `processors` are applied before all of these. What the engine's sorting leaves
    open, a tie at the border of a nucleus for one, goes to the lower id.

    Args:
        temperature: above 0; below 1 sharpens, above 1 flattens.
        top_k: how many of the most probable tokens stay; at least 1.
        top_p: mass of the smallest set of tokens that stays; 0 < top_p <= 1.
        min_p: least probability that stays, relative to the best token's; 0 < min_p <= 1.
        typical: mass of the locally typical set that stays; 0 < typical <= 1.
        repetition_penalty: see `RepetitionPenalty`; above 0.
        presence_penalty: see `PresencePenalty`.
        frequency_penalty: see `FrequencyPenalty`.
        dry_multiplier: see `Dry`; above 0.
        top_n_sigma: see `TopNSigma`; above 0.
        epsilon: see `Epsilon`; 0 < epsilon < 1.
        eta: see `Eta`; 0 < eta < 1.
        top_h: see `TopH`; 0 < top_h <= 1.
        xtc_probability: see `XTC`; 0 < xtc_probability <= 1.
        xtc_threshold: see `XTC`; by default 0.1.
        preset: the engine to be like; None for none.
        processors: applied before these.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[0, 1, 2], [2, 0, 1], [1, 2, 0]]))
        >>> model.generate([0], od.Sampling(top_k=1), max_new_tokens=3).tokens
        (2, 1, 0)
        >>> str(od.Sampling(temperature=0.8, top_p=0.95))
        'sampling:temperature=0.8,top_p=0.95'
        >>> str(od.Sampling(temperature=0.7, preset="llama.cpp").chain)
        'top_k:k=40|top_p:p=0.95|min_p:p=0.05|temperature:temperature=0.7'
    """

    aliases = ("multinomial", "ancestral", "do_sample")

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    dry_multiplier: float | None = None
    top_n_sigma: float | None = None
    epsilon: float | None = None
    eta: float | None = None
    top_h: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    preset: Preset | None = None

    def __post_init__(self) -> None:
        self.chain  # noqa: B018  building the chain validates every parameter

    @cached_property
    def chain(self) -> LogitsProcessor:
        """Everything that is applied to the logits, in order."""
        names = [field.name for field in fields(Sampling) if field.name not in ("preset", "processors")]
        given = {name: getattr(self, name) for name in names}
        return self.processors | chain(self.preset, given)

    def candidates(self, logits: Logits, sequence: Sequence) -> Candidates:
        """What the whole chain leaves of the logits after `sequence`."""
        return self.chain(Candidates.after(sequence, logits), sequence)

    def law(self, logits: Logits, sequence: Sequence) -> Candidates:
        """What the chain leaves."""
        return self.candidates(logits, sequence)
