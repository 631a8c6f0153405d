"""The inputs of an inference, written out for sequences of a few tokens."""

from __future__ import annotations

import numpy as np
import pytest

from ovdecode.runners.feed import Feed


def pages(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def test_sequences_one_after_another() -> None:
    feed = Feed()
    feed.add([5, 6, 7], 30, pages(4, 2), 2)
    feed.add([9], 3, pages(1), 1)
    found = {name: array.tolist() for name, array in feed.inputs(1).items()}
    assert found == {
        "input_ids": [5, 6, 7, 9],
        "position_ids": [30, 31, 32, 3],
        "past_lens": [30, 3],
        "subsequence_begins": [0, 3, 4],
        "block_indices": [4, 2, 1],
        "block_indices_begins": [0, 2, 3],
        "max_context_len": 33,
        "wanted_rows": [1, 2, 3],
    }
    assert len(feed) == 4


@pytest.mark.parametrize(("tokens", "begins"), [(0, [0, 1]), (1, [0, 1]), (2, [0, 1, 2]), (5, [0, 1, 5])])
def test_what_lacks_is_one_sequence(tokens: int, begins: list[int]) -> None:
    feed = Feed()
    feed.add([9], 3, pages(1), 1)
    feed.fill(tokens, pages(8))
    found = feed.inputs(2)
    assert found["subsequence_begins"].tolist() == begins
    assert found["block_indices"].tolist() == [1, 8][: len(begins) - 1]
    assert found["wanted_rows"].tolist() == [0, begins[-1] - 1]  # two rows, of which the first was asked for
    assert (feed.wanted, feed.sequences) == ([0], len(begins) - 1)


def test_rows_that_nobody_wants() -> None:
    feed = Feed()
    feed.add([5, 6], 0, pages(1), 0)
    assert feed.inputs(1)["wanted_rows"].tolist() == [1]
    assert feed.wanted == []
