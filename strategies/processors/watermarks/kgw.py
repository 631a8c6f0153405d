"""The green-list watermark: some tokens, chosen anew for each context, become more likely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, hypergeom

from ovdecode.candidates import Candidates
from ovdecode.hashing import Hashes, absorb, uniforms
from ovdecode.plugin import one_of, require
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.watermarks.watermark import Detection, Watermark

Scheme = Literal["lefthash", "selfhash"]


@register("kgw_watermark")
@dataclass(frozen=True)
class KgwWatermark(Watermark):
    """Green tokens, a share of the vocabulary chosen by a hash of the context, made more likely.

    Law: l_i becomes l_i + bias for every green token i. With `lefthash`, the context picks floor(greenlist_ratio · V)
    of the V tokens of the vocabulary, every such list being equally likely over the keys. With `selfhash`, each
    token is green with probability `greenlist_ratio`, independently, by the least of the hashes of it with each
    token of the context; so an edit within the context often leaves it what it was. A text that begins with fewer
    tokens than a context has is not marked up to there.

    Detector: the share of green tokens, without repeated n-grams; `greenlist_ratio` is expected. The p-value is
    exact over random keys: binomial for `selfhash`, and for `lefthash` the sum of independent hypergeometric
    variates, one for each context.

    Source: Kirchenbauer, Geiping, Wen, Katz, Miers, Goldstein 2023, "A Watermark for Large Language Models",
    arXiv:2301.10226 (algorithms 2 and 3). transformers' `lefthash` has the same law with another
    hash, so neither finds the other's mark: `kgw_watermark_hf` is its.

    Args:
        greenlist_ratio: γ, above 0 and below 1.
        bias: δ, any finite number; 0.5 to 2 is usual.
        seeding_scheme: `lefthash` or `selfhash`.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, KgwWatermark, Vocabulary
        >>> mark, row = KgwWatermark(), Candidates(np.zeros(4))
        >>> mark(row, Vocabulary(4).prompt([1])), mark(row, Vocabulary(4).prompt([3]))
        (Candidates({0: 0, 1: 0, 2: 0, 3: 2}), Candidates({0: 2, 1: 0, 2: 0, 3: 0}))
    """

    aliases = ("green_list", "kirchenbauer")

    greenlist_ratio: float = 0.25
    bias: float = 2.0
    seeding_scheme: Scheme = "lefthash"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "greenlist_ratio", 0 < self.greenlist_ratio < 1, "a number above 0 and below 1")
        require(self, "bias", np.isfinite(self.bias), "a finite number")
        one_of("seeding_scheme", self.seeding_scheme, Scheme)

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, the green ones with higher logits."""
        if sequence.length < self.context_width:
            return candidates
        context = sequence.tokens[None, sequence.length - self.context_width :]
        if self.seeding_scheme == "lefthash":
            return self.favoured(candidates, self._list(self.hash_contexts(context), sequence.vocabulary.size))
        return self._raised(candidates, self._chosen(self._least(context, candidates.ids)))

    def favoured(self, candidates: Candidates, listed: NDArray[np.bool_]) -> Candidates:
        """The same tokens, those on a list of all tokens, shape (vocab,), with higher logits."""
        return self._raised(candidates, listed if candidates.dense else listed[candidates.ids])

    def _raised(self, candidates: Candidates, green: NDArray[np.bool_]) -> Candidates:
        logits = green.astype(candidates.logits.dtype)
        logits *= self.bias
        logits += candidates.logits
        return candidates.with_logits(logits)

    def detect(self, sequence: Sequence) -> Detection:
        """The share of green tokens, and its probability without the mark; repeated n-grams count once."""
        contexts = self.contexts(sequence)
        tokens = sequence.tokens[sequence.length - len(contexts) :]
        if self.seeding_scheme == "lefthash":
            green, law = self._greens_of_lists(self.hash_contexts(contexts), tokens, sequence.vocabulary.size)
        else:
            chosen = self._chosen(np.unique(self._least(contexts, tokens)))
            green = int(chosen.sum())
            law = binom.pmf(np.arange(len(chosen) + 1), len(chosen), self.greenlist_ratio)
        scored = len(law) - 1
        return Detection(green / scored if scored else np.nan, min(float(law[green:].sum()), 1.0), scored)

    def _list(self, context: Hashes, vocab_size: int) -> NDArray[np.bool_]:
        """Whether each token is on the green list of a context, shape (1,) to shape (vocab,)."""
        # Eight tokens share the bytes of a hash; of those whose byte is at the border, hashes of their own decide.
        hashes = absorb(context, np.arange((vocab_size + 7) // 8))
        ranks = hashes.astype("<u8").view(np.uint8)[:vocab_size]
        count, border = int(self.greenlist_ratio * vocab_size), int(self.greenlist_ratio * 256)
        while np.count_nonzero(ranks < border) > count:
            border -= 1
        while np.count_nonzero(ranks <= border) < count:
            border += 1
        green: NDArray[np.bool_] = ranks < border
        ties = (ranks == border).nonzero()[0]
        ties = ties[absorb(context, vocab_size + ties).argsort()]
        green[ties[: count - np.count_nonzero(green)]] = True
        return green

    def _greens_of_lists(
        self, contexts: Hashes, tokens: NDArray[np.int64], vocab_size: int
    ) -> tuple[int, NDArray[np.float64]]:
        """How many distinct n-grams end on the green list of their context; the law of that without the mark."""
        green, law = 0, np.ones(1)
        for context in np.unique(contexts):
            after, listed = np.unique(tokens[contexts == context]), self._list(context[None], vocab_size)
            green += int(listed[after].sum())
            drawn = hypergeom(vocab_size, int(listed.sum()), len(after))
            law = np.convolve(law, drawn.pmf(np.arange(len(after) + 1)))
        return green, law

    def _least(self, contexts: NDArray[np.int64], tokens: NDArray[np.int64]) -> Hashes:
        """The least hash of each token with a token of its context, shapes (n or 1, context_width) and (n,)."""
        least: Hashes = np.min(
            [absorb(absorb(self.start, contexts[:, place]), tokens) for place in range(self.context_width)], axis=0
        )
        return least

    def _chosen(self, hashes: Hashes) -> NDArray[np.bool_]:
        """A choice with probability `greenlist_ratio` for each hash, hashed again because the least are small."""
        chosen: NDArray[np.bool_] = uniforms(absorb(hashes, np.zeros(1, np.uint64))) < self.greenlist_ratio
        return chosen
