"""All tasks in one engine run, with progress on a terminal, and Ctrl-C that keeps what is finished."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ovdecode.cli.console import console
from ovdecode.interruption import interruptible

if TYPE_CHECKING:
    from rich.progress import Progress

    from ovdecode.engine import Engine, Job, Task
    from ovdecode.generation import Generation


@dataclass
class Batch:
    """What a run brought.

    Attributes:
        generations: by the index of their task; those that were not finished are missing.
        seconds: from the first round to the last, on the engine's clock.
        interrupted: whether Ctrl-C ended it.
    """

    generations: dict[int, Generation] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False


def run_batch(tasks: list[Task]) -> Batch:
    """Decode all tasks in one shared batch.

    Ctrl-C ends it after the round under way; a second one ends the program.
    """
    from ovdecode.engine import Engine
    from ovdecode.generation import Generation

    batch = Batch()
    engine = Engine()
    jobs = [engine.submit(task) for task in tasks]
    began = engine.clock.now()
    with interruptible() as interruption, _progress(len(tasks)) as progress:
        while (engine.live or engine.queue) and not interruption:
            for event in engine.step():
                if isinstance(event, Generation):
                    batch.generations[event.index] = event
            batch.seconds = engine.clock.now() - began
            if progress is not None:
                _advance(progress, jobs, engine, batch)
        engine.close()
    batch.interrupted = interruption.came
    return batch


def _progress(count: int) -> Any:
    """A progress bar on a terminal; nothing elsewhere."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        return nullcontext(None)
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    progress = Progress(
        TextColumn("decoding"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[finished]}/" + str(count) + " finished · {task.fields[rate]:.0f} tokens/s"),
        TimeElapsedColumn(),
        console=screen,
        transient=True,
    )
    progress.add_task("", total=1.0, finished=0, rate=0.0)
    return progress


def _advance(progress: Progress, jobs: list[Job], engine: Engine, batch: Batch) -> None:
    """Show how far the run is: the share of the tokens that may come, ended tasks counted in full."""
    live = {job.index: _length(job) for job in engine.live}
    tokens = sum(live.values()) + sum(len(one.tokens) for one in batch.generations.values())
    bounds = {index: jobs[index].task.max_new_tokens or 1 for index in live}
    done = len(batch.generations) + sum(min(live[index] / bounds[index], 1.0) for index in live)
    progress.update(
        progress.task_ids[0],
        completed=done / len(jobs),
        finished=len(batch.generations),
        rate=tokens / batch.seconds,
    )


def _length(job: Job) -> int:
    """Tokens that a task has generated, as far as its requests tell: of several sequences, the longest."""
    return max((request.sequence.generated_length for request in job.wanted), default=0)
