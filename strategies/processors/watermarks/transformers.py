"""The watermarks of transformers, hash for hash: what it marks is found here, and the other way round."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from math import comb
from operator import index
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from ovdecode.candidates import Candidates
from ovdecode.hashing import Hashes
from ovdecode.plugin import require
from ovdecode.processor import LogitsProcessor
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.strategies.processors.watermarks.kgw import KgwWatermark
from ovdecode.strategies.processors.watermarks.synthid import play
from ovdecode.strategies.processors.watermarks.watermark import Detection

_TABLE_SIZE = 1_000_003
_TRIED = 40
_TOGETHER = 2**16


@register("kgw_watermark_hf")
@dataclass(frozen=True)
class KgwWatermarkHF(KgwWatermark):
    """The green-list watermark of transformers' `WatermarkLogitsProcessor` on a CPU: its green lists, its `selfhash`.

    Law: l_i becomes l_i + bias for every green token i. A green list is the first floor(greenlist_ratio · V) tokens of
    `torch.randperm(V)`, seeded with the key and with, by `lefthash`, the last token alone, whatever `context_width` is;
    by `selfhash`, the least product of a token of the context with the next token, which counts among the
    `context_width` tokens itself. Of the 40 most probable tokens, those are green by `selfhash` that are on the list
    that they lead to. A text of fewer tokens than `context_width` is not marked. A list takes a while to make, and is
    kept for some time.

    Detector: the share of green tokens among the distinct pairs of a list and a token. The p-value is exact over random
    lists: it is that of the sum of independent hypergeometric variates, one for each list; transformers' own takes the
    normal distribution, and repetitions for new evidence.

    Source: Hugging Face transformers, `WatermarkLogitsProcessor`. After Kirchenbauer, Geiping, Wen, Katz, Miers,
    Goldstein 2023, "A Watermark for Large Language Models", arXiv:2301.10226. `kgw_watermark` is the paper's.

    Args:
        greenlist_ratio: γ, above 0 and below 1.
        bias: δ, any finite number; 0.5 to 2 is usual.
        seeding_scheme: `lefthash` or `selfhash`.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, KgwWatermarkHF, Vocabulary
        >>> KgwWatermarkHF(greenlist_ratio=0.5)(Candidates(np.zeros(4)), Vocabulary(4).prompt([1]))
        Candidates({0: 2, 1: 0, 2: 2, 3: 0})
    """

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, the green ones with higher logits."""
        if sequence.length < self.context_width:
            return candidates
        vocab_size, context = sequence.vocabulary.size, sequence.tokens[-self.context_width :]
        if self.seeding_scheme == "lefthash":
            return self.favoured(candidates, self._green_list(self._seed(context, 0), vocab_size))
        tried = candidates.top(_TRIED).ids.tolist()
        own = [token for token in tried if self._green_list(self._seed(context, token), vocab_size)[token]]
        places = candidates.positions(np.array(own, np.intp))
        return candidates.replaced(places, candidates.logits[places] + self.bias)

    def detect(self, sequence: Sequence) -> Detection:
        """The share of green tokens, and its probability without the mark; repetitions count once."""
        contexts, vocab_size = self.contexts(sequence), sequence.vocabulary.size
        tokens = sequence.tokens[sequence.length - len(contexts) :].tolist()
        after: dict[int, set[int]] = {}
        for context, token in zip(contexts, tokens, strict=True):
            after.setdefault(self._seed(context, token), set()).add(token)
        green, law = 0, np.ones(1)
        for seed, found in after.items():
            listed = self._green_list(seed, vocab_size)
            green += int(listed[list(found)].sum())
            law = np.convolve(law, _hypergeometric(vocab_size, int(listed.sum()), len(found)))
        scored = len(law) - 1
        return Detection(green / scored if scored else np.nan, min(float(law[green:].sum()), 1.0), scored)

    def _seed(self, context: NDArray[np.int64], token: int) -> int:
        """What the green list of a context is seeded with, shape (context_width,), if `token` comes next."""
        if self.seeding_scheme == "lefthash":
            return self.hashing_key * int(context[-1])
        seen = np.append(context, token)[-self.context_width :] % _TABLE_SIZE
        factors = _fixed_table(self.hashing_key)[seen] + 1
        with np.errstate(over="ignore"):  # the products wrap around, as torch's do
            return int((np.int64(self.hashing_key) * factors * factors[-1]).min())

    def _green_list(self, seed: int, vocab_size: int) -> NDArray[np.bool_]:
        """Whether each token is on a green list, shape (vocab,)."""
        return _listed(vocab_size, seed % (2**64 - 1), int(self.greenlist_ratio * vocab_size))


