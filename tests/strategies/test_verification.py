from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovdecode import (
    AdaptiveP,
    BeamSearch,
    Confidence,
    DraftModel,
    DraftTree,
    Engine,
    Greedy,
    Jacobi,
    Lookahead,
    Model,
    Sampling,
    Speculative,
    StoppingCriterion,
    Strategy,
    TableRunner,
    Task,
    When,
)
from ovdecode.candidates import Candidates
from ovdecode.proposer import Draft, Drafted
from ovdecode.strategies.verification import choose
from ovdecode.testing import table_model
from ovdecode.testing.enumeration import Choices


def weighted(probabilities: list[float]) -> Candidates:
    """Candidates with these probabilities; those of 0 are left out where there are any."""
    weights = np.array(probabilities)
    ids = np.flatnonzero(weights)
    dense = Candidates(np.log(np.where(weights > 0, weights, 1)))
    return dense if len(ids) == len(weights) else dense.at(ids)


@dataclass(frozen=True)
class Alternatives:
    """Draws `count` tokens from a distribution, each one again or never again."""

    drawn_from: Candidates
    count: int
    again: bool

    def draw(self, rng: Choices) -> Draft:
        drafted: list[Drafted] = []
        candidates = self.drawn_from
        for _ in range(min(self.count, 9 if self.again else len(candidates))):
            drafted.append(Drafted(candidates.draw(rng), candidates))
            if not self.again:
                candidates = candidates.without(np.array([drafted[-1].token]))
        return tuple(drafted)


def law(target: Candidates, draft: Alternatives | Draft, size: int) -> tuple[list[float], list[float]]:
    """The exact law of what is chosen, and how often each of the alternatives is kept."""
    found, kept, choices = np.zeros(size), np.zeros(9), Choices()
    while True:
        alternatives = draft.draw(choices) if isinstance(draft, Alternatives) else draft
        token, chosen = choose(target, alternatives, choices)
        found[token] += choices.probability
        if chosen is not None:
            assert chosen.token == token
            kept[[each is chosen for each in alternatives].index(True)] += choices.probability
        if not choices.advance():
            return found.tolist(), kept[: kept.nonzero()[0].max(initial=-1) + 1].tolist()


@pytest.mark.parametrize(
    ("draft", "target", "accepted"),
    [([0.5, 0.5], [0.5, 0.5], [1.0]), ([0.9, 0.1], [0.5, 0.5], [0.6]), ([1.0, 0.0], [0.0, 1.0], [])],
)
def test_acceptance_is_what_the_two_have_in_common(
    draft: list[float], target: list[float], accepted: list[float]
) -> None:
    found, kept = law(weighted(target), Alternatives(weighted(draft), 1, False), 2)
    assert found == pytest.approx(target)
    assert kept == pytest.approx(accepted)  # Σ min(p, q)


def test_certain_alternatives_are_kept_as_often_as_they_are_probable() -> None:
    target = [0.5, 0.25, 0.125, 0.125]
    found, kept = law(weighted(target), (Drafted(1), Drafted(3), Drafted(0)), 4)
    assert found == pytest.approx(target)
    assert kept == pytest.approx([0.25, 0.125, 0.5])


def test_a_second_draw_covers_what_the_first_left() -> None:
    # p = (1/2, 1/2), q = (3/4, 1/4): the first draw is kept 3/4 of the time, and leaves the second token alone.
    target, draft = weighted([0.5, 0.5]), weighted([0.75, 0.25])
    found, kept = law(target, Alternatives(draft, 2, again=True), 2)
    assert found == pytest.approx([0.5, 0.5])
    assert kept == pytest.approx([0.75, 0.25 * 0.25])
    found, kept = law(target, Alternatives(draft, 2, again=False), 2)
    assert found == pytest.approx([0.5, 0.5])
    assert kept == pytest.approx([0.75, 0.25])


def test_an_alternative_that_was_rejected_is_not_kept_later() -> None:
    found, kept = law(weighted([0.2, 0.8]), (Drafted(0), Drafted(0), Drafted(0)), 2)
    assert found == pytest.approx([0.2, 0.8])
    assert kept == pytest.approx([0.2])


@pytest.mark.parametrize("draft", [(), (Drafted(0), Drafted(2)), (Drafted(2, weighted([0.5, 0, 0.5])),)])
def test_a_certain_target_needs_no_chance(draft: Draft) -> None:
    class NoChance(Choices):
        def choose(self, weights: object) -> int:
            raise AssertionError("a certain token is not drawn")

    token, kept = choose(Candidates(np.array([1.0, 5.0, 3.0])).at(np.array([2])), draft, NoChance())
    assert token == 2
    assert (kept.token if kept else None) == (2 if draft else None)


