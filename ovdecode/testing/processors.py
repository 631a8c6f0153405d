"""The laws that every logits processor keeps, each a function; `check_processor` asks for all of them.

from ovdecode.testing import check_processor

check_processor(MyPenalty(strength=0.5))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from typing import Any, cast
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from ovdecode.candidates import Candidates
from ovdecode.errors import LogitsError
from ovdecode.numerics import Floats
from ovdecode.processor import Chain, LogitsProcessor
from ovdecode.sequence import Sequence
from ovdecode.spec import parse
from ovdecode.testing import cases
from ovdecode.testing.cases import VOCAB_SIZE, alive, broken, global_randomness
from ovdecode.testing.configuration import law_configuration
from ovdecode.vocabulary import Vocabulary

__all__ = [
    "check_processor",
    "law_processor_chain",
    "law_processor_determinism",
    "law_processor_isolation",
    "law_processor_narrowing",
    "law_processor_purity",
    "law_processor_representation",
]

Given = list[tuple[Candidates, Sequence]]


def check_processor(processor: LogitsProcessor, *, invalid: Mapping[str, Iterable[Any]] | None = None) -> None:
    """Hold a processor to all laws that apply to one.

    It is tried on a vocabulary of `cases.VOCAB_SIZE` tokens, of which `cases.EOS` ends a text.

    Args:
        processor: what is tested.
        invalid: parameter to values that it must refuse.

    Raises:
        AssertionError: the message begins with the law, and says what was seen and what was expected.

    Example:
        >>> import ovdecode as od
        >>> check_processor(od.TopK(3) | od.Temperature(0.5))
    """
    law_configuration(processor, invalid)
    law_processor_purity(processor)
    law_processor_determinism(processor)
    law_processor_isolation(processor)
    law_processor_narrowing(processor)
    law_processor_representation(processor)
    law_processor_chain(processor)


def law_processor_purity(processor: LogitsProcessor) -> None:
    """The candidates and their arrays stay as they were, and no reference to them or to the sequence is kept.

    Raises:
        AssertionError: if it does not hold.
    """
    law = "Purity"
    vocabulary = Vocabulary(VOCAB_SIZE, [cases.EOS])
    before = alive(vocabulary)
    for sequence in cases.sequences(vocabulary):
        for candidates in cases.candidates():
            for writeable in (False, True):
                _check_untouched(law, processor, candidates, sequence, writeable)
    del sequence
    if alive(vocabulary) > before:
        raise broken(law, processor, f"{alive(vocabulary) - before} sequences still held", "none after the call")


def _check_untouched(
    law: str, processor: LogitsProcessor, like: Candidates, sequence: Sequence, writeable: bool
) -> None:
    logits, ids = like.logits.copy(), None if like.dense else like.ids.copy()
    given = Candidates(logits, ids)
    arrays = [logits] if ids is None else [logits, ids]
    for array in arrays:
        array.flags.writeable = writeable
    try:
        left = processor(given, sequence)
    except LogitsError:
        left = None
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise broken(law, processor, f"{error!r}: a write into what it was given", "new arrays") from error
    if left is not None and not isinstance(left, Candidates):
        raise broken(law, processor, f"{left!r:.80}", "Candidates")
    same = np.array_equal(logits, like.logits) and (ids is None or np.array_equal(ids, like.ids))
    if not same or given.logits is not logits or given._ids is not ids:
        raise broken(law, processor, f"{given!r} after it was given {like!r}", "candidates left as they were")
    held = [ref(given), *map(ref, arrays)]
    del left, given, logits, ids, arrays, array
    if any(reference() is not None for reference in held):
        raise broken(law, processor, "a reference kept to the candidates of a call", "none after the call")


def law_processor_determinism(processor: LogitsProcessor) -> None:
    """The same candidates and sequence give the same result; global random states are left alone.

    Raises:
        AssertionError: if it does not hold.
    """
    law = "Determinism"
    for candidates, sequence in _given():
        with global_randomness(law, processor):
            first, again = apply(processor, candidates, sequence), apply(processor, candidates, sequence)
        if not _same(first, again):
            raise broken(law, processor, f"{_show(again)} the second time, after {sequence!r}", _show(first))


def law_processor_isolation(processor: LogitsProcessor) -> None:
    """What comes out depends on the sequence's own tokens alone, whoever was asked about before.

    Raises:
        AssertionError: if it does not hold.
    """
    law = "Isolation"
    given = _given()
    fresh = [_show(apply(dataclasses.replace(processor), *each)) for each in given]
    for order in (
        range(len(given)),
        range(len(given) - 1, -1, -1),
        np.random.default_rng(0).permutation(len(given)),
    ):
        for place in order:
            found = _show(apply(processor, *given[place]))
            if found != fresh[place]:
                seen = f"{found} after {given[place][1]!r}, asked after others"
                raise broken(law, processor, seen, f"{fresh[place]}, as alone")


def law_processor_narrowing(processor: LogitsProcessor) -> None:
    """No token becomes possible that was not; ids rise; logits stay numbers of the precision they had.

    A processor that leaves nothing possible raises a `LogitsError`, or returns what does so when it is used.

    Raises:
        AssertionError: if it does not hold.
    """
    law = "Narrowing"
    nothing = Candidates(np.empty(0, np.float32), np.empty(0, np.intp))
    given = [*_given(), *((nothing, sequence) for sequence in cases.sequences())]
    for candidates, sequence in given:
        try:
            left = processor(candidates, sequence)
        except LogitsError:
            continue
        except Exception as error:
            seen = f"{type(error).__name__} ({error}) for {candidates!r} after {sequence!r}"
            raise broken(law, processor, seen, "candidates, or a LogitsError") from error
        ids, logits = left.ids, left.logits
        if logits.shape != ids.shape or np.any(np.diff(ids) <= 0):
            seen = f"ids {ids.tolist()} for {logits.shape} logits"
            raise broken(law, processor, seen, "as many rising ids as logits")
        new = np.setdiff1d(ids[logits > -np.inf], candidates.ids[candidates.logits > -np.inf])
        if len(new):
            seen = f"the tokens {new.tolist()}, which were not among {candidates!r}, after {sequence!r}"
            raise broken(law, processor, seen, "no tokens that were not possible")
        if np.any(np.isnan(logits) | (logits == np.inf)):
            raise broken(law, processor, f"{left!r} for {candidates!r}", "logits that are numbers, or -inf")
        if logits.dtype != candidates.logits.dtype:
            seen = f"logits of {logits.dtype} for {candidates.logits.dtype}"
            raise broken(law, processor, seen, "the precision of what it was given")


def law_processor_representation(processor: LogitsProcessor) -> None:
    """One distribution gives one result: as a dense row, as explicit ids, or without its impossible tokens.

    Raises:
        AssertionError: if it does not hold.
    """
    law = "Representation"
    for row in cases.rows():
        possible = np.flatnonzero(row > -np.inf)
        forms = {
            "explicit ids": Candidates(row, np.arange(len(row))),
            "its finite logits": Candidates(row).at(possible),
        }
        for sequence in cases.sequences():
            dense = _spread(processor, Candidates(row), sequence)
            for form, candidates in forms.items():
                found = _spread(processor, candidates, sequence)
                if not _close(found, dense):
                    seen = f"{found} for {row} written as {form}, after {sequence!r}"
                    raise broken(law, processor, seen, f"{dense}, as for the dense row")


def law_processor_chain(processor: LogitsProcessor) -> None:
    """In a chain it does what it does alone, and (a | b) | c is a | (b | c).

    Raises:
        AssertionError: if it does not hold.
    """
    law = "Chain"
    before, after = (
        cast(LogitsProcessor, parse(spec, "processor")) for spec in ("temperature:temperature=0.5", "top_k:k=4")
    )
    left, right = (before | processor) | after, before | (processor | after)
    if left != right or left.stages != (before, *processor.stages, after):
        raise broken(law, processor, f"{left!r} for (a | b) | c", f"the stages of a | (b | c), {right!r}")
    itself = processor.stages[0] if len(processor.stages) == 1 else Chain(processor.stages)
    if processor | Chain() != itself:
        raise broken(law, processor, f"{processor | Chain()!r} with the empty chain", "itself")
    for candidates, sequence in _given():
        chained = apply(left, candidates, sequence)
        stepped: Candidates | None = candidates
        for stage in (before, processor, after):
            stepped = None if stepped is None else apply(stage, stepped, sequence)
        if not _same(chained, stepped):
            raise broken(law, processor, f"{_show(chained)} in a chain, after {sequence!r}", _show(stepped))


def apply(processor: LogitsProcessor, candidates: Candidates, sequence: Sequence) -> Candidates | None:
    """What a processor leaves; None if it says that nothing is left."""
    try:
        return processor(candidates, sequence)
    except LogitsError:
        return None


def _given() -> Given:
    return [(candidates, sequence) for sequence in cases.sequences() for candidates in cases.candidates()]


def _show(candidates: Candidates | None) -> str:
    if candidates is None:
        return "a LogitsError"
    ids, logits = candidates.ids.tolist(), candidates.logits.tolist()
    return str(dict(zip(ids, logits, strict=False)))


def _same(one: Candidates | None, other: Candidates | None) -> bool:
    return _show(one) == _show(other)


def _spread(processor: LogitsProcessor, candidates: Candidates, sequence: Sequence) -> Floats | None:
    """The logits left, shape (VOCAB_SIZE,), -inf for what is impossible; None if everything is."""
    left = apply(processor, candidates, sequence)
    if left is None or not np.any(left.logits > -np.inf):
        return None
    return left.spread(VOCAB_SIZE)


def _close(one: Items[float] | NDArray[Any] | None, other: Items[float] | NDArray[Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.allclose(one, other, rtol=1e-5, atol=1e-5))
