"""The engine: asks every live strategy what it wants, runs one inference a model, and hands the answers back."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from ovdecode.engine.clock import Clock
from ovdecode.engine.job import Job
from ovdecode.engine.schedule import schedule
from ovdecode.engine.task import Task
from ovdecode.errors import ConfigurationError
from ovdecode.generation import Generation
from ovdecode.text import generated_text


@dataclass(frozen=True)
class Piece:
    """Text that a task has just committed to.

    Attributes:
        index: the task's place in the order in which tasks were given.
        text: what is new.
    """

    index: int
    text: str


class Engine:
    """Runs tasks together. There is no timer: a round begins when every live strategy is waiting for logits.

    Args:
        max_tokens: bound on tokens in one inference; longer prompts are fed in pieces, beside the others' decoding.
        max_live: how many tasks run at once; the others wait for their turn, in order.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[0., 1.], [1., 0.]]))
        >>> tasks = [od.Task(model, [0], max_new_tokens=3), od.Task(model, [1], max_new_tokens=2)]
        >>> for generation in Engine().run(tasks):
        ...     print(generation.index, generation.tokens)
        1 (0, 1)
        0 (1, 0, 1)
    """

    def __init__(self, *, max_tokens: int = 512, max_live: int = 64) -> None:
        if max_tokens < 1 or max_live < 1:
            raise ConfigurationError(f"`max_tokens` and `max_live` must be at least 1, got {max_tokens} and {max_live}")
        self.max_tokens, self.max_live = max_tokens, max_live
        self.live: list[Job] = []
        self.queue: deque[Job] = deque()
        self.clock = Clock()
        self._count = 0

    def submit(self, task: Task) -> Job:
        """Add a task; it starts with one of the next rounds.

        Raises:
            ConfigurationError: if it is no task.
        """
        if not isinstance(task, Task):
            raise ConfigurationError(f"`task` must be a Task, such as Task(model, 'a prompt'), got {task!r:.80}")
        job = Job(task, self._count, self.clock)
        self._count += 1
        self.queue.append(job)
        return job

    def run(self, tasks: Iterable[Task]) -> Iterator[Generation]:
        """Decode all tasks and yield each result as soon as it is there; a failed one carries its error.

        Tasks are taken from the iterable as room comes up, so it may be long. If it raises, or gives what is no task,
        those that run are finished before the error goes on. Leaving the loop cancels the rest.
        """
        return (event for event in self.events(tasks, pieces=False) if isinstance(event, Generation))

    def events(self, tasks: Iterable[Task], *, pieces: bool = True) -> Iterator[Piece | Generation]:
        """As `run`, with the text that strategies commit to on the way."""
        with closing(self.rounds(tasks, pieces=pieces)) as rounds:
            for events in rounds:
                yield from events

    def rounds(self, tasks: Iterable[Task], *, pieces: bool = False) -> Generator[list[Piece | Generation], None, None]:
        """As `run`, but what came of each round is yielded when it is over, even if that is nothing: a caller that
        shows progress, or may have to stop, is asked after every inference."""
        waiting: Iterator[Task] | None = iter(tasks)
        failure: Exception | None = None
        with _old_objects_left_alone(), closing(self):
            while True:
                while waiting is not None and len(self.live) + len(self.queue) < self.max_live:
                    try:
                        self.submit(next(waiting))
                    except StopIteration:
                        waiting = None
                    except Exception as error:
                        waiting, failure = None, error
                if not self.live and not self.queue:
                    break
                yield self.step(pieces=pieces)
            if failure is not None:
                raise failure

    def step(self, *, pieces: bool = True) -> list[Piece | Generation]:
        """One round: start what there is room for, one inference a model, and every answered strategy one step on."""
        while self.queue and len(self.live) < self.max_live:
            job = self.queue.popleft()
            self.live.append(job)  # before it starts: whatever interrupts that, `close` finds it
            job.start()
        for job in self.live:
            if job.cancelled and not job.done:
                job.finish()
        self._infer([job for job in self.live if not job.done])
        events: list[Piece | Generation] = []
        for job in self.live:
            if not job.done and not job.open:
                job.resume()
            if pieces and job.task.method.commits:
                events += _pieces(job)
            if job.result is not None:
                events.append(job.result)
        self.live = [job for job in self.live if not job.done]
        return events

    def close(self) -> None:
        """Cancel everything: each strategy is closed where it waits, and its cache is freed."""
        with ExitStack() as finishing:  # one that is interrupted while it is closed leaves none of the others open
            for job in reversed([*self.live, *self.queue]):
                if not job.done:
                    job.cancel()
                    finishing.callback(job.finish)
            self.live.clear()
            self.queue.clear()

    def _infer(self, jobs: list[Job]) -> None:
        batches = schedule(jobs, self.max_tokens)
        pending = [(batch, batch.submit(self.clock)) for batch in batches]
        for batch, wait in pending:
            for job, request, answer in batch.answers(wait):
                if isinstance(answer, Exception):
                    if not job.done:
                        job.fail(answer)
                elif not job.done:
                    job.answers[request] = answer


@contextmanager
def _old_objects_left_alone() -> Iterator[None]:
    """The collector need not look again and again at what was there before: a loaded model is many objects.

    Where somebody else has frozen theirs, nothing is done, so that nothing of theirs is undone.
    """
    ours = gc.get_freeze_count() == 0
    if ours:
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


def _pieces(job: Job) -> list[Piece]:
    """The text that a job has committed to since the last time; a job whose text can't be told fails."""
    if job.result is None:
        try:
            text = generated_text(job.committed)
            end = len(text) - job.stop.withheld
        except Exception as error:
            job.fail(error)
    if job.result is not None:
        text, end = job.result.text, len(job.result.text)
    start, job.shown = job.shown, max(job.shown, end)
    return [Piece(job.index, text[start:end])] if end > start else []
