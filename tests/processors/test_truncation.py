"""Truncation: four-token cases with answers visible by eye, and the plain definitions as references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ovdecode import Task, run
from ovdecode.candidates import Candidates
from ovdecode.errors import ConfigurationError, LogitsError
from ovdecode.numerics import crossing, logsumexp, pick, top_indices
from ovdecode.processor import Chain, LogitsProcessor
from ovdecode.random import Random
from ovdecode.spec import parse
from ovdecode.strategies.processors.shared import ROUNDING
from ovdecode.strategies.processors.temperature import Temperature
from ovdecode.strategies.processors.truncation import MinP, TopK, TopP, Typical
from ovdecode.vocabulary import Vocabulary

ROOT = Vocabulary(4).root
HALVES = [0.125, 0.5, 0.25, 0.125]


def row(probabilities):
    return Candidates(np.log(np.array(probabilities, np.float32)))


def kept(processor, probabilities):
    return processor(row(probabilities), ROOT).ids.tolist()


def test_temperature_divides_the_logits():
    halved = Temperature(0.5)(Candidates(np.array([1, -2, 0, -np.inf], np.float32)), ROOT)
    assert halved.logits.tolist() == [2, -4, 0, -np.inf]
    assert halved.dense
    assert halved.logits.dtype == np.float32


@pytest.mark.parametrize(
    ("k", "expected"), [(1, [1]), (2, [1, 2]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])]
)
def test_top_k_keeps_exactly_k_and_a_tie_goes_to_the_lower_id(k, expected):
    assert kept(TopK(k), HALVES) == expected


@pytest.mark.parametrize(
    ("k", "expected"), [(1, [1]), (2, [1, 2]), (3, [0, 1, 2, 3]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])]
)
def test_top_k_may_keep_all_equals_of_the_last(k, expected):
    assert kept(TopK(k, ties="keep"), HALVES) == expected
    narrow = (TopK(4) | Temperature(0.7) | TopK(k, ties="keep"))(row(HALVES), ROOT)
    assert narrow.ids.tolist() == expected


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.1, [1]),
        (0.5, [1]),
        (0.51, [1, 2]),
        (0.75, [1, 2]),
        (0.76, [0, 1, 2]),
        (0.9, [0, 1, 2, 3]),
        (1, [0, 1, 2, 3]),
    ],
)
def test_top_p_keeps_the_token_that_crosses(p, expected):
    assert kept(TopP(p), HALVES) == expected


def test_top_p_splits_a_tie_by_id():
    assert kept(TopP(0.5), [0.25, 0.25, 0.25, 0.25]) == [0, 1]


@pytest.mark.parametrize(
    ("p", "expected"), [(0.2, [0, 1, 2, 3]), (0.25, [0, 1, 2, 3]), (0.4, [1, 2]), (0.5, [1, 2]), (1, [1])]
)
def test_min_p_keeps_what_is_near_the_best(p, expected):
    assert kept(MinP(p), HALVES) == expected


def test_min_p_of_one_keeps_all_equals_of_the_best():
    assert kept(MinP(1), [0.4, 0.1, 0.4, 0.1]) == [0, 2]


@given(st.floats(-5000, 5000, width=32), st.sampled_from([0.3, 0.7, 1.3]))
def test_min_p_after_a_temperature_keeps_the_best(best, temperature):
    # The bound was taken from a quotient in double precision, and the best logit itself could fall short of it.
    logits = Candidates(np.array([best, best - 9000], np.float32))
    assert (Temperature(temperature) | MinP(1))(logits, ROOT).ids.tolist() == [0]


@pytest.mark.parametrize(
    ("mass", "expected"),
    [(0.2, [2]), (0.25, [2]), (0.3, [1, 2]), (0.75, [1, 2]), (0.8, [0, 1, 2]), (1, [0, 1, 2, 3])],
)
def test_typical_orders_by_distance_from_the_entropy(mass, expected):
    # Entropy 1.75 bits; surprises 3, 1, 2, 3 bits; distances 1.25, 0.75, 0.25, 1.25.
    assert kept(Typical(mass), HALVES) == expected


@pytest.mark.parametrize(("mass", "expected"), [(0.2, [2]), (0.75, [1, 2]), (0.8, [0, 1, 2, 3]), (1, [0, 1, 2, 3])])
def test_typical_may_keep_all_that_are_as_far_as_the_last(mass, expected):
    assert kept(Typical(mass, ties="keep"), HALVES) == expected


def test_typical_may_drop_the_best_token():
    # 0.6 and forty of 0.01: entropy 2.15 nats, surprises 0.51 and 4.6.
    assert 0 in kept(Typical(0.5), [0.6] + [0.01] * 40)
    assert 0 not in kept(Typical(0.3), [0.3] + [0.07] * 10)


def test_order_is_the_users():
    # Colder first, the best token alone has 0.9; narrowed first to 0.5 of 0.75, it does not reach 0.7.
    logits = Candidates(np.array([0, 2, 1, 0], np.float32))
    assert (Temperature(0.25) | TopP(0.7))(logits, ROOT).ids.tolist() == [1]
    assert (TopP(0.7) | Temperature(0.25))(logits, ROOT).ids.tolist() == [1, 2]


def test_narrowed_candidates_keep_their_ids():
    narrow = TopK(3)(row(HALVES), ROOT)
    assert TopP(0.5)(narrow, ROOT).ids.tolist() == [1]
    assert TopK(2)(narrow, ROOT).ids.tolist() == [1, 2]
    assert MinP(0.5)(narrow, ROOT).ids.tolist() == [1, 2]
    assert Typical(0.2)(narrow, ROOT).ids.tolist() == [2]


# The plain definitions, with a full sort. Logits from a small set give ties on purpose.


def reference_top_p(candidates, p):
    order = np.argsort(-candidates.logits, kind="stable")
    mass = np.cumsum(candidates.probabilities[order].astype(np.float64))
    count = int(np.searchsorted(mass, p - ROUNDING)) + 1
    return sorted(order[:count].tolist())


def reference_typical(candidates, mass):
    distances = np.abs(candidates.logprobs + candidates.logits.dtype.type(candidates.entropy))
    order = np.argsort(distances, kind="stable")
    total = np.cumsum(candidates.probabilities[order].astype(np.float64))
    count = int(np.searchsorted(total, mass - ROUNDING)) + 1
    return sorted(order[:count].tolist())


coarse = st.sampled_from([-np.inf, -40.0, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 4.0])
fine = st.floats(-30, 30, width=32)
rows = st.one_of(
    arrays(np.float32, st.integers(1, 40), elements=coarse),
    arrays(np.float32, st.integers(1, 40), elements=fine),
    st.builds(
        lambda seed, size, scale, steps: (
            np.round(np.random.default_rng(seed).standard_normal(size) * scale * steps).astype(np.float32) / steps
        ),
        st.integers(0, 1000),
        st.integers(500, 6000),
        st.sampled_from([0.0, 0.3, 1.0, 3.0, 8.0]),
        st.sampled_from([2, 1000]),
    ),
).filter(lambda logits: np.isfinite(logits.max()))
shares = st.floats(0.001, 0.999)


@given(rows, shares)
def test_top_p_equals_its_definition(logits, p):
    candidates = Candidates(logits)
    assert TopP(p)(candidates, ROOT).ids.tolist() == reference_top_p(candidates, p)


@given(rows, shares)
def test_typical_equals_its_definition(logits, mass):
    candidates = Candidates(logits)
    assert Typical(mass)(candidates, ROOT).ids.tolist() == reference_typical(candidates, mass)


@given(rows, shares)
def test_min_p_equals_its_definition(logits, p):
    bound = float(logits.max()) + math.log(p)
    chosen = set(MinP(p)(Candidates(logits), ROOT).ids.tolist())
    assert {index for index, logit in enumerate(logits) if logit >= bound} <= chosen
    assert chosen <= {index for index, logit in enumerate(logits) if logit >= bound - 1e-5}


@given(rows, st.integers(1, 300))
def test_top_k_equals_its_definition(logits, k):
    expected = sorted(np.argsort(-logits, kind="stable")[:k].tolist())
    assert TopK(k)(Candidates(logits), ROOT).ids.tolist() == expected
    assert top_indices(logits, k).tolist() == expected


@given(rows, shares)
def test_pick_and_crossing_follow_the_running_sum(logits, share):
    weights = Candidates(logits).probabilities
    running = np.cumsum(weights.astype(np.float64))
    index = pick(weights, share)
    assert weights[index] > 0
    before = running[index - 1] if index else 0.0
    assert before <= share * running[-1] + 1e-9
    assert share * running[-1] <= running[index] + 1e-9
    assert abs(running[crossing(weights, share)] - share) <= weights.max() + 1e-6


@given(rows)
def test_logsumexp_in_double_precision(logits):
    exact = np.exp(logits.astype(np.float64) - float(logits.max()))
    assert logsumexp(logits) == pytest.approx(float(logits.max()) + math.log(exact.sum()), abs=1e-5)


EXAMPLES: list[LogitsProcessor] = [
    Temperature(0.7),
    TopK(2),
    TopK(2, ties="keep"),
    TopP(0.9),
    MinP(0.1),
    Typical(0.8),
    Typical(0.8, ties="keep"),
]


@pytest.mark.parametrize("processor", EXAMPLES, ids=str)
@pytest.mark.parametrize("narrow", [False, True])
def test_nothing_is_changed_in_place(processor, narrow):
    candidates = TopK(3)(row(HALVES), ROOT) if narrow else row(HALVES)
    candidates.logits.flags.writeable = False
    before = candidates.logits.copy()
    first, second = processor(candidates, ROOT), processor(candidates, ROOT)
    assert np.array_equal(candidates.logits, before)
    assert first.ids.tolist() == second.ids.tolist()


@pytest.mark.parametrize("processor", EXAMPLES[1:], ids=str)
@pytest.mark.parametrize("bad", [[np.nan, 1.0, 2.0], [-np.inf] * 3, []])
def test_logits_that_are_no_distribution_are_refused(processor, bad):
    with pytest.raises(LogitsError):
        processor(Candidates(np.array(bad, np.float32)), ROOT).argmax()


def test_nan_is_called_nan():
    with pytest.raises(LogitsError, match="not numbers"):
        TopK(1)(Candidates(np.array([np.nan, 1, 2], np.float32)), ROOT)


@pytest.mark.parametrize("processor", [*EXAMPLES, Chain(tuple(EXAMPLES))], ids=str)
def test_spec_strings_come_back(processor):
    assert parse(str(processor), "processor") == processor
    assert hash(processor) == hash(parse(str(processor), "processor"))


@pytest.mark.parametrize(
    ("build", "parameter"),
    [
        (lambda: Temperature(0), "temperature"),
        (lambda: Temperature(-1.0), "temperature"),
        (lambda: Temperature(math.inf), "temperature"),
        (lambda: Temperature(math.nan), "temperature"),
        (lambda: Temperature("cold"), "temperature"),
        (lambda: TopK(0), "k"),
        (lambda: TopK(2.5), "k"),
        (lambda: TopP(0), "p"),
        (lambda: TopP(1.1), "p"),
        (lambda: TopP(math.nan), "p"),
        (lambda: MinP(0.0), "p"),
        (lambda: Typical(0.0), "mass"),
        (lambda: Typical(2), "mass"),
        (lambda: TopK(2, ties="highest"), "ties"),
        (lambda: Typical(0.5, ties="lowest"), "ties"),
    ],
)
def test_configuration_errors_name_the_parameter(build, parameter):
    with pytest.raises(ConfigurationError, match=f"`{parameter}`"):
        build()


def test_temperature_zero_points_to_greedy():
    with pytest.raises(ConfigurationError, match="greedy"):
        Temperature(0)


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-39, 1e-37, 1e-21])
@pytest.mark.parametrize("chain", ["", "|top_k:k=3", "|top_p:p=0.9", "|min_p:p=0.1", "|typical:mass=0.9"])
def test_a_temperature_towards_zero_is_greedy(temperature, chain):
    # Single precision took these for zero, or the quotients for infinite: NaN weights, and no index at all.
    logits = np.array([1, 40, -3, 39.99, -np.inf], np.float32)
    cold = parse(f"temperature:temperature={temperature}{chain}", "processor")(Candidates(logits), ROOT)
    assert cold.distribution(5).tolist() == [0, 1, 0, 0, 0]
    assert cold.weights[cold.ids == 1] == 1
    assert cold.weights.sum() == 1
    assert cold.draw(Random(0)) == cold.argmax() == 1


@pytest.mark.parametrize("temperature", [1e21, 1e39, 1e300])
def test_a_temperature_towards_infinity_is_uniform(temperature):
    hot = Temperature(temperature)(Candidates(np.array([1, 40, -3, -np.inf], np.float32)), ROOT)
    assert np.allclose(hot.probabilities, [1 / 3, 1 / 3, 1 / 3, 0])


THE_BEST_STAYS = [
    "top_k:k=40",
    "top_k:k=40,ties=keep",
    "top_p:p=0.9",
    "min_p:p=0.05",
    "epsilon:epsilon=0.0003",
    "eta:epsilon=0.0003",
    "top_n_sigma",
    "p_less",
    "top_a",
    "top_h",
    "top_h:rule=hf",
    "tail_free",
    "quadratic:factor=0.3",
    "dynamic_temperature:low=0.5,high=1.5",
    "edt:temperature=1,theta=0.5",
    "adapt:hard=0.8,easy=0.6",
    "entropix",
    "mirostat:tau=3",
    "mirostat_1:tau=3",
]


def test_the_best_token_of_a_real_model_stays_the_best(model):
    prompt = "The capital of France is"
    greedy = model.generate(prompt, "greedy", max_new_tokens=6)
    tasks = [Task(model, prompt, f"greedy:processors=({spec})", max_new_tokens=6) for spec in THE_BEST_STAYS]
    for generation in run(tasks):
        assert generation.tokens == greedy.tokens, THE_BEST_STAYS[generation.index]
