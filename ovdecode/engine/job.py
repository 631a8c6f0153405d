"""One strategy under way: what it waits for, what it has been told, and what it cost so far."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass, field
from time import perf_counter
from types import FrameType
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

import numpy as np

from ovdecode.engine.task import Task
from ovdecode.errors import LogitsError, StrategyError
from ovdecode.forward import Answer, Forward
from ovdecode.generation import Candidate, Cost, Generation
from ovdecode.sequence import Sequence
from ovdecode.strategy import Decoding, Hypothesis, Outcome, outcome
from ovdecode.text import generated_text

if TYPE_CHECKING:
    from ovdecode.model import Model


@dataclass(eq=False)
class Job:
    """A task that an engine runs. `cancel` ends it; `result` is there when it has ended.

    Args:
        task: what to decode.
        index: its place among the engine's tasks.
    """

    task: Task
    index: int
    result: Generation | None = None
    wanted: list[Forward] = field(default_factory=list)
    answers: dict[Forward, Answer] = field(default_factory=dict)
    cancelled: bool = False
    shown: int = 0
    _single: bool = True
    _decoding: Decoding | None = None
    _error: Exception | None = None
    _outcome: Outcome | None = None
    _forwards: int = 0
    _tokens: int = 0
    _first_token: float | None = None
    _seen: dict[Model, WeakSet[Sequence]] = field(default_factory=dict)

    def start(self) -> None:
        """Run the strategy up to its first request."""
        self._began = perf_counter()
        try:
            self.prompt = self.committed = self.task.start()
            self.stop = self.task.criterion.begin(self.prompt)
            self._decoding = self.task.method.decode(self.prompt, self.stop, self.task.rng(self.prompt))
            if not hasattr(self._decoding, "send"):
                raise StrategyError(
                    f"`decode` of {self._place()} must be a generator (use `yield`), it returned one value"
                )
        except Exception as error:
            self.fail(error)
            return
        self._advance(None)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.result is not None

    @property
    def open(self) -> list[Forward]:
        """The requests that are not answered yet."""
        return [request for request in self.wanted if request not in self.answers]

    def cancel(self) -> None:
        """End it at the engine's next round; what it has committed is its result."""
        self.cancelled = True

    def resume(self) -> None:
        """Hand the answers to the strategy and run it up to its next request.

        What the task's own model said is on the tree while the strategy runs, and only then: it is not lost
        while other answers of a long list are still to come.
        """
        given = [_plain(request, self.answers[request]) for request in self.wanted]
        noted: list[Sequence] = []
        try:
            for request in self.wanted:
                if self.model_of(request) is self.task.model:
                    noted += note_answer(request, self.answers[request])
            self._count()
            self.answers.clear()
            self._advance(given[0] if self._single else given)
        except LogitsError as error:
            self.fail(error)
        finally:
            for node in noted:
                node.forget_answer()

    def release_error(self) -> None:
        """Let go of the variables along the traceback of its error: they hold sequences, and so pages."""
        error: BaseException | None = self._error
        while error is not None:
            traceback.clear_frames(error.__traceback__)
            frame = error.__traceback__.tb_frame.f_back if error.__traceback__ is not None else None
            while frame is not None:  # callers that have returned since, up to the engine's round
                try:
                    frame.clear()
                except RuntimeError:
                    break
                frame = frame.f_back
            error = error.__cause__ or error.__context__

    def fail(self, error: Exception) -> None:
        """End it with an error."""
        self._error = error
        self.finish()

    def finish(self) -> None:
        """Close the strategy and make the result of whatever there is."""
        if self._decoding is not None:
            try:
                self._decoding.close()
            except Exception as error:  # a strategy may fail while it is being closed; that is its own failure too
                self._error = self._error or error
        self.result = self._generation()
        self.wanted, self.answers, self._decoding, self._outcome = [], {}, None, None
        self._seen.clear()
        self.committed = self.prompt = None  # type: ignore[assignment]

    # The rest is private: one step of the generator, and the bookkeeping around it.

    def _advance(self, answer: Any) -> None:
        assert self._decoding is not None
        try:
            value = self._decoding.send(answer)
            self.wanted = self._requests(value)
        except StopIteration as finished:
            self._conclude(finished.value)
            return
        except Exception as error:
            self.fail(error)
            return
        own = [request.sequence[: request.sequence.length - request.rows + 1] for request in self._own()]
        if self._first_token is None and any(node.generated_length for node in own):
            self._first_token = perf_counter() - self._began
        if own and self.task.method.commits:
            self.committed = _common(own)

    def _requests(self, value: Any) -> list[Forward]:
        self._single = not isinstance(value, list)
        requests = []
        for item in [value] if self._single else value:
            request = Forward(item) if isinstance(item, Sequence) else item
            if not isinstance(request, Forward):
                raise StrategyError(
                    f"{self._place()} must yield a Sequence, a Forward, or a list of these, but yielded "
                    f"{type(item).__name__}: {item!r:.80}"
                )
            if isinstance(request.model, str):
                request = Forward(
                    request.sequence,
                    request.last,
                    self.task.model.sibling(request.model),
                    request.hidden,
                    request.layers,
                )
            model = self.model_of(request)
            if model.vocabulary.size != request.sequence.vocabulary.size:
                raise StrategyError(
                    f"{self._place()} must ask models with the sequence's vocabulary of "
                    f"{request.sequence.vocabulary.size} tokens, but {model!r} has {model.vocabulary.size}"
                )
            limit = model.runner.context_length
            if limit is not None and request.sequence.length > limit:
                raise StrategyError(
                    f"{self._place()} must stay within the context of {limit} tokens, but asked about "
                    f"{request.sequence.length}; call `stop` before it extends a sequence"
                )
            requests.append(request)
        if not requests:
            raise StrategyError(f"{self._place()} must yield at least one request, but yielded an empty list")
        return requests

    def model_of(self, request: Forward) -> Model:
        """The model that a request goes to."""
        return self.task.model if request.model is None else cast("Model", request.model)

    def _own(self) -> list[Forward]:
        """The requests that decide; one that names its model asks for another opinion, such as a draft, even if it is
        the same model's."""
        return [request for request in self.wanted if request.model is None]

    def _place(self) -> str:
        method = self.task.method
        code = type(method).decode.__code__
        frame: FrameType | None = getattr(self._decoding, "gi_frame", None)
        line = frame.f_lineno if frame is not None else code.co_firstlineno
        return f"strategy `{method.name or type(method).__name__}` ({code.co_filename}, line {line})"

    def _conclude(self, value: Any) -> None:
        if isinstance(value, Sequence | Outcome):
            self._outcome = outcome(value)
            self.finish()
        else:
            self.fail(
                StrategyError(
                    f"{self._place()} must return a Sequence or an Outcome, but returned "
                    f"{type(value).__name__}: {value!r:.80}"
                )
            )

    def _count(self) -> None:
        self._forwards += len({id(self.model_of(request)) for request in self.wanted})
        for request in self.wanted:
            seen = self._seen.setdefault(self.model_of(request), WeakSet())
            new, node = 0, request.sequence
            while node.parent is not None and node not in seen:
                seen.add(node)
                new, node = new + 1, node.parent
            self._tokens += max(new, request.rows)

    def _generation(self) -> Generation:
        now = perf_counter() - self._began
        prompt: Sequence = getattr(self, "prompt", None) or self.task.model.vocabulary.root
        hypotheses = (
            self._outcome.hypotheses
            if self._outcome is not None
            else (Hypothesis(getattr(self, "committed", None) or prompt, float("nan")),)
        )
        alternatives = tuple(self._candidate(hypothesis) for hypothesis in hypotheses)
        runner = self.task.model.runner
        return Generation(
            **{name: getattr(alternatives[0], name) for name in Candidate.__dataclass_fields__},
            task=self.task,
            index=self.index,
            alternatives=alternatives,
            info=dict(self._outcome.info) if self._outcome is not None else {},
            cost=Cost(self._forwards, self._tokens, now, now if self._first_token is None else self._first_token),
            runner=runner.name,
            precision=runner.precision,
            error=self._error,
        )

    def _candidate(self, hypothesis: Hypothesis) -> Candidate:
        sequence = hypothesis.sequence
        reason = self.stop(sequence) if self._outcome is not None else None
        text = generated_text(sequence, final=True)
        totals = [sequence.prompt.logprob] + [node.logprob for node in sequence.path(sequence.prompt_length)]
        return Candidate(
            tokens=tuple(sequence.generated.tolist()),
            text=text if reason is None or reason.text_end is None else text[: reason.text_end],
            logprob=sequence.logprob,
            token_logprobs=tuple(np.diff(totals).tolist()),
            score=hypothesis.score,
            stop_reason=reason,
        )


