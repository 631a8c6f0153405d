"""Drafts by the first layers of the same model."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from ovdecode.forward import Forward, Logits
from ovdecode.plugin import require
from ovdecode.processor import Chain, LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.proposers.drawing import Drawing


@register("early_exit")
@dataclass(frozen=True)
class EarlyExit(Drawing):
    """Tokens that the model itself draws from what its LM head reads out after an inner layer.

    As with a draft model, the draft follows the law of the strategy that verifies it; read out after the last
    layer, it is always accepted. The layers above are not computed for a draft (`Model.truncated`).
    Source: Elhoushi et al. 2024, "LayerSkip: Enabling Early Exit Inference and Self-Speculative Decoding", whose
    models are trained for it; the same with skipped layers, and with the threshold: Zhang et al. 2023, "Draft &
    Verify: Lossless Large Language Model Acceleration via Self-Speculative Decoding".

    The first layers keep a cache of their own beside the whole model's, where LayerSkip's verification goes on from
    what they left: a drafted token saves the layers above, but verification computes all.

    Args:
        layer: after which layer, from 1; the number of layers is the model's own output.
        num_tokens: length of a draft; at least 1.
        threshold: a draft ends after a token that the layer gives less than this probability; 0 < threshold <= 1.
            None drafts on.
        processors: applied to the inner logits only, before those of the strategy.

    Example:
        >>> import ovdecode as od
        >>> rows = [[0, 9, 0], [0, 0, 9], [9, 0, 0]]
        >>> model = od.Model(od.TableRunner(rows, layers={1: [[0, 9, 0], [0, 0, 9], [0, 0, 9]]}))
        >>> generation = model.generate([0], od.Speculative(proposer=od.EarlyExit(1)), max_new_tokens=6)
        >>> generation.tokens, generation.info["rounds"], generation.info["accepted"]
        ((1, 2, 0, 1, 2, 0), 2, 4)
    """

    aliases = ("layerskip", "assistant_early_exit")

    layer: int
    num_tokens: int = 4
    threshold: float | None = None
    processors: LogitsProcessor = field(default=Chain(), kw_only=True)

    def __post_init__(self) -> None:
        require(self, "layer", self.layer >= 1, "at least 1")
        super().__post_init__()

    def ask(self, sequence: Sequence) -> Generator[Forward, Any, Logits]:
        """What the inner layer says."""
        logits: Logits = yield Forward(sequence, exit_layer=self.layer)
        return logits
