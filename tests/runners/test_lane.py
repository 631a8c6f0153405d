"""Which tokens go into which inference of a paged lane."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ovdecode.runners.lane import Span, split
from ovdecode.runners.pages import PageCache
from ovdecode.vocabulary import Vocabulary

PAGE = PageCache(4, 32, True).take(None)


def span(begin: int, end: int, rows: int) -> Span:
    return Span(Vocabulary(9).prompt([1] * end), PAGE, begin, end, rows)


def shown(parts: list[list[Span]]) -> list[list[tuple[int, int, int]]]:
    return [[(each.begin, each.end, each.rows) for each in spans] for spans in parts]


def test_what_fits_is_one_inference():
    spans = [span(3, 5, 1), span(0, 6, 6)]
    assert split(spans, 8, 2) == [spans]


def test_a_long_span_is_cut_and_its_last_rows_stay_at_its_end():
    assert shown(split([span(0, 10, 3)], 4, 2)) == [[(0, 4, 0)], [(4, 8, 1)], [(8, 10, 2)]]


def test_no_piece_is_shorter_than_asked():
    assert shown(split([span(0, 9, 1)], 4, 2)) == [[(0, 4, 0)], [(4, 7, 0)], [(7, 9, 1)]]
    assert shown(split([span(0, 3, 1), span(5, 8, 1)], 4, 2)) == [[(0, 3, 1)], [(5, 8, 1)]]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(2, 30), st.integers(0, 5)), min_size=1, max_size=6),
    st.integers(4, 20),
)
def test_every_token_and_every_row_is_computed_once(shapes: list[tuple[int, int, int]], at_most: int):
    spans = [span(begin, begin + length, min(rows, length)) for begin, length, rows in shapes]
    parts = split(spans, at_most, 2)
    assert all(sum(each.end - each.begin for each in part) <= at_most for part in parts)
    pieces = [each for part in parts for each in part]
    assert all(each.end - each.begin >= 2 for each in pieces)
    for whole in spans:
        begin, rows = whole.begin, 0
        while begin < whole.end:
            piece = pieces.pop(0)
            assert (piece.sequence, piece.begin) == (whole.sequence, begin)
            wanted = range(max(piece.begin, whole.end - whole.rows), piece.end)
            assert piece.rows == len(wanted)
            begin, rows = piece.end, rows + piece.rows
        assert rows == whole.rows
    assert pieces == []
