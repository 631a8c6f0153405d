"""The paged key/value cache: pages of a few dozen tokens, shared by descendants, copied on write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import CacheError
from ovdecode.sequence import Sequence


class Page:
    """A block of the cache, after the blocks of its prefix. It is free as soon as nobody refers to it.

    Attributes:
        number: which block.
        prefix: the page before it.
        table: block numbers from the first page to this one, shape (pages,).
        writers: the sequence that each slot was written for; a dead one's slot may be written again.
        stamp: the inference in which a sequence that ends here was last asked about.
        written: the inference that last wrote here. An inference writes for one sequence a page: the kernel clears
            the slots after the last one it writes.
    """

    __slots__ = ("__weakref__", "_cache", "number", "prefix", "stamp", "table", "writers", "written")

    def __init__(self, cache: PageCache, number: int, prefix: Page | None) -> None:
        self._cache = cache
        self.number = number
        self.prefix = prefix
        before = prefix.table if prefix is not None else np.empty(0, np.int32)
        self.table: NDArray[np.int32] = np.append(before, np.int32(self.number))
        self.writers: list[ref[Sequence]] = []
        self.stamp = self.written = cache.clock

    def __del__(self) -> None:
        self._cache.free.append(self.number)

    def ends_at(self, slot: int) -> bool:
        """Whether nothing is written at `slot` or after it, but for sequences that are gone."""
        while len(self.writers) > slot and self.writers[-1]() is None:
            self.writers.pop()
        return len(self.writers) <= slot


class PageCopy(NamedTuple):
    """The first `tokens` of page `source` are to be those of page `target`."""

    source: int
    target: int
    tokens: int


@dataclass(frozen=True)
class Placement:
    """Where one sequence's tokens go in one inference.

    Attributes:
        start: the position of the first token to feed; all before it are in the cache.
        page: the last page.
        placed: the sequences that are new in the cache, each with its page.
    """

    start: int
    page: Page
    placed: list[tuple[Sequence, Page]]


class PageCache:
    """Which page holds which sequence. Numbers only: the memory itself is the runner's.

    Args:
        pages: how many blocks there are.
        size: tokens in a page.
        rewritable: whether writing a token again leaves its neighbours as they are; not so where a page is quantised
            as a whole.
    """

    def __init__(self, pages: int, size: int, rewritable: bool) -> None:
        self.pages, self.size, self.rewritable = pages, size, rewritable
        self.free = list(range(pages - 1, -1, -1))
        self.clock = 0
        self._page: WeakKeyDictionary[Sequence, Page] = WeakKeyDictionary()

    @property
    def in_use(self) -> int:
        """How many pages hold something."""
        return self.pages - len(self.free)

    def take(self, prefix: Page | None) -> Page:
        """A free page, to come after `prefix`.

        Raises:
            CacheError: if there is none.
        """
        if not self.free:
            raise CacheError(f"all {self.pages} pages of the cache are in use by one inference")
        return Page(self, self.free.pop(), prefix)

    def cached(self, sequence: Sequence, most: int) -> tuple[Sequence, Page | None]:
        """The longest ancestor of at most `most` tokens that is in the cache, and its last page."""
        node = sequence
        while node.parent is not None:
            if node.length <= most:
                page = self._page.get(node)
                if page is not None:
                    return node, page
            node = node.parent
        return node, None

    def missing(self, sequence: Sequence) -> int:
        """How many of its tokens are not in the cache."""
        return sequence.length - self.cached(sequence, sequence.length)[0].length

    def place(self, sequence: Sequence, first: int, copies: list[PageCopy]) -> Placement:
        """Give every token from position `first` on, and every one before that is not in the cache, a slot to write.

        A page that another sequence goes on with, or writes in this same inference, is copied: that is added to
        `copies`. Nothing is in the cache until `store` is called with the placement.
        """
        known, page, copy = self._begin(sequence, first)
        start = min(first, known.length)
        if page is not None and copy:
            original, page = page, self.take(page.prefix)
            tokens = known.length % self.size
            page.writers = original.writers[:tokens]
            copies.append(PageCopy(original.number, page.number, tokens))
        placed = []
        for node in sequence.path(known.length):
            if page is None or node.length % self.size == 1:
                page = self.take(page)
            page.writers.append(ref(node))
            placed.append((node, page))
        assert page is not None
        page.stamp = page.written = self.clock
        return Placement(start, page, placed)

    def _begin(self, sequence: Sequence, first: int) -> tuple[Sequence, Page | None, bool]:
        """The ancestor after which to write, its last page, and whether that must be copied."""
        known, page = self.cached(sequence, sequence.length)
        if known.length > first and not (self.rewritable and page is not None and self._open(page, known)):
            known, page = self.cached(sequence, first)
        return known, page, page is not None and known.length % self.size > 0 and not self._open(page, known)

    def _open(self, page: Page, known: Sequence) -> bool:
        """Whether a page may be written after the slot of `known`, its last token that counts."""
        return page.written != self.clock and page.ends_at((known.length - 1) % self.size + 1)

    def store(self, placement: Placement) -> None:
        """Note that what was placed is now computed."""
        for sequence, page in placement.placed:
            self._page[sequence] = page

    def fits(self, wanted: list[tuple[Sequence, int]]) -> int:
        """How many of these, each with its first position to write, the cache can hold at the same time."""
        if self._ample(wanted):
            return len(wanted)
        need, held = 0, set[int]()
        for count, (sequence, first) in enumerate(wanted):
            need += self._need(sequence, first)
            held |= self._held(sequence, first)
            if need + len(held) > self.pages:
                return count or int(self._pages_of(sequence) <= self.pages)
        return len(wanted)

    def reserve(self, wanted: list[tuple[Sequence, int]]) -> None:
        """Begin an inference for these: free pages enough by evicting others, those longest unused first.

        An evicted sequence is not lost: whoever asks about it next recomputes it from its tokens. So does one that
        would only fit if it did not hold on to what is cached of it.

        Raises:
            CacheError: if they do not fit together.
        """
        self.clock += 1
        if self._ample(wanted):
            return
        if self.fits(wanted) < len(wanted):
            raise CacheError(
                f"these {len(wanted)} sequences must fit the cache of {self.pages} pages together, but do not; "
                "ask about fewer at once, or give `load` a larger `cache_bytes`"
            )
        need = sum(self._need(sequence, first) for sequence, first in wanted)
        kept = set[int]().union(*(self._held(sequence, first) for sequence, first in wanted))
        if need + len(kept) > self.pages:  # one alone, of which it can be told exactly
            need, kept = self._alone(*wanted[0])
        others = [page for page in self._by_age() if page.number not in kept]
        others.reverse()
        while others and len(self.free) < need:
            self._evict(others.pop())  # nothing here may hold on to it, or it would not be free

    def _alone(self, sequence: Sequence, first: int) -> tuple[int, set[int]]:
        """How many free pages one sequence needs, and which must stay; if they are too many, all and none."""
        known, page, copy = self._begin(sequence, first)
        need = self._pages_of(sequence) - self._pages_of(known) + copy
        kept = set[int](page.table.tolist()) if page is not None else set[int]()
        return (need, kept) if need + len(kept) <= self.pages else (self.pages, set())

    def _evict(self, page: Page) -> None:
        for writer in page.writers:
            node = writer()
            if node is not None and self._page.get(node) is page:
                del self._page[node]

    def _ample(self, wanted: list[tuple[Sequence, int]]) -> bool:
        """Whether there are free pages enough even if nothing were shared."""
        return sum(self._pages_of(sequence) for sequence, _ in wanted) <= len(self.free)

    def _pages_of(self, sequence: Sequence) -> int:
        return -(-sequence.length // self.size)

    def _held(self, sequence: Sequence, first: int) -> set[int]:
        """The pages that must stay for `_need` to hold, wherever `place` begins."""
        pages = (self.cached(sequence, most)[1] for most in (sequence.length, first))
        return {number for page in pages if page is not None for number in page.table.tolist()}

    def _need(self, sequence: Sequence, first: int) -> int:
        """How many pages writing from `first` on may take at the most."""
        known = self.cached(sequence, first)[0]
        return self._pages_of(sequence) - known.length // self.size

    def _by_age(self) -> list[Page]:
        """All pages, longest unused first, and no page before the ones that build on it."""
        pages: dict[int, Page] = {}
        for page in self._page.values():
            above: Page | None = page
            while above is not None and above.number not in pages:
                pages[above.number] = above
                above = above.prefix
        deepest_first = sorted(pages.values(), key=lambda page: -len(page.table))
        for page in deepest_first:
            if page.prefix is not None:
                page.prefix.stamp = max(page.prefix.stamp, page.stamp)
        return sorted(deepest_first, key=lambda page: page.stamp)
