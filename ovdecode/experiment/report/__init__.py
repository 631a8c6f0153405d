"""The report: one page that shows what an experiment found, in any browser, without a network.

from ovdecode.experiment import Store
from ovdecode.experiment.report import write_report

write_report(Store.open("my.store"), traces=40)
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ovdecode.errors import ConfigurationError, OvdecodeError
from ovdecode.experiment.report.page import render
from ovdecode.experiment.report.texts import Texts
from ovdecode.experiment.report.traces import Explored, Trace, explore, trace_texts
from ovdecode.plugin import is_whole

if TYPE_CHECKING:
    from ovdecode.experiment.record import Record
    from ovdecode.experiment.store import Store
    from ovdecode.experiment.table import Summary
    from ovdecode.model import Model
    from ovdecode.vocabulary import Spelling

__all__ = ["write_report"]

MAX_TEXTS = 4000
MAX_BYTES = 12_000_000
"""What texts on the page may weigh; a browser that is handed much more is slow to open it."""
MAX_PROMPT = 4000
"""Characters of a prompt that are shown."""


def write_report(
    store: Store,
    path: str | Path | None = None,
    *,
    table: Summary | None = None,
    traces: int = 0,
    models: Mapping[str, Model] | None = None,
) -> Path:
    """Write the report of a store.

    Table and charts are of all results. Of the texts, as many are shown as a browser opens at once, prompt by prompt;
    the page says how many were left out.

    Args:
        store: finished or not.
        path: of the page; by default `report.html` in the store's folder.
        table: its figures, with a baseline or without; made here if None.
        traces: for how many texts the model is asked again, so that the page shows what else was possible at each
            token, which stage of the chain removed it, and everything that the method looked at. They are the first
            ones, prompt by prompt. The model is loaded only for them.
        models: models that are loaded already, by their source.

    Returns:
        The path.

    Raises:
        ConfigurationError: if the extra `report` is not installed, `traces` is below 0, or the file can't be written.
    """
    from ovdecode.experiment.table import summary

    if not is_whole(traces) or traces < 0:
        raise ConfigurationError(f"`traces` must be a whole number of at least 0, got {traces!r}")
    path = store.folder / "report.html" if path is None else Path(path)
    table = summary(store) if table is None else table
    chosen = _by_prompt(store)
    texts = Texts(_spellings(store, models or {}), MAX_BYTES)
    seen = _seen_again(store, chosen[:traces], models or {}) if traces else {}
    measured = [store.values(metric).ravel() for metric in table.metrics]
    shown: set[int] = set()
    for record, place in zip(store.records(chosen[:MAX_TEXTS]), chosen, strict=False):
        if texts.full:
            break
        trace, explored = seen.get(place, (None, None))
        texts.add(record, _row_of(store, place), [float(values[place]) for values in measured], trace, explored)
        shown.add(record.prompt)
    page = render(
        store.folder.resolve().name.removesuffix(".store"),
        _facts(store),
        table,
        prompts={index: _prompt(store, index) for index in sorted(shown)},
        texts=texts.plain(),
        texts_note=_note(len(chosen), len(texts.entries), texts.traced),
    )
    # A text may hold half of a surrogate pair, which no file can; in JSON its escape stands for it.
    try:
        path.write_bytes(page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise ConfigurationError(f"`path` must be a file that can be written, but: {error}") from error
    return path


def _note(finished: int, shown: int, traced: int) -> str:
    """What the page says about the texts and traces that are not on it."""
    notes = []
    if shown < finished:
        notes.append(f"Of {finished:,} texts, the last {finished - shown:,} are not on this page.")
    if traced < shown:
        notes.append(
            f"Alternatives, and the stages that removed them, are there for {traced:,} of {shown:,} texts: "
            "`ovdecode report --traces N` asks the model for those of the first N."
        )
    return " ".join(notes)


def _by_prompt(store: Store) -> list[int]:
    """The places of what is finished: by prompt first, so that any beginning has all methods of its prompts."""
    store.refresh()
    order = np.arange(len(store.cells)).reshape(store.shape).transpose(1, 3, 0, 2).ravel()
    return order[store.finished[order]].tolist()  # type: ignore[no-any-return]


def _row_of(store: Store, place: int) -> int:
    """The line of the table that a place belongs to: by model and strategy."""
    model, _, strategy, _ = np.unravel_index(place, store.shape)
    return int(model) * store.shape[2] + int(strategy)


def _spellings(store: Store, models: Mapping[str, Model]) -> dict[str, Spelling]:
    """What turns tokens into text, for each model that is on this machine."""
    from ovdecode.models import HuggingFaceTokenizer, locate

    found: dict[str, Spelling] = {source: model.vocabulary.spelling for source, model in models.items()}
    for source in store.experiment.models:
        if source not in found:
            try:
                found[source] = HuggingFaceTokenizer(locate(source, progress=False))
            except (OvdecodeError, OSError):
                continue  # a store may be looked at far from its models
    return found


def _seen_again(
    store: Store, places: list[int], models: Mapping[str, Model]
) -> dict[int, tuple[Trace | Exception, Explored | Exception]]:
    """What the models say of the texts at some places when they are asked again."""
    from ovdecode.engine import Task
    from ovdecode.experiment.loaded import Models

    load, plan = Models(store.experiment, models), store.experiment
    good = [place for place in places if not store.failed[place]]
    records = list(store.records(good))
    tasks = [
        Task(
            load(record.model),
            store.prompts[record.prompt].content,
            record.strategy,
            plan.max_new_tokens,
            plan.stop,
            plan.ignore_eos,
            record.seed,
            record.sample,
        )
        for record in records
    ]
    traced = trace_texts((task, record.tokens, record.taken_back) for task, record in zip(tasks, records, strict=True))
    explored = [_same(each, record) for each, record in zip(explore(tasks), records, strict=True)]
    return dict(zip(good, zip(traced, explored, strict=True), strict=True))


def _same(explored: Explored | Exception, record: Record) -> Explored | Exception:
    """What was explored, if that led to the text that is stored: in `fast` it may lead to another."""
    if isinstance(explored, Explored) and explored.tokens != record.tokens:
        return OvdecodeError("decoded again, the text is another")
    return explored


def _prompt(store: Store, index: int) -> dict[str, Any]:
    prompt = store.prompts[index]
    text = prompt.text if len(prompt.text) <= MAX_PROMPT else prompt.text[:MAX_PROMPT] + " …"
    return {"text": text, "references": list(prompt.references)}


def _facts(store: Store) -> list[tuple[str, str]]:
    """What is said about the experiment at the top."""
    plan, run = store.experiment, store.manifest["runs"][-1]
    return [
        ("models", ", ".join(plan.models)),
        ("texts", f"{len(store):,} of {len(store.cells):,} finished, {int(store.failed.sum()):,} failed"),
        ("grid", " × ".join(map(_counted, store.shape, ("model", "prompt", "method", "sample")))),
        ("seed", str(plan.seed)),
        ("precision", plan.precision),
        ("versions", ", ".join(f"{name} {version}" for name, version in run["versions"].items())),
        ("processor", f"{run['hardware'].get('processor', '?')}, {run['hardware'].get('cores', '?')} cores"),
        ("last run", datetime.fromisoformat(run["started"]).strftime("%Y-%m-%d %H:%M UTC")),
    ]


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
