from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from ovdecode import (
    BeamSearch,
    Candidates,
    DraftModel,
    DraftTree,
    EarlyExit,
    Forward,
    Greedy,
    JsonSchema,
    LogitsProcessor,
    MinP,
    Model,
    NoRepeatNgram,
    Outcome,
    PromptLookup,
    Random,
    Regex,
    RepetitionPenalty,
    Sampling,
    Sequence,
    Speculative,
    Stepwise,
    StopTokens,
    Strategy,
    SuffixIndex,
    SuppressedTokens,
    TableRunner,
    Task,
    Temperature,
    TopK,
    TopP,
    gather,
    parse,
    run,
)
from ovdecode.errors import ConfigurationError, LogitsError, StrategyError
from ovdecode.forward import Logits
from ovdecode.processor import Chain
from ovdecode.proposer import Law, Proposer, Proposing, chain, continuations, tree
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding, Hypothesis
from ovdecode.testing.enumeration import Choices, distribution, paths


def noise(seed: int, vocab: int = 3) -> Model:
    """A model of irregular logits; layer 1 has others, layer 2 is the model's own output."""

    def rows(seed: int) -> Any:
        return cache(lambda tokens: np.random.default_rng([seed, *tokens]).standard_normal(vocab) * 1.5)

    return Model(TableRunner(rows(seed), layers={1: rows(seed + 100), 2: rows(seed)}))


TARGET, WORSE = noise(1), noise(2)


@dataclass(frozen=True)
class Fixed(Proposer):
    """Always proposes the same continuations, as certain."""

    given: tuple[tuple[int, ...], ...] = ()

    def propose(self, sequence: Sequence, stop: Stop, law: Law, rng: Random) -> Proposing:
        yield from ()
        return continuations(self.given)


@dataclass(frozen=True)
class Unrelated(Proposer):
    """Draws from a distribution that has nothing to do with any model, and holds a token to be impossible: the same
    alternatives again and again, each with another draw after it."""

    width: int = 1
    again: bool = True

    def propose(self, sequence: Sequence, stop: Stop, law: Law, rng: Random) -> Proposing:
        yield from ()
        guess = Candidates(np.log(np.array([0.0 + 1e-9, 0.9, 0.1]))).at(np.array([1, 2]))
        nodes: list[tuple[int, int, Candidates | None]] = []
        candidates = guess
        for _ in range(self.width):
            nodes.append((-1, candidates.draw(rng), candidates))
            nodes.append((len(nodes) - 1, guess.draw(rng), guess))
            if not self.again:
                candidates = candidates.without(np.array([nodes[-2][1]]))
        return tree(nodes)


@dataclass(frozen=True)
class Misleading(Proposer):
    """Asks the model itself, and draws what it finds least probable."""

    def propose(self, sequence: Sequence, stop: Stop, law: Law, rng: Random) -> Proposing:
        logits = yield Forward(sequence, draft=True)
        opposite = law(-logits, sequence)
        return chain([(opposite.draw(rng), opposite)])


PROPOSERS = {
    "itself": DraftModel(TARGET, 2),
    "worse": DraftModel(WORSE, 2),
    "worse, processed": DraftModel(WORSE, 2, processors=Temperature(2.0) | TopK(2)),
    "worse, unless unsure": DraftModel(WORSE, 2, threshold=0.5),
    "layer": EarlyExit(1, 2),
    "last layer": EarlyExit(2, 2, threshold=0.5),
    "nothing": Fixed(()),
    "fixed": Fixed(((2, 2, 2),)),
    "alternatives": Fixed(((0, 1), (2, 0), (0, 0), (2,))),
    "unrelated": Unrelated(),
    "unrelated, again": Unrelated(2),
    "unrelated, distinct": Unrelated(2, again=False),
    "misleading": Misleading(),
    "top tree": DraftTree(WORSE, (2, 1)),
    "distinct tree": DraftTree(WORSE, (2, 1), "distinct"),
    "independent tree": DraftTree(WORSE, (2, 1), "independent"),
    "distinct tree of itself": DraftTree(TARGET, (1, 2), "distinct"),
    "lookup": PromptLookup(3, 2),
    "lookups": PromptLookup(3, 2, num_drafts=2),
    "suffixes": SuffixIndex(4),
    "suffix tree": SuffixIndex(4, branching=True),
}
CHAINS = [
    Chain(),
    Temperature(0.6),
    TopK(2) | Temperature(1.5),
    TopP(0.8),
    RepetitionPenalty(1.7) | MinP(0.2),
    NoRepeatNgram(2),
]
MANY_PATHS = ("independent tree", "distinct tree", "unrelated, again", "unrelated, distinct")
every_proposer = pytest.mark.parametrize("proposer", PROPOSERS.values(), ids=PROPOSERS)


