"""One strategy under way: what it waits for, what it has been told, and what it cost so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isnan
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from ovdecode.engine.clock import Clock
from ovdecode.engine.result import candidate, without_frames
from ovdecode.engine.tally import Tally
from ovdecode.engine.task import Task
from ovdecode.engine.tree import check_answer, common_ancestor, note_answer
from ovdecode.errors import StrategyError
from ovdecode.forward import Answer, Forward
from ovdecode.generation import Candidate, Cost, Generation
from ovdecode.sequence import Sequence
from ovdecode.stopping import StopReason
from ovdecode.strategy import Decoding, Hypothesis, Outcome, outcome, requests_of

if TYPE_CHECKING:
    from ovdecode.model import Model


@dataclass(eq=False)
class Job:
    """A task that an engine runs. `cancel` ends it; `result` is there when it has ended.

    Args:
        task: what to decode.
        index: its place among the engine's tasks.
        clock: what it is charged by.
    """

    task: Task
    index: int
    clock: Clock
    result: Generation | None = None
    wanted: list[Forward] = field(default_factory=list)
    answers: dict[Forward, Answer] = field(default_factory=dict)
    cancelled: bool = False
    shown: int = 0
    _single: bool = True
    _decoding: Decoding | None = None
    _error: Exception | None = None
    _outcome: Outcome | None = None
    _tally: Tally = field(default_factory=Tally)
    _began: float | None = None
    _first_token: float | None = None

    def start(self) -> None:
        """Run the strategy up to its first request."""
        self._began = self.clock.now()
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
        if not self.answers:
            return self.wanted
        return [request for request in self.wanted if request not in self.answers]

    def cancel(self) -> None:
        """End it at the engine's next round; what it has committed is its result."""
        self.cancelled = True

    def resume(self) -> None:
        """Hand the answers to the strategy and run it up to its next request.

        What the task's own model said is on the tree while the strategy runs, and only then: it is not lost
        while other answers of a long list are still to come.
        """
        noted: list[Sequence] = []
        try:
            given: list[Any] = []
            for request in self.wanted:
                answer = self.answers[request]
                check_answer(request, answer)
                logits = answer.logits[0] if request.last is None else answer.logits
                if self.model_of(request) is self.task.model:
                    noted += note_answer(request, answer, logits)
                given.append(logits if request.plain else answer)
            if self._outcome is not None:  # these were asked for by `_conclude`
                self.finish()
                return
            self._tally.add([(self.model_of(request), request) for request in self.wanted])
            self.answers.clear()
            self._advance(given[0] if self._single else given)
        except Exception as error:
            self.fail(error)
        finally:
            for node in noted:
                node.forget_answer()

    def fail(self, error: Exception) -> None:
        """End it with an error."""
        self._error = without_frames(error)
        self.finish()

    def finish(self) -> None:
        """Close the strategy and make the result of whatever there is."""
        if self._decoding is not None:
            try:
                self._decoding.close()
            except Exception as error:  # a strategy may fail while it is being closed; that is its own failure too
                self._error = self._error or without_frames(error)
        try:
            self.result = self._generation()
        except Exception as error:  # a stop, or the spelling, raised about what was returned
            self._error, self._outcome = self._error or without_frames(error), None
            self.committed = self.prompt
            self.result = self._generation()
        self.wanted, self.answers, self._decoding, self._outcome = [], {}, None, None
        self._tally.forget()
        self.committed = self.prompt = None  # type: ignore[assignment]

    # The rest is private: one step of the generator, and the bookkeeping around it.

    def _advance(self, answer: Any) -> None:
        assert self._decoding is not None
        try:
            try:
                value = self._decoding.send(answer)
            except StopIteration as finished:
                self._conclude(finished.value)
                return
            self.wanted = self._requests(value)
            self._commit()
        except Exception as error:
            self.fail(error)

    def _commit(self) -> None:
        """Note how far the requests show what is decided."""
        decided = [request.decided for request in self.wanted if request.own and not request.draft]
        if self._first_token is None and any(sequence.generated_length for sequence in decided):
            self._first_token = self.clock.now() - cast(float, self._began)
        if decided and self.task.method.commits:
            self.committed = common_ancestor(decided)

    def _requests(self, value: Any) -> list[Forward]:
        self._single = not isinstance(value, list)
        requests = []
        for item in requests_of(value, self._place):
            request = Forward(item) if isinstance(item, Sequence) else item
            if isinstance(request.model, str):
                with self.clock.stopped():
                    request = replace(request, model=self.task.model.sibling(request.model))
            model = self.model_of(request)
            if request.exit_layer is not None and hasattr(model, "truncated"):
                with self.clock.stopped():
                    model = model.truncated(request.exit_layer)
                request = replace(request, model=model, exit_layer=None)
            if not hasattr(model, "vocabulary"):
                raise StrategyError(f"{self._place()} must name a Model or its source, but named {model!r:.80}")
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
            if request.choose_layers is not None:
                chosen = request.choose_layers(model.runner.num_layers)
                request = replace(request, layers=(*request.layers, *chosen), choose_layers=None)
            requests.append(request)
        return requests

    def model_of(self, request: Forward) -> Model:
        """The model that a request goes to."""
        return self.task.model if request.model is None else cast("Model", request.model)

    def _place(self) -> str:
        method = self.task.method
        code = type(method).decode.__code__
        frame: FrameType | None = getattr(self._decoding, "gi_frame", None)
        line = frame.f_lineno if frame is not None else code.co_firstlineno
        return f"strategy `{method.name or type(method).__name__}` ({code.co_filename}, line {line})"

    def _conclude(self, value: Any) -> None:
        found = outcome(value) if isinstance(value, Sequence | Outcome) else None
        if found is not None and found.hypotheses and all(map(self._sound, found.hypotheses)):
            self._outcome = found
            sequences = [hypothesis.sequence for hypothesis in found.hypotheses]
            # A token not chosen from logits (a forced phrase) has no known probability: the model is asked now.
            unknown = [Forward(one, one.generated_length + 1) for one in sequences if isnan(one.logprob)]
            if unknown:
                self.wanted = self._requests(unknown)
            else:
                self.finish()
        else:
            self.fail(
                StrategyError(
                    f"{self._place()} must return a Sequence that begins with the prompt (or with it reopened), or an "
                    "Outcome of at least one Hypothesis, but "
                    f"returned {type(value).__name__}: {value!r:.80}"
                )
            )

    def _sound(self, hypothesis: Any) -> bool:
        sequence = hypothesis.sequence if isinstance(hypothesis, Hypothesis) else None
        return isinstance(sequence, Sequence) and (
            sequence[: self.prompt.length] is self.prompt or sequence.prompt is self._reopened(sequence)
        )

    def _reopened(self, sequence: Sequence) -> Sequence | None:
        """The task's prompt without the tokens that a sequence took back of it."""
        count = self.prompt.length - sequence.prompt_length
        return self.prompt.reopen(count) if 0 < count < self.prompt.length else None

    def _generation(self) -> Generation:
        now = 0.0 if self._began is None else self.clock.now() - self._began
        prompt: Sequence = getattr(self, "prompt", None) or self.task.model.vocabulary.root
        hypotheses = (
            self._outcome.hypotheses
            if self._outcome is not None
            else (Hypothesis(getattr(self, "committed", None) or prompt, float("nan")),)
        )
        ended = self._outcome is not None
        cancelled = StopReason("cancelled") if self.cancelled else None
        alternatives = tuple(
            candidate(hypothesis, self.stop(hypothesis.sequence) if ended else cancelled) for hypothesis in hypotheses
        )
        runner = self.task.model.runner
        return Generation(
            **{name: getattr(alternatives[0], name) for name in Candidate.__dataclass_fields__},
            task=self.task,
            index=self.index,
            alternatives=alternatives,
            info=dict(self._outcome.info) if self._outcome is not None else {},
            cost=Cost(
                self._tally.forwards,
                self._tally.tokens,
                now,
                now if self._first_token is None else self._first_token,
                self._tally.cache_bytes,
            ),
            runner=runner.name,
            precision=runner.precision,
            error=self._error,
        )