def _plain(request: Forward, answer: Answer) -> Any:
    """An answer as the strategy asked for it."""
    if not request.plain:
        return answer
    return answer.logits[0] if request.last is None else answer.logits


def note_answer(request: Forward, answer: Answer) -> list[Sequence]:
    """Note on the tree what the task's own model said, and return the nodes that now hold logits.

    Raises:
        LogitsError: if the logits are no distribution.
    """
    noted: list[Sequence] = []
    nodes = [request.sequence]
    for _ in range(request.rows - 1):
        nodes.append(cast(Sequence, nodes[-1].parent))
    for node, logits, logsumexp in zip(reversed(nodes), answer.logits, answer.logsumexp.tolist(), strict=True):
        if not -sys.float_info.max < logsumexp < sys.float_info.max:
            raise LogitsError(
                f"the model must give logits with a finite maximum after {node!r}, but their log-sum-exp is {logsumexp}"
            )
        if noted:  # the next node of a verified path exists already, so it learns its probability here
            noted[-1]._child(node.token, node.prompt_length)
        node.answered(logits, logsumexp)
        noted.append(node)
    return noted


def _common(nodes: list[Sequence]) -> Sequence:
    """The longest sequence that all of them begin with."""
    common = nodes[0]
    for node in nodes[1:]:
        length = min(common.length, node.length)
        common, node = common[:length], node[:length]
        while common is not node:
            common, node = cast(Sequence, common.parent), cast(Sequence, node.parent)
    return common