@register("synthid_watermark_hf")
@dataclass(frozen=True)
class SynthIdWatermarkHF(LogitsProcessor):
    """The tournament watermark of transformers' `SynthIDTextWatermarkLogitsProcessor` on a CPU: its hash, its history.

    Law: in each layer p_i becomes p_i · (1 + g_i - Σ g_j p_j), as by `synthid_watermark`, where g_i is looked up in a
    table of random bits at the hash of the context, the token and the layer's key. The context are the last
    `ngram_len` - 1 generated tokens, with zeros in place of those that are still missing: the prompt is not looked at.
    A context that was among the last `context_history_size` ones marks nothing. Put it last in a chain, and use a
    strategy that samples.

    Detector: the mean of g over tokens whose context marked, and layers; the p-value is binomial.

    Source: Hugging Face transformers, `SynthIDTextWatermarkLogitsProcessor`. After Dathathri et al. 2024, "Scalable
    watermarking for identifying large language model outputs", Nature 634. transformers keeps the history by row of a
    batch, which a beam search reorders; here it is read off the sequence.

    Args:
        keys: one whole number for each layer, from 0 to 2^63 - 1.
        ngram_len: length of a context and the token after it; at least 2.
        context_history_size: how many contexts are remembered; at least 1.
        sampling_table_seed: seed of the table, from 0 to 2^32 - 1.
        sampling_table_size: its size, from 1 to 2^24.
        skip_first_ngram_calls: whether the first `ngram_len` - 1 tokens are not marked.

    Example:
        >>> import numpy as np
        >>> from ovdecode import Candidates, SynthIdWatermarkHF, Vocabulary
        >>> mark, row = SynthIdWatermarkHF([654, 400], ngram_len=2), Candidates(np.log([0.5, 0.25, 0.25]))
        >>> mark(row, Vocabulary(3).prompt([0, 1])).probabilities.round(3)
        array([0.375, 0.188, 0.438])
    """

    keys: Iterable[int]
    ngram_len: int = 5
    context_history_size: int = 1024
    sampling_table_seed: int = 0
    sampling_table_size: int = 2**16
    skip_first_ngram_calls: bool = False

    def __post_init__(self) -> None:
        try:
            keys = tuple(map(index, self.keys))
        except TypeError:
            keys = ()
        sound = bool(keys) and all(0 <= key < 2**63 for key in keys)
        require(self, "keys", sound, "one or more whole numbers from 0 to 2^63 - 1, such as [654, 400, 836]")
        object.__setattr__(self, "keys", keys)
        require(self, "ngram_len", self.ngram_len >= 2, "a whole number of at least 2")
        require(self, "context_history_size", self.context_history_size >= 1, "a whole number of at least 1")
        seed, size = self.sampling_table_seed, self.sampling_table_size
        require(self, "sampling_table_seed", 0 <= seed < 2**32, "a whole number from 0 to 2^32 - 1")
        require(self, "sampling_table_size", 1 <= size <= 2**24, "a whole number from 1 to 2^24")

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        """The same tokens, with the logits of the winner's distribution."""
        contexts = self._contexts(sequence)
        if not self._marks(contexts, sequence.generated_length):
            return candidates
        probabilities = candidates.weights.astype(np.float64)
        probabilities /= probabilities.sum()
        hashes = _accumulate(contexts[-1:], candidates.ids)
        together = max(_TOGETHER // len(hashes), 1)  # layers; all of a whole vocabulary would take too much memory
        for first in range(0, len(self._layers), together):
            play(probabilities, self._wins(hashes, self._layers[first : first + together]).astype(np.float64))
        return candidates.with_weights(probabilities)

    def detect(self, sequence: Sequence) -> Detection:
        """The mean of g over the generated tokens that could be marked, and its probability without the mark."""
        contexts = self._contexts(sequence)
        places = [place for place in range(len(contexts) - 1) if self._marks(contexts, place)]
        tokens = sequence.tokens[sequence.prompt_length :][places]
        total = len(places) * len(self._layers)
        wins = int(self._wins(_accumulate(contexts[places], tokens), self._layers).sum())
        score = wins / total if total else np.nan
        return Detection(score, float(binom.sf(wins - 1, total, self._table.mean())), len(places))

    def _contexts(self, sequence: Sequence) -> Hashes:
        """The hash of what each generated token comes after, and of what the next one will, shape (generated + 1,)."""
        width = self.ngram_len - 1
        padded = np.append(np.zeros(width, np.int64), sequence.tokens[sequence.prompt_length :])
        hashes = np.ones(len(padded) - width + 1, np.uint64)
        for column in np.lib.stride_tricks.sliding_window_view(padded, width).T:
            hashes = _accumulate(hashes, column)
        return hashes

    def _marks(self, contexts: Hashes, place: int) -> bool:
        """Whether the context at a place is marked: it is new, as far as the history goes back."""
        first = self.ngram_len - 1 if self.skip_first_ngram_calls else 0
        before = contexts[max(first, place - self.context_history_size) : max(first, place)]
        return place >= first and contexts[place] not in before

    def _wins(self, hashes: Hashes, layers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The g, shape (layers, n), of tokens, hashed with their contexts, by the keys of some layers."""
        places = _accumulate(hashes, layers[:, None]).view(np.int64) % self.sampling_table_size
        wins: NDArray[np.bool_] = self._table[places]
        return wins

    @cached_property
    def _layers(self) -> NDArray[np.int64]:
        """The keys, shape (layers,)."""
        return np.array(tuple(self.keys), np.int64)

    @cached_property
    def _table(self) -> NDArray[np.bool_]:
        """`torch.randint(0, 2, (size,))`."""
        table: NDArray[np.bool_] = _raw(self.sampling_table_seed, self.sampling_table_size) % 2 == 1
        return table


def _hypergeometric(size: int, green: int, drawn: int) -> NDArray[np.float64]:
    """The law of how many of `drawn` distinct tokens are green, shape (drawn + 1,)."""
    ways = [comb(green, count) * comb(size - green, drawn - count) for count in range(drawn + 1)]
    return np.array([each / comb(size, drawn) for each in ways])


def _accumulate(hashes: Hashes, values: NDArray[np.int64]) -> Hashes:
    """The hashes with one value more each: a step of a linear congruential generator of 64 bits."""
    found: Hashes = (hashes + values.astype(np.uint64)) * np.uint64(6364136223846793005) + np.uint64(1)
    return found


@lru_cache(maxsize=512)
def _listed(vocab_size: int, seed: int, count: int) -> NDArray[np.bool_]:
    """Whether each token is among the first `count` of `torch.randperm(vocab_size)`, shape (vocab,).

    In step i of a permutation, what lies at i and at a place from i on change places. So all places at or after
    `count` that are met are on the list; and off it is what lies there in the end, which the last step to meet such a
    place brought from i. It had come to i from the last step that met i, or it is i itself.
    """
    steps = np.arange(min(count, vocab_size - 1))
    met = steps + _raw(seed % 2**32, len(steps)) % (vocab_size - steps)
    last = np.arange(vocab_size)  # the last step, but for its own, that met each place
    moving = met != steps
    last[met[moving]] = steps[moving]
    origins = last[:count]
    while (origins != (before := origins[origins])).any():
        origins = before
    beyond = met[met >= count]
    listed = np.zeros(vocab_size, bool)
    listed[:count] = True
    listed[origins[last[beyond]]] = False
    listed[beyond] = True
    listed.flags.writeable = False
    return listed


@lru_cache(maxsize=4)
def _fixed_table(seed: int) -> NDArray[np.int64]:
    """What `selfhash` replaces token ids by; it takes about a second."""
    return _permutation(_TABLE_SIZE, seed, _TABLE_SIZE)


def _permutation(size: int, seed: int, count: int) -> NDArray[np.int64]:
    """The first `count` numbers of `torch.randperm(size)`, shape (count,)."""
    numbers = list(range(size))
    steps = (_raw(seed % 2**32, count) % np.arange(size, size - count, -1)).tolist()
    for place, step in enumerate(steps[: size - 1]):
        numbers[place], numbers[place + step] = numbers[place + step], numbers[place]
    return np.array(numbers[:count], np.int64)


def _raw(seed: int, count: int) -> NDArray[np.int64]:
    """What torch's generator on a CPU, a Mersenne Twister, gives, 32 bits each, shape (count,)."""
    with _twister_lock:
        _twister().seed(seed)
        return _twister().randint(0, 2**32, count, np.uint32).astype(np.int64)


_twister = cache(np.random.RandomState)  # to make one takes as long as to make a list
_twister_lock = Lock()