# ---- The law: exactly that of the plain strategy -----------------------------------------------------------


@pytest.mark.parametrize("chain", CHAINS, ids=str)
@every_proposer
def test_any_draft_gives_plain_sampling(proposer: Proposer, chain: LogitsProcessor) -> None:
    length = 2 if any(proposer is PROPOSERS[name] for name in MANY_PATHS) else 3
    plain = distribution(Sampling(processors=chain), TARGET, [0, 1, 0], max_new_tokens=length)
    strategy = Speculative(Sampling(processors=chain), proposer)
    assert distribution(strategy, TARGET, [0, 1, 0], max_new_tokens=length) == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize("name", ["worse", "alternatives", "unrelated", "lookup"])
def test_over_more_tokens_with_stops_inside(name: str) -> None:
    stop = StopTokens([[2], [1, 1]])
    plain = distribution(Sampling(), TARGET, [0], max_new_tokens=4, stop=stop)
    strategy = Speculative(Sampling(), PROPOSERS[name])
    assert distribution(strategy, TARGET, [0], max_new_tokens=4, stop=stop) == pytest.approx(plain, abs=1e-6)


@every_proposer
@pytest.mark.parametrize("chain", CHAINS[:1] + CHAINS[4:], ids=str)
def test_any_draft_gives_greedy_tokens(proposer: Proposer, chain: LogitsProcessor) -> None:
    strategy = Speculative(Greedy(processors=chain), proposer)
    for seed in range(3):
        options = {"max_new_tokens": 7 if chain is not CHAINS[5] else 4, "seed": seed}
        plain = TARGET.generate([0, 1, 0], Greedy(processors=chain), **options)
        assert TARGET.generate([0, 1, 0], strategy, **options).tokens == plain.tokens


def test_own_processors_come_before_those_of_the_strategy() -> None:
    chained = Speculative(Sampling(temperature=0.6), DraftModel(WORSE, 2), processors=TopK(2))
    plain = distribution(Sampling(processors=TopK(2) | Temperature(0.6)), TARGET, [0], max_new_tokens=3)
    assert distribution(chained, TARGET, [0], max_new_tokens=3) == pytest.approx(plain, abs=1e-6)


@dataclass(frozen=True)
class Pair(Strategy):
    """Two strategies in one batch, from one prompt."""

    first: Strategy
    second: Strategy

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        found = yield from gather(each.decode(prompt, stop, rng) for each in (self.first, self.second))
        sequences = [one.sequence if isinstance(one, Outcome) else one for one in found]
        return Outcome(tuple(Hypothesis(sequence, 0.0) for sequence in sequences))


@pytest.mark.parametrize("name", ["worse", "alternatives", "distinct tree", "lookup", "misleading"])
def test_two_in_one_batch_are_independent_and_each_has_its_law(name: str) -> None:
    first, second = Sampling(top_k=2), Sampling(temperature=0.5)
    pair = Pair(Speculative(first, PROPOSERS[name]), Speculative(second, PROPOSERS["worse"]))
    found, choices = dict[Any, float](), Choices()
    for generation in paths(Task(TARGET, [0, 1, 0], pair, 2), choices):
        assert generation.error is None
        tokens = tuple(alternative.tokens for alternative in generation.alternatives)
        found[tokens] = found.get(tokens, 0.0) + choices.probability
    laws = [distribution(each, TARGET, [0, 1, 0], max_new_tokens=2) for each in (first, second)]
    expected = {(one, other): p * q for one, p in laws[0].items() for other, q in laws[1].items()}
    assert found == pytest.approx(expected, abs=1e-6)


