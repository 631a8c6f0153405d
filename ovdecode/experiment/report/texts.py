"""The texts of the report as compact JSON: every spelling once, and a text as a few strings of numbers."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from typing import TYPE_CHECKING, Any

from ovdecode.experiment.layout import number
from ovdecode.experiment.report.traces import Explored, Position, Trace
from ovdecode.experiment.report.tree import Node, tree_of
from ovdecode.vocabulary import Spelling

if TYPE_CHECKING:
    from ovdecode.experiment.record import Record

MAX_BRANCHES = 64
"""Of a tree: more can't be looked at."""
MAX_TRACE_BYTES = 8_000_000
"""What traces may weigh on a page, so that thousands of texts find room beside them."""


class Pieces:
    """What tokens look like, each look once.

    Attributes:
        looks: the strings, in the order in which they came up.
        special: the places of those that are markup, not text.
    """

    def __init__(self) -> None:
        self.looks: list[str] = []
        self.special: list[int] = []
        self._places: dict[tuple[str, bool], int] = {}

    def text(self, tokens: Iterable[int], spelling: Spelling) -> list[int]:
        """The places of the looks of a text's tokens.

        A character that takes several tokens belongs to the last of them; the others look empty.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        places = []
        for token in tokens:
            special = token in spelling.special_ids
            piece = spelling.token_bytes(token)
            places.append(self._place(_decoded(piece) if special else decoder.decode(piece), special))
        if rest := decoder.decode(b"", final=True):
            places[-1] = self._place(self.looks[places[-1]] + rest, False)
        return places

    def alone(self, token: int, spelling: Spelling) -> int:
        """The place of the look of a token by itself."""
        return self._place(_decoded(spelling.token_bytes(token)), token in spelling.special_ids)

    def _place(self, look: str, special: bool) -> int:
        place = self._places.setdefault((look, special), len(self.looks))
        if place == len(self.looks):
            self.looks.append(look)
            if special:
                self.special.append(place)
        return place


def _decoded(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def numbers(places: Iterable[int]) -> str:
    """Whole numbers as a string, which the page takes apart when it shows the text."""
    return " ".join(map(str, places))


def surprises(logprobs: Iterable[float | None]) -> str:
    """Log-probabilities as thousandths of a nat of surprise; "x" where they are not known."""
    return " ".join(
        "x" if value is None or not math.isfinite(value) else str(round(-1000 * value)) for value in logprobs
    )


def short(value: float | None) -> float | None:
    """A number in the five digits that the page shows; None for one that is no number."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")


def _trace(trace: Trace, tokens: Items[int], pieces: Pieces, spelling: Spelling) -> Mapping[str, Any]:
    """A trace, as the page reads it."""
    return {
        "stages": trace.stages,
        "positions": [
            _position(position, token, pieces, spelling)
            for position, token in zip(trace.positions, tokens, strict=True)
        ],
    }


def _position(position: Position, chosen: int, pieces: Pieces, spelling: Spelling) -> list[Any]:
    alternatives = [
        [
            pieces.alone(each.token, spelling),
            short(each.probability),
            short(each.left),
            -1 if each.removed_by is None else each.removed_by,
            int(each.token == chosen),
        ]
        for each in position.alternatives
    ]
    return [alternatives, [[count, short(mass)] for count, mass in position.removed]]


class Texts:
    """The texts of the report, collected one by one until they weigh enough.

    Args:
        spellings: model name to what turns its tokens into text; a text of another model is shown without its tokens.
        max_bytes: what they may weigh in JSON, roughly.
        max_trace_bytes: what may be of their traces; texts beyond it are shown without.

    Attributes:
        entries: a JSON object for each text.
        traced: how many of them have a trace.
    """

    def __init__(
        self, spellings: Mapping[str, Spelling], max_bytes: int, max_trace_bytes: int = MAX_TRACE_BYTES
    ) -> None:
        self.spellings, self.max_bytes, self.max_trace_bytes = spellings, max_bytes, max_trace_bytes
        self.pieces = Pieces()
        self.entries: list[dict[str, Any]] = []
        self.bytes = self.trace_bytes = self.traced = 0

    @property
    def full(self) -> bool:
        """Whether they weigh enough."""
        return self.bytes >= self.max_bytes

    def add(
        self,
        record: Record,
        row: int,
        values: Iterable[float | None],
        trace: Trace | Exception | None = None,
        explored: Explored | Exception | None = None,
    ) -> None:
        """Take in the text of a record.

        Args:
            record: what was stored.
            row: the place of its model and method in the table.
            values: what each metric says of it.
            trace: what was possible at each token; or why that is not known.
            explored: what else the method looked at.
        """
        entry: dict[str, Any] = {"prompt": record.prompt, "row": row, "figures": _figures(record)}
        shown = [short(value) for value in values]
        if any(value is not None for value in shown):
            entry["values"] = shown
        if record.error is not None:
            entry["error"] = record.error
        spelling = self.spellings.get(record.model)
        if spelling is None:
            entry["text"] = record.text
        else:
            entry["looks"] = numbers(self.pieces.text(record.tokens, spelling))
            entry["surprises"] = surprises(record.logprobs)
            if isinstance(trace, Trace) and self.trace_bytes < self.max_trace_bytes:
                entry["trace"] = _trace(trace, record.tokens, self.pieces, spelling)
                self.trace_bytes += len(embedded(entry["trace"]))
                self.traced += 1
            elif isinstance(trace, Exception):
                entry["trace_error"] = str(trace)
            nodes = _tree(record, explored)
            if len(nodes) > 1:
                entry["tree"] = [
                    [
                        node.parent,
                        numbers(self.pieces.text(node.tokens, spelling)),
                        -1 if node.rank is None else node.rank,
                    ]
                    for node in nodes
                ]
                entry["explored"] = isinstance(explored, Explored)
        self.entries.append(entry)
        self.bytes += len(embedded(entry).encode("utf-8", "replace"))

    def plain(self) -> dict[str, Any]:
        """All of it, as the page reads it."""
        return {"pieces": self.pieces.looks, "special": self.pieces.special, "texts": self.entries}


def embedded(value: Any) -> str:
    """A value as JSON that can stand in a page: nothing in it is a tag or the end of one."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _figures(record: Record) -> list[str]:
    """What is said about a text above it."""
    length = len(record.tokens)
    figures = [f"{length} tokens"]
    if length and record.logprob is not None:
        figures.append(f"log-probability {number(record.logprob / length, 2)} a token")
    figures.append(f"{record.forwards} forwards")
    figures.append(" ".join(filter(None, ["stop:", record.stop or "none", record.stop_detail])))
    figures += [f"{name} {value:.4g}" for name, value in record.info.items() if value is not None]
    return figures


def _tree(record: Record, explored: Explored | Exception | None) -> list[Node]:
    """What the record's method looked at, as far as that is known; none if it is a single line."""
    found = [tuple(each["tokens"]) for each in record.alternatives] or [tuple(record.tokens)]
    branches = explored.branches if isinstance(explored, Explored) else ()
    return tree_of(found[:MAX_BRANCHES], branches[:MAX_BRANCHES])