def test_alternatives_that_claim_another_law_are_not_exact() -> None:
    """The checks above can fail: draws without replacement that say they are with it."""

    class Lying(Alternatives):
        def draw(self, rng: Choices) -> Draft:
            return tuple(Drafted(each.token, self.drawn_from) for each in super().draw(rng))

    target = [0.2, 0.3, 0.5]
    found, _ = law(weighted(target), Lying(weighted([0.8, 0.15, 0.05]), 2, again=False), 3)
    assert found != pytest.approx(target, abs=0.01)


distributions = st.lists(st.sampled_from([0, 1, 2, 5]), min_size=4, max_size=4).filter(any)


@settings(max_examples=60, deadline=None)
@given(distributions, distributions, st.integers(1, 3), st.booleans())
def test_any_alternatives_leave_the_law_as_it_is(target: list[int], draft: list[int], count: int, again: bool) -> None:
    p, q = (np.array(weights) / sum(weights) for weights in (target, draft))
    found, _ = law(weighted(p.tolist()), Alternatives(weighted(q.tolist()), count, again), 4)
    assert found == pytest.approx(p.tolist(), abs=1e-9)


def test_any_certain_alternatives_leave_the_law_as_it_is() -> None:
    target = [0.1, 0.0, 0.3, 0.6]
    for tokens in product(range(4), repeat=3):
        found, _ = law(weighted(target), tuple(map(Drafted, tokens)), 4)
        assert found == pytest.approx(target, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_a_draft_does_not_depend_on_what_a_neighbour_decodes(seed: int) -> None:
    """The probability of a drafted token was known if another task had decoded the same tokens: the draft, and with it
    the random numbers used, then depended on who else ran."""
    model, small = table_model(), table_model(1)
    methods = [
        Speculative(Sampling(processors=AdaptiveP(0.3)), DraftModel(small, num_tokens=4)),
        Lookahead(Sampling(processors=AdaptiveP(0.3))),
    ]
    for method in methods:
        for stop in (None, Confidence(-1.5, window=1)):
            task = Task(model, [0, 1], method, 8, stop, seed=seed)
            (alone,) = Engine().run([task])
            beside = [Task(model, [0, 1], BeamSearch(num_beams=6), 8), task]
            together = max(Engine().run(beside), key=lambda generation: generation.index)
            assert alone.error is together.error is None
            assert (alone.tokens, dict(alone.info)) == (together.tokens, dict(together.info))


MODEL = table_model()
VERIFYING = [
    Speculative(),
    Speculative(proposer=DraftModel(MODEL, num_tokens=4)),
    Speculative(proposer=DraftTree(MODEL, (2, 2, 1))),
    Jacobi(),
    Lookahead(),
]
TOLD = [Confidence(-1.0, window=2), When(lambda sequence: sequence.logprob < -1.5)]


@pytest.mark.parametrize("stop", TOLD, ids=["confidence", "logprob"])
@pytest.mark.parametrize("strategy", VERIFYING, ids=["lookup", "draft model", "tree", "jacobi", "lookahead"])
def test_a_stop_that_reads_probabilities_ends_what_is_accepted(strategy: Strategy, stop: StoppingCriterion) -> None:
    """A draft is judged without the probability of its tokens, so such a stop never ended it, and nothing asked again
    once they were accepted: tokens past the stop were kept."""
    for prompt in ([0], [1, 2, 1, 2, 1], [4, 3, 0, 0, 3, 0, 0]):
        plain = MODEL.generate(prompt, Greedy(), max_new_tokens=9, stop=stop)
        drafted = MODEL.generate(prompt, strategy, max_new_tokens=9, stop=stop)
        assert drafted.tokens == plain.tokens
        assert drafted.stop_reason == plain.stop_reason


@pytest.mark.parametrize("strategy", [Speculative(), Jacobi(), Lookahead()], ids=lambda one: one.name)
def test_a_stop_that_reads_probabilities_ends_what_is_copied(strategy: Strategy) -> None:
    steady = Model(TableRunner({(): [0.0, 2.0, 0.0]}))
    each = -np.log(1 + 2 * np.exp(-2))
    for count in (5, 6, 7):
        stop = When(lambda sequence, least=(count - 0.5) * each: sequence.logprob < least)
        generation = steady.generate([1] * 8, strategy, max_new_tokens=20, stop=stop)
        assert generation.tokens == (1,) * count
        assert generation.info["accepted"] > 0


def test_a_stop_that_reads_probabilities_on_a_model(model: Model) -> None:
    prompt, stop = "Once upon a time, once upon a time,", Confidence(-1.5, window=2)
    plain = model.generate(prompt, Greedy(), max_new_tokens=16, stop=stop)
    drafted = model.generate(prompt, Speculative(proposer=DraftModel(model)), max_new_tokens=16, stop=stop)
    assert len(plain.tokens) < 16  # it stops inside what a draft would go on with
    assert (drafted.tokens, drafted.stop_reason) == (plain.tokens, plain.stop_reason)
    assert drafted.info["accepted"] > 0