@dataclass(frozen=True)
class Halfway(Stepwise):
    """A strategy of somebody's own: half of the time uniform."""

    def law(self, logits: Logits, sequence: Sequence) -> Candidates:
        probabilities = self.candidates(logits, sequence).probabilities
        return Candidates(np.log((probabilities + 1 / len(probabilities)) / 2))


@pytest.mark.parametrize("name", ["itself", "alternatives", "distinct tree"])
def test_whatever_draws_token_by_token_can_be_verified(name: str) -> None:
    plain = distribution(Halfway(), TARGET, [0], max_new_tokens=2)
    assert plain[0, 0] != pytest.approx(distribution(Sampling(), TARGET, [0], max_new_tokens=2)[0, 0], abs=0.01)
    strategy = Speculative(Halfway(), PROPOSERS[name])
    assert distribution(strategy, TARGET, [0], max_new_tokens=2) == pytest.approx(plain, abs=1e-6)


# ---- What it costs, and what it tells ----------------------------------------------------------------------


@pytest.mark.parametrize("proposer", [DraftModel(TARGET, 3), EarlyExit(2, 3)], ids=["model", "layer"])
@pytest.mark.parametrize("strategy", [Greedy(), Sampling(), Sampling(temperature=0.7, top_k=2)], ids=str)
def test_a_draft_by_the_model_itself_is_always_accepted(strategy: Any, proposer: Proposer) -> None:
    for seed in range(5):
        generation = TARGET.generate([0], Speculative(strategy, proposer), max_new_tokens=12, seed=seed)
        assert generation.info == {"rounds": 3, "drafted": 9, "accepted": 9, "acceptance": 1.0}


def test_a_loop_is_looked_up() -> None:
    circle = Model(TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]]))
    strategy = Speculative(proposer=PromptLookup(num_tokens=3))
    generation = circle.generate([0, 1, 2, 0, 1, 2], strategy, max_new_tokens=8)
    assert generation.tokens == (0, 1, 2, 0, 1, 2, 0, 1)
    assert generation.info == {"rounds": 2, "drafted": 6, "accepted": 6, "acceptance": 1.0}
    assert generation.cost.forwards == 2


def test_a_tree_takes_one_inference() -> None:
    circle = Model(TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]]))
    strategy = Speculative(proposer=Fixed(((2,), (1, 1), (1, 2, 0), (1, 2, 1))))
    generation = circle.generate([0], strategy, max_new_tokens=4)
    assert generation.tokens == (1, 2, 0, 1)
    assert generation.info == {"rounds": 1, "drafted": 6, "accepted": 3, "acceptance": 0.5}
    assert generation.cost.forwards == 1
    assert generation.cost.tokens == 7  # the prompt, and each node of the tree once


def test_an_empty_draft_is_a_plain_step() -> None:
    generation = TARGET.generate([0], Speculative(proposer=Fixed(())), max_new_tokens=4)
    assert generation.info == {"rounds": 4, "drafted": 0, "accepted": 0, "acceptance": 0.0}


def test_a_wrong_draft_costs_no_token() -> None:
    always = Model(TableRunner({(): [0.0, 9.0, 0.0]}))
    generation = always.generate([0], Speculative(proposer=Fixed(((2, 2), (0,)))), max_new_tokens=4)
    assert generation.tokens == (1, 1, 1, 1)
    assert generation.info["rounds"] == 4
    assert generation.info["accepted"] == 0


