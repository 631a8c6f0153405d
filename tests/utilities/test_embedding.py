from __future__ import annotations

import numpy as np
import pytest

from ovdecode import Embedding, Forward, Mbr, Model, Sampling, TableRunner
from ovdecode.forward import Answer
from ovdecode.testing import law_isolation

# The hidden state after a sequence points where its last token says: along x, along y, or between.
POINTS = {0: (1.0, 0.0), 1: (0.0, 1.0), 2: (3.0, 3.0)}
MODEL = Model(TableRunner({(): [0.0, 0.0, 0.0]}, hidden=lambda tokens: POINTS[tokens[-1]]))


def vectors(*texts: list[int]) -> list[np.ndarray]:
    prompt = MODEL.vocabulary.prompt([2, 2])
    making = Embedding().features([""] * len(texts), [prompt + text for text in texts])
    asked = next(making)
    assert isinstance(asked, list)
    requests = [request for request in asked if isinstance(request, Forward)]
    answers: list[Answer] = MODEL.runner.forward(requests)
    with pytest.raises(StopIteration) as finished:
        making.send(answers)
    made: list[np.ndarray] = finished.value.value
    return made


def test_the_mean_state_of_the_generated_tokens_at_length_one() -> None:
    along, across, both, mixed = vectors([0, 0], [1], [0, 1], [0, 0, 0, 1])
    assert along.tolist() == [1.0, 0.0]
    assert Embedding().compare(along, across) == 0.0
    assert Embedding().compare(along, both) == pytest.approx(np.sqrt(0.5))
    assert mixed == pytest.approx(np.array([3, 1]) / np.sqrt(10))


def test_nothing_generated_is_the_state_after_the_prompt() -> None:
    (empty,) = vectors([])
    assert empty == pytest.approx(np.array([1, 1]) / np.sqrt(2))


def test_the_aggregate_is_exact() -> None:
    methods = [Mbr(n=6, utility=Embedding(), aggregate=aggregate) for aggregate in (False, True)]
    one_by_one, at_once = (MODEL.generate([2], method, max_new_tokens=3) for method in methods)
    scores = [[each.score for each in generation.alternatives] for generation in (one_by_one, at_once)]
    assert scores[0] == pytest.approx(scores[1])
    assert at_once.info["comparisons"] == at_once.info["candidates"]
    assert one_by_one.cost.forwards == 4  # three tokens, and the states


def test_on_a_real_model_it_is_the_mean_of_the_states_that_the_model_gives(model: Model) -> None:
    method = Mbr(n=4, strategy=Sampling(temperature=0.8), utility=Embedding())
    generation = model.generate("The capital of France is", method, max_new_tokens=6, seed=2)
    prompt = model.vocabulary.prompt(model.encode("The capital of France is"))
    means = []
    for each in generation.alternatives:
        (answer,) = model.runner.forward([Forward(prompt + list(each.tokens), last=len(each.tokens), hidden=True)])
        assert answer.hidden is not None
        mean = answer.hidden.astype(np.float64).mean(axis=0)
        means.append(mean / np.linalg.norm(mean))
    similarity = np.array(means) @ np.array(means).T
    assert [each.score for each in generation.alternatives] == pytest.approx(similarity.mean(axis=1), abs=1e-6)
    assert similarity.min() < 0.999


def test_on_a_real_model_it_does_not_depend_on_the_company(model: Model) -> None:
    method = Mbr(n=3, utility=Embedding())
    law_isolation(method, model, ["The capital of France is", "one two three one two"], max_new_tokens=4)
