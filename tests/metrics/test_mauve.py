from __future__ import annotations

import math
import sys
from collections.abc import Sequence as Items

import numpy as np
import pytest
from mauve import compute_mauve
from scipy.special import rel_entr

from ovdecode import Forward, Mauve, Model, TableRunner, Task, run
from ovdecode.errors import ConfigurationError
from ovdecode.metric import Result

POINTS = np.array([[1.0, 0.0], [0.0, 1.0]])


def points(first: int, second: int) -> np.ndarray:
    """So many texts at one of two points each; shape (texts, 2)."""
    return np.repeat(POINTS, [first, second], axis=0)


def area(p: Items[float], q: Items[float], c: float = 5.0) -> float:
    """The area under the divergence curve of two histograms, as the paper defines it."""
    mixtures = [weight * np.array(p) + (1 - weight) * np.array(q) for weight in np.linspace(1e-6, 1 - 1e-6, 25)]
    inner = [(np.exp(-c * rel_entr(q, r).sum()), np.exp(-c * rel_entr(p, r).sum())) for r in mixtures]
    x, y = np.array([(0.0, 1.0), *((each[1], each[0]) for each in inner), (1.0, 0.0)]).T
    order = np.argsort(x, kind="stable")
    return float(np.trapezoid(y[order], x[order]))


@pytest.mark.parametrize(("p", "q"), [((30, 10), (10, 30)), ((20, 20), (30, 10)), ((20, 20), (20, 20))])
def test_the_area_is_that_of_the_histograms(p: tuple[int, int], q: tuple[int, int]) -> None:
    found = Mauve(num_buckets=2).area(points(*q), points(*p))
    shares = np.array(p) / sum(p), np.array(q) / sum(q)
    assert found == pytest.approx(area(*shares), abs=2e-3)
    if p != q:
        assert found == compute_mauve(points(*p), points(*q), num_buckets=2).mauve


def test_equal_is_one_disjoint_is_nothing_and_the_constant_scales() -> None:
    assert Mauve(num_buckets=2).area(points(20, 20), points(20, 20)) == pytest.approx(1.0, abs=1e-6)
    assert Mauve(num_buckets=2).area(points(40, 0), points(0, 40)) < 0.01
    near, far = (
        Mauve(num_buckets=2, scaling_factor=scale).area(points(30, 10), points(10, 30)) for scale in (1.0, 10.0)
    )
    assert near > far


def test_features_are_states_after_prompt_and_text() -> None:
    """The state of a text is the mean of its tokens so far, so that a prompt left out would show."""
    model = Model(TableRunner({(): [0.0, 0.0]}, hidden=lambda tokens: (float(np.mean(tokens)), float(len(tokens)))))
    given: list[np.ndarray] = []

    class Noting(Mauve):
        def area(self, texts: np.ndarray, references: np.ndarray) -> float:
            given.extend([texts, references])
            return 0.5

    results = [
        Result("ab", (0, 1), prompt="b", references=("bb", "a"), prompt_tokens=(1,), model=model),
        Result("b", (1,), prompt="b", references=("bb", "a"), prompt_tokens=(1,), model=model),
        Result("", (), prompt="b", references=("bb", "a"), prompt_tokens=(1,), model=model),
    ]
    assert Noting()(results) == 0.5
    assert given[0] == pytest.approx(np.array([[2 / 3, 3.0], [1.0, 2.0]]))
    assert given[1].tolist() == [[1.0, 3.0], [0.5, 2.0]]  # each reference of a prompt once, whatever the samples
    given.clear()
    Noting(max_tokens=1)(results)
    assert given[0].tolist() == given[1][::-1].tolist() == [[0.5, 2.0], [1.0, 2.0]]
    given.clear()
    Noting(pooling="mean")(results)
    assert given[0][0] == pytest.approx(np.array([(0.5 + 2 / 3) / 2, 2.5]))


def test_too_few_texts_or_references_are_no_number() -> None:
    model = Model(TableRunner({(): [0.0, 0.0]}, hidden=lambda tokens: (1.0, 0.0)))
    one = Result("a", (0,), prompt="b", references=("b",), prompt_tokens=(1,), model=model)
    assert math.isnan(Mauve()([]))
    assert math.isnan(Mauve()([one]))
    assert math.isnan(Mauve()([one, one]))


def test_features_of_a_real_model(model: Model) -> None:
    prompts = ["The capital of France is", "Once upon a time"]
    tasks = [
        Task(model, prompt, "sampling", max_new_tokens=12, sample=sample) for prompt in prompts for sample in range(3)
    ]
    results = [Result.of(generation, [" Paris.", " there was a king."]) for generation in run(tasks)]
    expected = []
    for each in results:
        sequence = model.vocabulary.prompt(each.prompt_tokens + each.tokens)
        (answer,) = model.runner.forward([Forward(sequence, last=len(each.tokens), hidden=True)])
        assert answer.hidden is not None
        expected.append(answer.hidden)
    seen: list[np.ndarray] = []

    class Noting(Mauve):
        def area(self, texts: np.ndarray, references: np.ndarray) -> float:
            seen.append(texts)
            assert references.shape == (4, texts.shape[1])
            return super().area(texts, references)

    for metric in (Noting(num_buckets=2), Noting(num_buckets=2, pooling="mean")):
        assert 0 < metric(results) <= 1
    assert seen[0] == pytest.approx(np.array([states[-1] for states in expected]), abs=1e-4)
    assert seen[1] == pytest.approx(np.array([states.mean(axis=0) for states in expected]), abs=1e-4)


@pytest.mark.parametrize("parameters", [{"max_tokens": 0}, {"num_buckets": 1}, {"scaling_factor": 0.0}])
def test_parameters_out_of_range_are_named(parameters: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(parameters))}` of `mauve` must be"):
        Mauve(**parameters)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="`pooling` must be one of last, mean, got 'first'"):
        Mauve(pooling="first")  # type: ignore[arg-type]


def test_the_library_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mauve", None)
    with pytest.raises(ConfigurationError, match=r"`mauve` needs `mauve`, .*'ovdecode\[metrics\]'"):
        Mauve().area(points(2, 2), points(2, 2))