def test_the_logprob_of_accepted_tokens_is_known() -> None:
    plain = TARGET.generate([0], Greedy(), max_new_tokens=6)
    for proposer in (DraftModel(WORSE), DraftTree(WORSE, (2, 2)), EarlyExit(1)):
        drafted = TARGET.generate([0], Speculative(proposer=proposer), max_new_tokens=6)
        assert drafted.logprob == pytest.approx(plain.logprob, abs=1e-5)
        assert drafted.token_logprobs == pytest.approx(plain.token_logprobs, abs=1e-5)


# ---- Stops -------------------------------------------------------------------------------------------------


def test_nothing_is_produced_past_a_stop() -> None:
    always = Model(TableRunner({(): [0.0, 9.0, 0.0]}))
    generation = always.generate([0], Speculative(proposer=Fixed(((1,) * 8,))), max_new_tokens=5)
    assert generation.tokens == (1,) * 5
    assert generation.info["drafted"] == 5  # the draft is cut at the bound
    assert generation.cost.tokens == 5  # nothing is asked after the token that ends it


def test_the_end_of_text_inside_a_draft_ends_it() -> None:
    circle = Model(TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]]), eos_token_ids=[2])
    generation = circle.generate([0], Speculative(proposer=Fixed(((1, 2, 0, 1), (2, 2)))))
    assert generation.tokens == (1, 2)
    assert str(generation.stop_reason).startswith("eos")
    assert generation.info["drafted"] == 3


@pytest.mark.parametrize(
    "proposer", [Fixed(((1,) * 9, (0,) * 9)), EarlyExit(1, 9), DraftTree(WORSE, (1,) * 9)], ids=lambda one: one.name
)
def test_a_draft_stays_within_the_context(proposer: Proposer) -> None:
    rows = {(): [0.0, 9.0, 0.0]}
    short = Model(TableRunner(rows, layers={1: rows}, context_length=6))
    generation = short.generate([0, 1], Speculative(proposer=proposer), max_new_tokens=50)
    assert generation.tokens == (1,) * 4
    drafted = short.generate([0, 1], Speculative(proposer=DraftModel(short, 9)), max_new_tokens=50)
    assert drafted.tokens == (1,) * 4


# ---- Company -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [DraftModel, lambda model, n: EarlyExit(1, n)], ids=["model", "layer"])
def test_what_is_accepted_is_streamed_and_no_draft_is(make: Any) -> None:
    rows = [[0, 9, 0], [0, 0, 9], [9, 0, 0]]
    circle = Model(TableRunner(rows, layers={1: rows}))
    assert list(circle.stream([0], Speculative(proposer=make(circle, 2)), max_new_tokens=7)) == ["bca", "bca", "b"]


def test_what_a_tree_has_in_common_is_streamed() -> None:
    circle = Model(TableRunner([[0, 9, 0], [0, 0, 9], [9, 0, 0]]))
    strategy = Speculative(proposer=Fixed(((0,), (1, 2), (1, 0))))
    assert list(circle.stream([0], strategy, max_new_tokens=7)) == ["bca", "bca", "b"]


def test_alone_and_among_others() -> None:
    strategies = [Speculative(Sampling(), proposer) for proposer in PROPOSERS.values()] + [Sampling(), Greedy()]
    alone = [TARGET.generate([0, 1, 0], each, max_new_tokens=9, seed=4).tokens for each in strategies]
    tasks = [Task(TARGET, [0, 1, 0], each, max_new_tokens=9, seed=4) for each in strategies]
    together = {generation.index: generation.tokens for generation in run(tasks)}
    assert [together[index] for index in range(len(tasks))] == alone


# ---- Configuration -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        "speculative",
        "speculative:strategy=(sampling:temperature=0.8,top_p=0.95),proposer=(prompt_lookup:num_tokens=5)",
        "speculative:proposer=(draft_model:model=smollm2,num_tokens=2)",
        "speculative:proposer=(draft_tree:model=smollm2,widths=[2,1],alternatives=distinct)",
        "speculative:proposer=(early_exit:layer=20,threshold=0.4)",
    ],
)
def test_spec_round_trip(spec: str) -> None:
    assert str(parse(spec)) == spec
    assert parse(str(parse(spec))) == parse(spec)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: Speculative(BeamSearch()), "strategy"),  # type: ignore[arg-type]
        (lambda: Speculative(proposer="prompt_lookup"), "proposer"),  # type: ignore[arg-type]
    ],
)
def test_a_parameter_out_of_range_is_named(build: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"`{named}`"):
        build()


