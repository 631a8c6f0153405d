"""One finished cell as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovdecode.experiment.cells import Cell
    from ovdecode.experiment.plan import Experiment
    from ovdecode.generation import Candidate, Generation


@dataclass(frozen=True)
class Record:
    """The result of one cell, in JSON's own types. What is short comes first, so that a summary reads no more.

    Attributes:
        key: a digest of everything that decided it.
        error: kind and message of what went wrong; None if nothing did. The other fields tell how far it got.
        model, strategy, prompt, sample: the cell; `prompt` is an index.
        seed: of the experiment.
        precision, runner: what ran.
        stop, stop_detail: which criterion ended it, and what that saw; None and "" if none did.
        length: how many tokens were generated.
        logprob: log-probability of all tokens under the model itself; None if one is not known.
        score: what the strategy ranked it by.
        forwards, model_tokens, seconds, time_to_first_token, cache_bytes: see `ovdecode.generation.Cost`.
        taken_back: how many of the prompt's last tokens were chosen again.
        info: the strategy's own figures.
        text, tokens: what was generated.
        logprobs: log-probability of each token; None where it is not known.
        alternatives: all that the strategy returned, best first, if several: text, tokens, logprob, score, stop.
    """

    key: str
    error: str | None
    model: str
    strategy: str
    prompt: int
    sample: int
    seed: int
    precision: str
    runner: str
    stop: str | None
    stop_detail: str
    length: int
    logprob: float | None
    score: float | None
    forwards: int
    model_tokens: int
    seconds: float
    time_to_first_token: float
    cache_bytes: int
    taken_back: int
    info: dict[str, float | None]
    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float | None, ...]
    alternatives: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, generation: Generation, cell: Cell, experiment: Experiment) -> Record:
        """What is kept of a generation; of one that can't be kept, why."""
        try:
            return cls._of(generation, cell, experiment)
        except Exception as error:
            return cls.unfinished(cell, experiment, f"{type(error).__name__}: {error}")

    @classmethod
    def _of(cls, generation: Generation, cell: Cell, experiment: Experiment) -> Record:
        error, cost, reason = generation.error, generation.cost, generation.stop_reason
        several = generation.alternatives if len(generation.alternatives) > 1 else ()
        return cls(
            key=cell.key,
            error=None if error is None else f"{type(error).__name__}: {error}",
            model=cell.model,
            strategy=cell.strategy,
            prompt=cell.prompt,
            sample=cell.sample,
            seed=experiment.seed,
            precision=generation.precision,
            runner=generation.runner,
            stop=None if reason is None else reason.name,
            stop_detail="" if reason is None else reason.detail,
            length=len(generation.tokens),
            logprob=known(generation.logprob),
            score=known(generation.score),
            forwards=cost.forwards,
            model_tokens=cost.tokens,
            seconds=cost.seconds,
            time_to_first_token=cost.time_to_first_token,
            cache_bytes=cost.cache_bytes,
            taken_back=generation.taken_back,
            info={name: known(float(value)) for name, value in generation.info.items()},
            text=generation.text,
            tokens=generation.tokens,
            logprobs=tuple(map(known, generation.token_logprobs)),
            alternatives=tuple(map(_alternative, several)),
        )

    @classmethod
    def unfinished(cls, cell: Cell, experiment: Experiment, error: str) -> Record:
        """What is kept of a cell of which nothing came back but an error."""
        return cls(
            key=cell.key,
            error=error,
            model=cell.model,
            strategy=cell.strategy,
            prompt=cell.prompt,
            sample=cell.sample,
            seed=experiment.seed,
            precision=experiment.precision,
            runner="",
            stop=None,
            stop_detail="",
            length=0,
            logprob=None,
            score=None,
            forwards=0,
            model_tokens=0,
            seconds=0.0,
            time_to_first_token=0.0,
            cache_bytes=0,
            taken_back=0,
            info={},
            text="",
            tokens=(),
            logprobs=(),
        )

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, the key and the error first."""
        return {name: getattr(self, name) for name in _NAMES}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Record:
        """From what `to_json` gave, or a later version with further fields gave."""
        given = {name: values[name] for name in _NAMES if name in values}
        for name in ("tokens", "logprobs", "alternatives"):
            given[name] = tuple(given[name])
        return cls(**given)

    @property
    def mean_logprob(self) -> float:
        """Log-probability a token; NaN if it is not known, or for no tokens."""
        return self.logprob / self.length if self.length and self.logprob is not None else math.nan


_NAMES = [field.name for field in fields(Record)]


def known(value: float) -> float | None:
    """A number as JSON has it: None for a NaN or an infinity."""
    return float(value) if math.isfinite(value) else None


def _alternative(candidate: Candidate) -> dict[str, Any]:
    return {
        "text": candidate.text,
        "tokens": list(candidate.tokens),
        "logprob": known(candidate.logprob),
        "score": known(candidate.score),
        "stop": None if candidate.stop_reason is None else candidate.stop_reason.name,
    }
