"""Law 8: every runner gives the base class's logits, for any tree of requests."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovdecode.errors import ConfigurationError, ModelError
from ovdecode.forward import Answer, Forward
from ovdecode.runners.base import ModelRunner
from ovdecode.sequence import Sequence
from ovdecode.vocabulary import Vocabulary

LAW = "Runners agree"


def check_runner(
    runner: ModelRunner,
    *,
    seed: int = 0,
    rounds: int = 12,
    reference: ModelRunner | None = None,
    longest: int = 40,
) -> None:
    """Hold a runner to what recomputing each prefix gives, for rounds of requests about a random tree.

    Sequences grow, fork, take tokens back, appear, disappear and are asked about again, several in a call,
    for one position, for several and for none, with hidden states and inner layers where the runner has them.
    Answers must be within `tolerance` of `recompute`, or bit-equal where it is 0; read-only; valid while they
    are held; and true in what they say about their own logits. When all sequences are gone, the cache must be
    as empty as before.

    Args:
        runner: what is tested.
        seed: of the tree.
        rounds: how often requests are made.
        reference: whose `recompute` is believed; the runner's own by default.
        longest: bound on the tokens of a sequence.

    Raises:
        AssertionError: the message begins with the law, and says what was asked, seen and expected.

    Example:
        >>> from ovdecode.runners.table import TableRunner
        >>> check_runner(TableRunner([[0.0, 1.0], [2.0, 0.0]]))
    """
    gc.collect()
    before = runner.cache_in_use, runner.cache_bytes
    vocabulary = Vocabulary(min(runner.vocab_size, 1000))
    check = _Check(runner, reference or runner, vocabulary, seed, min(longest, runner.context_length or longest))
    for place in range(rounds):
        check.round(place)
    check.held_answers()
    check.live.clear()
    del check
    gc.collect()
    after = runner.cache_in_use, runner.cache_bytes
    if after[0] > before[0] or after[1] > before[1]:
        raise AssertionError(
            f"{LAW}: when all sequences are gone, `{runner.name}` must hold {before[0]} units and "
            f"{before[1]} bytes of cache, as before, but holds {after[0]} and {after[1]} (seed {seed})"
        )


class _Check:
    """A random tree of sequences, and what was answered about it."""

    def __init__(
        self, runner: ModelRunner, reference: ModelRunner, vocabulary: Vocabulary, seed: int, longest: int
    ) -> None:
        self.runner, self.reference, self.vocabulary, self.longest = runner, reference, vocabulary, longest
        self.random = np.random.default_rng(seed)
        self.seed = seed
        self.live: list[Sequence] = [self._prompt(), self._prompt()]
        self.held: list[tuple[NDArray[Any], bytes]] = []
        probe = Forward(self.live[0], hidden=True), Forward(self.live[0], layers=(0,))
        self.hidden, self.layers = (_has(runner, request) for request in probe)

    def round(self, number: int) -> None:
        """Change the tree, ask about some of it, and compare."""
        for _ in range(self.random.integers(1, 5)):
            self._change()
        pool = list(dict.fromkeys(self.live))
        self.random.shuffle(pool)
        requests = [self._request(one) for one in pool[: self.random.integers(1, 7)]]
        known = [request.sequence.tokens.tolist() for request in requests]
        answers: list[Answer] = []
        while len(answers) < len(requests):
            rest = requests[len(answers) :]
            room = self.runner.room(rest)
            if not 1 <= room <= len(rest):
                raise self._broken(f"`room` must be from 1 to {len(rest)} for these, got {room}", number, rest[0])
            for request in rest[:room]:
                missing = self.runner.missing(request)
                if not 0 <= missing <= request.sequence.length:
                    raise self._broken(f"`missing` must be from 0 to its length, got {missing}", number, request)
            found = self.runner.forward(rest[:room])
            if len(found) != room:
                raise self._broken(f"{room} requests must get as many answers, got {len(found)}", number, rest[0])
            answers += found
        for request, answer, tokens in zip(requests, answers, known, strict=True):
            if request.sequence.tokens.tolist() != tokens:
                raise self._broken("the tokens of the sequence must not be changed", number, request)
            if wrong := _untrue(answer):
                raise self._broken(f"`{wrong}` must be what it is of the answer's own logits", number, request)
            expected = self.reference.recompute(request.sequence.tokens, request)
            for name, got, want, scale in _arrays(answer, expected, request):
                self._compare(name, got, want, scale, number, request)
                if len(self.held) < 40:
                    self.held.append((got, got.tobytes()))

    def held_answers(self) -> None:
        """Compare the answers of the first rounds with what they were."""
        for array, was in self.held:
            if array.tobytes() != was:
                raise AssertionError(
                    f"{LAW}: an answer must stay as it is while held, but `{self.runner.name}` changed one"
                )

    def _prompt(self) -> Sequence:
        length = int(self.random.integers(1, self.longest // 2 + 1))
        return self.vocabulary.prompt(self.random.integers(0, self.vocabulary.size, length).tolist())

    def _change(self) -> None:
        place = int(self.random.integers(len(self.live)))
        one = self.live[place]
        new = self.random.integers(0, self.vocabulary.size, self.random.integers(1, 5)).tolist()
        kind = self.random.choice(["grow", "grow", "fork", "fork", "back", "new", "drop"])
        if kind == "new" or one.length + len(new) > self.longest:
            self.live.append(self._prompt())
        elif kind == "grow":
            self.live[place] = one + new
        elif kind == "fork":
            self.live += [one + new, one + new[0]]
        elif kind == "back":
            self.live[place] = one[: int(self.random.integers(1, one.length + 1))] + new[:1]
        if kind == "drop" or len(self.live) > 10:
            self.live.pop(int(self.random.integers(len(self.live))))
        if not self.live:
            self.live.append(self._prompt())

    def _request(self, sequence: Sequence) -> Forward:
        last = None if self.random.random() < 0.5 else int(self.random.integers(0, min(6, sequence.length) + 1))
        rich = self.random.random() < 0.25
        hidden = self.hidden and rich
        return Forward(sequence, last, None, hidden, (0,) if self.layers and rich else ())

    def _compare(
        self, name: str, got: NDArray[Any], want: NDArray[Any], scale: float, number: int, request: Forward
    ) -> None:
        if got.shape != want.shape or got.dtype != np.float32:
            raise self._broken(
                f"{name} must be float32 of {want.shape}, got {got.dtype} of {got.shape}", number, request
            )
        if got.flags.writeable:
            raise self._broken(f"{name} must be read-only, but may be written", number, request)
        bound = max(self.runner.tolerance, self.reference.tolerance)
        if bound == 0.0 and got.tobytes() != want.tobytes():
            difference = float(np.abs(got - want).max())
            raise self._broken(
                f"{name} must have the bits of recomputing, but differ by {difference:.3g}", number, request
            )
        if got.size and not float(np.abs(got - want).max()) <= bound * scale:  # NaN is not near anything
            difference = float(np.abs(got - want).max())
            raise self._broken(
                f"{name} must be within {bound * scale:.3g} of recomputing, but differ by {difference:.3g}",
                number,
                request,
            )

    def _broken(self, what: str, number: int, request: Forward) -> AssertionError:
        tokens = request.sequence.tokens.tolist()
        asked = f"{tokens}, last={request.last}, hidden={request.hidden}, layers={request.layers}"
        return AssertionError(
            f"{LAW}: {what}, by `{self.runner.name}` (round {number}, seed {self.seed}, asked about {asked})"
        )


def _untrue(answer: Answer) -> str:
    """Which attribute of an answer does not fit its logits, if one does not."""
    logits = answer.logits.astype(np.float64)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))  # (rows, vocab)
    expected = {"weights": weights}
    if answer.blocks is not None:
        rows, count = len(logits), answer.blocks.shape[-1]
        parts = [each.reshape(rows, count, each.shape[1] // count) for each in (logits, weights)]
        expected["blocks"] = np.stack([parts[0].max(axis=2), parts[1].sum(axis=2)], axis=1)
    for name, want in expected.items():
        got = getattr(answer, name)
        if got is not None and not (got.shape == want.shape and np.allclose(got, want, rtol=1e-4, atol=1e-6)):
            return name
    return ""


def _has(runner: ModelRunner, request: Forward) -> bool:
    try:
        runner.forward([request])
    except (ConfigurationError, ModelError):
        return False
    return True


def _arrays(answer: Answer, expected: Answer, request: Forward) -> list[tuple[str, NDArray[Any], NDArray[Any], float]]:
    """Name, what was got, what it must be, and by what the tolerance, which is for logits, is multiplied."""
    arrays: list[tuple[str, NDArray[Any], NDArray[Any], float]] = [
        ("logits", answer.logits, expected.logits, 1.0),
        ("logsumexp", answer.logsumexp, expected.logsumexp, 1.0),
    ]
    if request.hidden:
        assert expected.hidden is not None
        got = answer.hidden if answer.hidden is not None else np.empty(0, np.float32)
        arrays.append(("hidden", got, expected.hidden, max(1.0, float(np.abs(expected.hidden).max(initial=0)))))
    for layer in request.layers:
        assert expected.layers is not None
        want = expected.layers[layer]
        got = (answer.layers or {}).get(layer, np.empty(0, np.float32))
        arrays.append((f"logits of layer {layer}", got, want, max(1.0, float(np.abs(want).max(initial=0)) / 10)))
    return arrays