@pytest.mark.parametrize("kind", [DraftModel, DraftTree])
def test_a_draft_model_of_another_vocabulary_is_an_error(kind: Any) -> None:
    with pytest.raises(StrategyError, match=r"`speculative` .* vocabulary of 3 tokens"):
        TARGET.generate([0], Speculative(proposer=kind(noise(1, vocab=4))), max_new_tokens=2)


# ---- Drafts at a dead end ----------------------------------------------------------------------------------

# The model says b, the draft model a. After a, the language goes on with z, which is no token: a draft can get there.
SAYS_B = Model(TableRunner({(): [0.0, 5.0, 0.0, 0.0]}, layers={1: {(): [9.0, 5.0, 0.0, 0.0]}}))
SAYS_A = Model(TableRunner({(): [9.0, 5.0, 0.0, 0.0]}))
LANGUAGE = Regex("az|b*")
AT_A_DEAD_END = {
    "model": lambda chain: DraftModel(SAYS_A, 3, processors=chain),
    "layer": lambda chain: EarlyExit(1, 3, processors=chain),
    "top tree": lambda chain: DraftTree(SAYS_A, (2, 2), processors=chain),
    "distinct tree": lambda chain: DraftTree(SAYS_A, (2, 2), "distinct", processors=chain),
    "independent tree": lambda chain: DraftTree(SAYS_A, (2, 2), "independent", processors=chain),
}


@pytest.mark.parametrize("make", AT_A_DEAD_END.values(), ids=AT_A_DEAD_END)
@pytest.mark.parametrize(
    ("law", "draft"),
    [
        (LANGUAGE, Chain()),  # the draft decides for a, and the law leaves nothing after it
        (LANGUAGE | MinP(0.1), Chain()),  # and what comes after reads the best of nothing
        (SuppressedTokens([0]), TopK(1)),  # the law excludes what the draft's own processors leave
        (Chain(), SuppressedTokens([0, 1, 2, 3])),  # these leave nothing by themselves
        (Chain(), SuppressedTokens([0, 1, 2, 3]) | MinP(0.1)),
    ],
    ids=["law", "law and more", "both", "draft", "draft and more"],
)
def test_a_draft_ends_at_a_dead_end(make: Any, law: LogitsProcessor, draft: LogitsProcessor) -> None:
    """Any draft is right, but one at a dead end ended the decoding with an error."""
    strategy = Speculative(Greedy(processors=law), make(draft))
    assert SAYS_B.generate([3], strategy, max_new_tokens=3).tokens == (1, 1, 1)
    sharp = Sampling(temperature=0.1, processors=law)
    assert SAYS_B.generate([3], Speculative(sharp, make(draft)), max_new_tokens=3).tokens == (1, 1, 1)


@dataclass(frozen=True)
class Nonsense(LogitsProcessor):
    """Leaves what is no number."""

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        return candidates.with_logits(candidates.logits * np.nan)


@pytest.mark.parametrize("make", AT_A_DEAD_END.values(), ids=AT_A_DEAD_END)
def test_a_draft_of_what_is_no_number_is_an_error(make: Any) -> None:
    with pytest.raises(LogitsError, match="not numbers"):
        SAYS_B.generate([3], Speculative(Sampling(), make(Nonsense() | MinP(0.1))), max_new_tokens=3)


def test_a_dead_end_on_a_model(model: Model) -> None:
    """The draft's best token is no JSON where its own top-k leaves only that."""
    schema = JsonSchema({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    plain = model.generate("Give JSON: ", Greedy(processors=schema), max_new_tokens=8)
    drafted = Speculative(Greedy(processors=schema), DraftModel(model, processors=TopK(1)))
    assert model.generate("Give JSON: ", drafted, max_new_tokens=8).tokens == plain.tokens
