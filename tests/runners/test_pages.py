"""Pages against a memory that is looked at: whatever is written, every sequence reads its own tokens."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ovdecode.errors import CacheError
from ovdecode.runners.pages import PageCache, PageCopy, Placement
from ovdecode.sequence import Sequence
from ovdecode.vocabulary import Vocabulary

SIZE = 4


class Memory:
    """Blocks of slots that hold the tokens that their keys are computed from; written as the runner writes.

    Args:
        pages: how many blocks.
        rewritable: see `PageCache`.
        at_least: how many tokens a sequence feeds.
    """

    def __init__(self, pages: int, rewritable: bool = True, at_least: int = 1) -> None:
        self.cache = PageCache(pages, SIZE, rewritable)
        self.at_least = at_least
        self.blocks: list[list[tuple[int, ...] | None]] = [[None] * SIZE for _ in range(pages)]
        self.copied: list[PageCopy] = []
        self.computed = 0

    def wanted(self, sequences: list[Sequence], rows: int = 1) -> list[tuple[Sequence, int]]:
        return [(one, max(one.length - max(rows, self.at_least), 0)) for one in sequences]

    def infer(self, sequences: list[Sequence], rows: int = 1, *, fails: bool = False) -> None:
        """One inference for all, and a check that each reads what it should."""
        wanted = self.wanted(sequences, rows)
        assert self.cache.fits(wanted) == len(wanted)
        self.cache.reserve(wanted)
        copies: list[PageCopy] = []
        placements = [self.cache.place(sequence, first, copies) for sequence, first in wanted]
        self.copied = copies
        for source, target, tokens in copies:
            self.blocks[target] = self.blocks[source][:tokens] + [None] * (SIZE - tokens)
        if not fails:
            self.write(wanted, placements)
            for placement in placements:
                self.cache.store(placement)

    def write(self, wanted: list[tuple[Sequence, int]], placements: list[Placement]) -> None:
        before = [list(block) for block in self.blocks]
        for (sequence, first), placement in zip(wanted, placements, strict=True):
            tokens, table = sequence.tokens.tolist(), placement.page.table.tolist()
            assert placement.start <= first
            assert len(table) == -(-sequence.length // SIZE)
            for position in range(placement.start):  # read what was there before this inference
                assert before[table[position // SIZE]][position % SIZE] == tuple(tokens[: position + 1])
            for position in range(placement.start, sequence.length):
                self.blocks[table[position // SIZE]][position % SIZE] = tuple(tokens[: position + 1])
                self.computed += 1
            last = self.blocks[table[-1]]
            end = (sequence.length - 1) % SIZE + 1
            last[end:] = [None] * (SIZE - end)  # the kernel clears what comes after
        for (sequence, _), placement in zip(wanted, placements, strict=True):
            self.check(sequence, placement.page.table.tolist())

    def check(self, sequence: Sequence, table: list[int]) -> None:
        tokens = sequence.tokens.tolist()
        for position in range(sequence.length):
            assert self.blocks[table[position // SIZE]][position % SIZE] == tuple(tokens[: position + 1])

    def check_all(self, sequences: list[Sequence]) -> None:
        """Whatever the cache says that it holds, it holds."""
        for sequence in sequences:
            node, page = self.cache.cached(sequence, sequence.length)
            if page is not None:
                self.check(node, page.table.tolist())


@pytest.fixture
def tree() -> Vocabulary:
    return Vocabulary(1000)


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def test_a_sequence_takes_the_pages_of_its_tokens(tree: Vocabulary) -> None:
    memory = Memory(8)
    sequence = tree.prompt(range(6))
    memory.infer([sequence])
    assert memory.cache.in_use == 2
    for token in (6, 7, 8):
        sequence += token
        memory.infer([sequence])
    assert (memory.cache.in_use, memory.computed, memory.copied) == (3, 9, [])
    del sequence
    assert memory.cache.in_use == 0


@pytest.mark.parametrize(("rewritable", "at_least"), [(True, 1), (True, 2), (False, 1)])
@pytest.mark.parametrize("length", [5, 6, 7, 8, 9])
def test_samples_of_one_prompt_copy_at_most_its_last_page(
    tree: Vocabulary, length: int, rewritable: bool, at_least: int
) -> None:
    memory = Memory(40, rewritable, at_least)
    prompt = tree.prompt(range(length))
    memory.infer([prompt])
    before = memory.cache.in_use
    samples = [prompt + (100 + sample) for sample in range(5)]
    memory.infer(samples)
    assert len(memory.copied) <= 5
    assert memory.cache.in_use <= before + 5
    shared = length // SIZE * SIZE
    pages = [memory.cache.cached(one, one.length)[1] for one in samples]
    assert len({page.table.tolist()[shared // SIZE - 1] for page in pages if page is not None}) == 1
    del pages
    samples = [one + 7 for one in samples]
    memory.infer(samples)
    assert memory.copied == []  # each has its own last page now
    memory.check_all([prompt, *samples])
    del prompt, samples
    assert memory.cache.in_use == 0


def test_one_child_alone_copies_nothing(tree: Vocabulary) -> None:
    memory = Memory(8)
    prompt = tree.prompt(range(6))
    memory.infer([prompt])
    child = prompt + 6
    memory.infer([child])
    assert memory.copied == []
    sibling = prompt + 7
    memory.infer([sibling])
    assert len(memory.copied) == 1
    memory.check_all([prompt, child, sibling])


def test_a_slot_of_a_sequence_that_is_gone_is_written_again(tree: Vocabulary) -> None:
    memory = Memory(8)
    prompt = tree.prompt(range(5))
    memory.infer([prompt])
    for token in range(10):
        memory.infer([prompt + token])
        assert (memory.copied, memory.cache.in_use) == ([], 2)


def test_a_quantised_page_is_not_written_twice(tree: Vocabulary) -> None:
    memory = Memory(8, rewritable=False)
    prompt = tree.prompt(range(6))
    memory.infer([prompt])
    memory.infer([prompt])
    assert len(memory.copied) == 1
    memory.check_all([prompt])


def test_a_failed_inference_stores_nothing_and_keeps_nothing(tree: Vocabulary) -> None:
    memory = Memory(8)
    prompt = tree.prompt(range(6))
    memory.infer([prompt])
    memory.infer([prompt + [1, 2, 3]], fails=True)
    assert memory.cache.missing(prompt + 1) == 1
    assert memory.cache.in_use == 2
    memory.infer([prompt + [1, 2, 3]])
    memory.check_all([prompt])


def test_eviction_takes_the_longest_unused_and_no_more_than_it_must(tree: Vocabulary) -> None:
    """It once took all that nobody asked about: a list held the pages while free ones were counted."""
    memory = Memory(10)
    old, middle, new = (tree.prompt([first] * 8) for first in (1, 2, 3))
    for one in (old, middle, new):
        memory.infer([one])
    memory.infer([old])  # so that `middle` is the longest unused
    assert memory.cache.in_use == 6
    asked = tree.prompt([4] * 20)
    memory.infer([asked])
    assert memory.cache.missing(middle) == 4  # its last page is enough
    assert [memory.cache.missing(one) for one in (old, new, asked)] == [0, 0, 0]
    memory.check_all([old, middle, new, asked])


def test_a_page_is_not_evicted_before_those_that_build_on_it(tree: Vocabulary) -> None:
    memory = Memory(6)
    root = tree.prompt([1] * 8)
    memory.infer([root])
    children = [root + [token] * 4 for token in (2, 3)]
    for child in children:
        memory.infer([child])
    memory.infer([tree.prompt([5] * 10)])
    assert memory.cache.missing(children[0]) == 4
    assert memory.cache.missing(root) == 0
    memory.check_all([root, *children])


@pytest.mark.parametrize("at_least", [1, 2])
@pytest.mark.parametrize("rewritable", [True, False])
def test_what_fits_alone_is_served_whatever_is_cached_of_it(tree: Vocabulary, rewritable: bool, at_least: int) -> None:
    """Three pages once did not hold a sequence of three pages that was in them: a copy needs a fourth."""
    memory = Memory(3, rewritable, at_least)
    sequence = tree.prompt([1])
    for token in range(2, 13):
        memory.infer([sequence])
        sequence += token
    for rows in (1, 2, 5, 9, 12):
        memory.infer([sequence], rows)
        memory.infer([sequence[:7]], 3)
    kept = sequence[:10] + 9
    memory.infer([kept])
    memory.infer([sequence])
    memory.check_all([sequence, kept])
    assert memory.cache.fits(memory.wanted([sequence + 1])) == 0


def test_growing_alone_in_a_full_cache_recomputes_nothing(tree: Vocabulary) -> None:
    memory = Memory(3, at_least=2)
    sequence = tree.prompt([1] * 4)
    memory.infer([sequence])
    for _ in range(8):
        before = memory.computed
        sequence += 2
        memory.infer([sequence])
        assert memory.computed - before == 2


def test_taking_more_pages_than_there_are_is_an_error(tree: Vocabulary) -> None:
    """The page that could not be had once complained from its destructor as well."""
    memory = Memory(2)
    with pytest.raises(CacheError, match="all 2 pages"):
        memory.cache.place(tree.prompt(range(12)), 11, [])
    assert memory.cache.in_use == 0


sizes = st.lists(st.integers(0, 2), min_size=1, max_size=9)


class Tree(RuleBasedStateMachine):
    """Random growth, forks, taking back, dropping and inference, failures among them, in little memory."""

    @initialize(pages=st.integers(4, 14), rewritable=st.booleans(), at_least=st.sampled_from([1, 2]))
    def begin(self, pages: int, rewritable: bool, at_least: int) -> None:
        self.vocabulary = Vocabulary(3)
        self.memory = Memory(pages, rewritable, at_least)
        self.live: list[Sequence] = []

    @rule(tokens=sizes)
    def prompt(self, tokens: list[int]) -> None:
        self.live.append(self.vocabulary.prompt(tokens))

    @precondition(lambda self: self.live)
    @rule(place=st.integers(0, 99), tokens=sizes)
    def fork(self, place: int, tokens: list[int]) -> None:
        self.live.append(self.live[place % len(self.live)] + tokens)

    @precondition(lambda self: self.live)
    @rule(place=st.integers(0, 99), token=st.integers(0, 2))
    def grow(self, place: int, token: int) -> None:
        self.live[place % len(self.live)] += token

    @precondition(lambda self: self.live)
    @rule(place=st.integers(0, 99), back=st.integers(1, 6))
    def take_back(self, place: int, back: int) -> None:
        one = self.live[place % len(self.live)]
        self.live[place % len(self.live)] = one[: max(1, one.length - back)]

    @precondition(lambda self: self.live)
    @rule(place=st.integers(0, 99))
    def drop(self, place: int) -> None:
        self.live.pop(place % len(self.live))

    @precondition(lambda self: self.live)
    @rule(
        places=st.lists(st.integers(0, 99), min_size=1, max_size=6),
        rows=st.integers(1, 9),
        fails=st.booleans(),
    )
    def infer(self, places: list[int], rows: int, fails: bool) -> None:
        asked = list(dict.fromkeys(self.live[place % len(self.live)] for place in places))
        count = self.memory.cache.fits(self.memory.wanted(asked, rows))
        if count == 0:
            assert -(-asked[0].length // SIZE) > self.memory.cache.pages
        else:
            self.memory.infer(asked[:count], rows, fails=fails)

    @invariant()
    def holds_what_it_says(self) -> None:
        if hasattr(self, "memory"):
            self.memory.check_all(self.live)
            pages = {number for page in self.memory.cache._page.values() for number in page.table.tolist()}
            assert pages.isdisjoint(self.memory.cache.free)
            assert len(pages) == self.memory.cache.in_use
            assert len(set(self.memory.cache.free)) == len(self.memory.cache.free)

    def teardown(self) -> None:
        if hasattr(self, "memory"):
            self.live.clear()
            assert self.memory.cache.in_use == 0


TestTree = Tree.TestCase
TestTree.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=14), min_size=1, max_size=10),
    st.integers(4, 30),
)
def test_a_batch_that_fits_finds_its_pages(prompts: list[list[int]], pages: int) -> None:
    """`fits` is an upper bound: `place` never runs out."""
    vocabulary, memory = Vocabulary(2), Memory(pages, at_least=2)
    rest = list(dict.fromkeys(vocabulary.prompt(prompt) for prompt in prompts))
    while rest:
        count = memory.cache.fits(memory.wanted(rest))
        assert count > 0
        memory.infer(rest[:count])
        memory.check_all(rest)
        rest = rest[count:]
