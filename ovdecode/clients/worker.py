"""An engine in a thread of its own, for clients that send one request at a time from many places."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread
from typing import TypeAlias
from weakref import finalize

from ovdecode.engine import Engine, Job, Task
from ovdecode.errors import ConfigurationError, WorkerError, describe
from ovdecode.generation import Generation

_Queue: TypeAlias = "SimpleQueue[tuple[Task, Future[Generation]] | None]"


class Worker:
    """A thread that owns an engine. Tasks that come while it runs join its batch with the next inference.

    A model is for one thread at a time: what a worker decodes with is decoded with nowhere else.

    There is no timer: it waits for a task when it has none, and takes what has come between two inferences. It ends
    with `close`, when the last reference to this goes, or with the program.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner([[0., 1.], [1., 0.]]))
        >>> worker = Worker()
        >>> futures = [worker.submit(od.Task(model, [token], max_new_tokens=3)) for token in (0, 1)]
        >>> [future.result().tokens for future in futures]
        [(1, 0, 1), (0, 1, 0)]
        >>> worker.close()
    """

    def __init__(self) -> None:
        self._queue: _Queue = SimpleQueue()
        self._lock = Lock()
        self._ended: list[str] = []  # by what, if the thread did not end by itself
        thread = Thread(target=_work, args=(self._queue, Engine(), self._ended), name="ovdecode", daemon=True)
        thread.start()
        self._end = finalize(self, _end, self._queue, thread)

    def submit(self, task: Task) -> Future[Generation]:
        """Decode a task; to be called from any thread.

        Returns:
            What holds its generation once it has ended. To cancel it ends the decoding after the inference under way.

        Raises:
            ConfigurationError: if it is no task.
            RuntimeError: after `close`; a `WorkerError` if something ended the thread, such as a `SystemExit`.
        """
        if not isinstance(task, Task):
            raise ConfigurationError(f"`task` must be a Task, such as Task(model, 'a prompt'), got {task!r:.80}")
        future: Future[Generation] = Future()
        with self._lock:
            if not self._end.alive:
                raise RuntimeError("a worker must not be given tasks after `close`; make a new one")
            self._queue.put((task, future))
            if self._ended:  # asked after the task is there: one that comes before that is answered by the thread
                raise _has_ended(self._ended[0])
        return future

    def close(self) -> None:
        """Cancel everything and wait for the thread to end."""
        with self._lock:
            self._end()


def _end(queue: _Queue, thread: Thread) -> None:
    queue.put(None)
    if thread is not current_thread():  # a collector may find that nobody holds the worker in any thread
        thread.join()


def _has_ended(cause: str) -> WorkerError:
    return WorkerError(f"a worker's thread must not be ended by a task, but it was: {cause}. Make a new worker")


def _work(queue: _Queue, engine: Engine, ended: list[str]) -> None:
    """What the thread does. It knows the queue and not the worker, which is to end when nobody holds it."""
    futures: dict[Job, Future[Generation]] = {}
    try:
        _serve(queue, engine, futures)
    except BaseException as error:  # such as a strategy's `SystemExit`: nobody may wait for ever
        ended.append(describe(error))
        for future in [*futures.values(), *_left(queue)]:
            if future.set_running_or_notify_cancel():
                future.set_exception(_has_ended(ended[0]))
    finally:
        for future in futures.values():
            future.cancel()
        engine.close()


def _left(queue: _Queue) -> list[Future[Generation]]:
    """The futures of tasks that nobody takes any more."""
    left = []
    with suppress(Empty):
        while True:
            item = queue.get_nowait()
            if item is not None:
                left.append(item[1])
    return left


def _serve(queue: _Queue, engine: Engine, futures: dict[Job, Future[Generation]]) -> None:
    while True:
        while not futures or not queue.empty():
            item = queue.get()
            if item is None:
                return
            futures[engine.submit(item[0])] = item[1]
            del item  # while the next one is waited for, a finished task and its model may go
        _round(engine, futures)


def _round(engine: Engine, futures: dict[Job, Future[Generation]]) -> None:
    for job, future in futures.items():
        if future.cancelled():
            job.cancel()
    try:
        engine.step(pieces=False)
    except Exception as error:  # no task's own: nobody may wait for ever
        engine.close()
        for future in futures.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
        futures.clear()
    for job in [job for job in futures if job.result is not None]:
        future = futures.pop(job)
        if future.set_running_or_notify_cancel():
            future.set_result(job.result)  # type: ignore[arg-type]
