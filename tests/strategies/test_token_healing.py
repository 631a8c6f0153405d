"""Token healing: literal borders of tokens, its exact law, what the result shows, and a real model."""

from __future__ import annotations

import json
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from ovdecode import (
    BeamSearch,
    BestOfN,
    ClassifierFreeGuidance,
    DraftTree,
    Engine,
    GrammarComplete,
    Greedy,
    GumbelSampling,
    Jacobi,
    JsonSchema,
    Lookahead,
    Mbr,
    Model,
    Random,
    Regex,
    Sampling,
    Sequence,
    Speculative,
    StopString,
    Strategy,
    SuffixIndex,
    SuppressedTokens,
    TableRunner,
    Task,
    Temperature,
    TokenHealing,
    Vocabulary,
    parse,
    run,
)
from ovdecode.engine import Piece
from ovdecode.errors import ConfigurationError, StrategyError, TokenError
from ovdecode.strategy import Decoding
from ovdecode.testing import check_strategy, distribution
from ovdecode.text import generated_text, owed, spells


class Pieces:
    """A spelling given token by token; `special` are markup."""

    def __init__(self, *pieces: str, special: Items[int] = ()) -> None:
        self.pieces, self.special_ids = [piece.encode() for piece in pieces], frozenset(special)

    def token_bytes(self, token: int) -> bytes:
        return self.pieces[token]

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError


#         0       1    2      3    4     5    6     7
WORDS = ("http", ":", "://", "/", ":/", "a", "/a", "<end>")


def words(logits: Any = None, **options: Any) -> Model:
    rows = {(): np.zeros(8)} if logits is None else logits
    return Model(TableRunner(rows), [7], Pieces(*WORDS, **options))  # type: ignore[arg-type]


def test_the_border_of_a_prompt_is_healed() -> None:
    # After "http" the model knows "://"; after "http" ":" it has never seen "//".
    model = words({(0,): [0, 1, 5, 0, 2, 0, 0, 0], (1,): [0, 0, 0, 0, 0, 3, 0, 0], (): [0, 0, 0, 0, 0, 4, 0, 0]})
    assert model.generate([0, 1], Greedy(), max_new_tokens=2).text == "aa"
    healed = model.generate([0, 1], TokenHealing(), max_new_tokens=2)
    assert (healed.text, healed.tokens, healed.taken_back) == ("//a", (2, 5), 1)


@pytest.mark.parametrize(
    ("prompt", "taken_back"),
    [
        ([0, 1], 1),
        ([0, 1, 3], 2),  # "://" begins with ":/"
        ([0, 1, 3, 3], 3),
        ([0, 1, 3, 3, 3], 1),  # no token holds more than two slashes
        ([0, 3, 5], 2),  # "/a" is a token
        ([0, 5], 1),
        ([0], 0),  # the first token stays
        ([1, 1], 1),
        ([0, 7], 0),  # so does what ends a text
        ([0, 7, 1], 1),
    ],
)
def test_as_many_tokens_as_may_be_parts_of_one(prompt: list[int], taken_back: int) -> None:
    generation = words().generate(prompt, TokenHealing(), max_new_tokens=8)
    assert generation.taken_back == taken_back


def test_markup_stays() -> None:
    model = words(special=[5])
    assert model.generate([0, 1, 5], TokenHealing(), max_new_tokens=1).taken_back == 0
    assert model.generate([0, 5, 1, 3], TokenHealing(num_tokens=3), max_new_tokens=1).taken_back == 2


def test_a_number_of_tokens() -> None:
    taken = [words().generate([0, 5, 5, 1], TokenHealing(num_tokens=n), max_new_tokens=9).taken_back for n in (1, 2, 9)]
    assert taken == [1, 2, 3]


def test_the_law_is_normalised_token_by_token() -> None:
    # ":/" is taken back: "://" and ":/" spell it at once, ":" with what comes then, which is "/" or "/a".
    row = np.log([0.3, 0.2, 0.1, 0.06, 0.1, 0.1, 0.04, 0.1])
    exact = distribution(TokenHealing(Sampling(), num_tokens=2), words({(): row}), [0, 1, 3], max_new_tokens=1)
    assert exact == pytest.approx({(1,): 0.5, (2,): 0.25, (4,): 0.25})
    exact = distribution(TokenHealing(Sampling(), num_tokens=2), words({(): row}), [0, 1, 3], max_new_tokens=2)
    assert {tokens: p for tokens, p in exact.items() if tokens[0] == 1} == pytest.approx({(1, 3): 0.3, (1, 6): 0.2})
    assert exact[2, 0] == pytest.approx(0.25 * 0.3)  # once it is spelled, all is possible


def test_a_token_after_which_the_rest_cannot_be_spelled_is_no_way() -> None:
    model = Model(TableRunner({(): [0, 9, 0, 0]}), [3], Pieces("b", "a", "aXY", "<end>"))  # type: ignore[arg-type]
    generation = model.generate([0, 2], TokenHealing(), max_new_tokens=1)  # nothing spells "XY" after "a"
    assert (generation.tokens, generation.text) == ((2,), "")


def test_what_stops_is_looked_for_after_the_prompt() -> None:
    # The prompt ends with the stop string itself; token 4 is ":/".
    model = words({(0,): [0, 0, 0, 0, 9, 0, 0, 0], (): [0, 0, 0, 0, 0, 9, 0, 0]})
    stop = StopString(":")
    assert model.generate([0, 1], TokenHealing(), max_new_tokens=3, stop=stop).text == "/aa"
    overhang = model.generate([0, 1], TokenHealing(), max_new_tokens=3, stop=StopString("/", keep=True))
    assert (overhang.text, str(overhang.stop_reason)) == ("/", "stop_string(/)")


def test_the_bound_counts_the_tokens_chosen_again() -> None:
    generation = words().generate([0, 1, 3], TokenHealing(num_tokens=2), max_new_tokens=1)
    assert (len(generation.tokens), generation.text) == (1, "")


def test_a_prompt_that_is_finished_stays_as_it_is() -> None:
    generation = words().generate([0, 1], TokenHealing(), stop="max_length:length=2")
    assert (generation.tokens, generation.taken_back) == ((), 0)


def test_log_probabilities_are_of_all_that_was_generated() -> None:
    row = np.log([0.3, 0.2, 0.1, 0.06, 0.1, 0.1, 0.04, 0.1])
    generation = words({(): row}).generate([0, 1, 3], TokenHealing(num_tokens=2), max_new_tokens=2)
    assert generation.tokens == (1, 3)
    assert generation.token_logprobs == pytest.approx([np.log(0.2), np.log(0.06)])


def test_the_stream_is_the_text() -> None:
    model = words({(0,): [0, 1, 5, 0, 2, 0, 0, 0], (): [0, 0, 0, 0, 0, 4, 0, 0]})
    pieces = [
        event.text for event in Engine().events([Task(model, [0, 1], TokenHealing(), 3)]) if isinstance(event, Piece)
    ]
    assert pieces == ["//", "a", "a"]


@pytest.mark.parametrize(
    "inner", [Sampling(), BeamSearch(num_beams=2), Speculative(Sampling()), BestOfN(n=2), TokenHealing()]
)
def test_any_strategy_can_be_healed(inner: Strategy) -> None:
    check_strategy(TokenHealing(inner), model=words(), prompts=[[0, 1, 3], [0, 5, 3]])
    generation = words().generate([0, 1, 3], TokenHealing(inner), max_new_tokens=4)
    assert all(
        "".join(WORDS[token] for token in each.tokens).startswith(":/") and each.taken_back == 2
        for each in generation.alternatives
    )


@pytest.mark.parametrize(
    "inner",
    [
        Speculative(),
        Speculative(proposer=SuffixIndex()),
        Speculative(proposer=DraftTree(words({(): [0, 3, 0, 2, 1, 0, 0, 0]}), (3, 2))),
        Jacobi(),
        Lookahead(),
    ],
    ids=["lookup", "suffixes", "tree", "jacobi", "lookahead"],
)
@pytest.mark.parametrize("stop", [None, StopString("//"), StopString("h")], ids=str)
def test_drafts_are_healed(inner: Strategy, stop: StopString | None) -> None:
    """A draft that does not spell what the prompt lacks was shown to a stop that reads the text, which failed."""
    model = words({(0,): [0, 1, 5, 0, 2, 0, 0, 0], (2,): [0, 0, 0, 0, 0, 9, 0, 0], (): [9, 0, 0, 0, 0, 0, 0, 0]})
    prompt = [0, 2, 5, 0, 5, 0, 2, 5, 0, 1, 3]  # what came after token 0 before is token 2, and token 5, which is "a"
    plain = model.generate(prompt, TokenHealing(), max_new_tokens=8, stop=stop)
    drafted = model.generate(prompt, TokenHealing(inner), max_new_tokens=8, stop=stop)
    assert (drafted.tokens, drafted.text, drafted.taken_back) == (plain.tokens, plain.text, 2)


def test_a_draft_is_accepted_while_the_prompt_is_healed() -> None:
    model = words({(0,): [0, 0, 9, 0, 0, 0, 0, 0], (2,): [0, 0, 0, 0, 0, 9, 0, 0], (): [9, 0, 0, 0, 0, 0, 0, 0]})
    prompt = [0, 2, 5, 0, 2, 5, 0, 1, 3]
    check_strategy(TokenHealing(Speculative()), model=model, prompts=[prompt])
    generation = model.generate(prompt, TokenHealing(Speculative()), max_new_tokens=6, stop=StopString("x"))
    assert (generation.tokens, generation.taken_back) == ((2, 5, 0, 2, 5, 0), 2)
    assert generation.info == {"rounds": 2, "drafted": 5, "accepted": 5, "acceptance": 1.0}


REFUSING = SuppressedTokens([1, 2, 4])


@pytest.mark.parametrize(
    "inner",
    [
        Speculative(Greedy(processors=REFUSING)),
        Speculative(processors=REFUSING),
        Jacobi(Greedy(processors=REFUSING)),
        Lookahead(Greedy(processors=REFUSING)),
        BestOfN(n=2, strategy=Greedy(processors=REFUSING)),
        BestOfN(n=2, strategy=Speculative(Greedy(processors=REFUSING))),
        GumbelSampling(Sampling(temperature=0.01, processors=REFUSING)),
        ClassifierFreeGuidance(1.0, strategy=Greedy(processors=REFUSING)),
        Mbr(2, Greedy(processors=REFUSING), references=Greedy(processors=REFUSING)),
        TokenHealing(Greedy(processors=REFUSING)),
    ],
    ids=str,
)
def test_no_processor_inside_refuses_the_prompt(inner: Strategy) -> None:
    """Only those of the strategy itself were left out where they refuse all; one further inside was a dead end."""
    model = words({(): [0, 0, 9, 0, 0, 8, 7, 0]})
    generation = model.generate([0, 1], TokenHealing(inner), max_new_tokens=3)
    assert generation.tokens == (2, 5, 5)  # all of ":", ":/" and "://" are refused; later, "://" is


def test_one_processor_of_several_is_left_out() -> None:
    model = words({(): [0, 0, 9, 0, 0, 8, 7, 0]})
    for inner in (
        Greedy(processors=SuppressedTokens([2]) | REFUSING | Temperature(0.5)),
        Speculative(Greedy(processors=REFUSING), processors=SuppressedTokens([2])),
    ):
        assert model.generate([0, 1], TokenHealing(inner), max_new_tokens=1).tokens == (1,)


def test_a_healed_draft_on_a_model(model: Model) -> None:
    """The prompt's end was drafted from its beginning, where what follows does not spell it."""
    prompt, stop = "The url is http://www.example.com and again the url is http:", StopString("\n")
    plain = model.generate(prompt, TokenHealing(), max_new_tokens=6, stop=stop)
    for inner in (Speculative(), Lookahead()):
        healed = model.generate(prompt, TokenHealing(inner), max_new_tokens=6, stop=stop)
        assert (healed.tokens, healed.text) == (plain.tokens, plain.text)


def test_healed_inside_another() -> None:
    generation = words().generate([0, 1, 3], BestOfN(n=3, strategy=TokenHealing(Sampling())), max_new_tokens=4)
    assert len(generation.alternatives) == 3
    assert {each.taken_back for each in generation.alternatives} == {2}


def test_commits_as_the_other_strategy() -> None:
    assert TokenHealing(Greedy()).commits
    assert not TokenHealing(BeamSearch()).commits


def test_processors_can_refuse_what_follows_but_not_the_prompt() -> None:
    method = TokenHealing(Greedy(processors=SuppressedTokens([2, 5])), processors=SuppressedTokens([1, 4]))
    model = words({(): [0, 0, 9, 0, 0, 8, 7, 0]})
    generation = model.generate([0, 1], method, max_new_tokens=2)
    assert generation.tokens == (2, 6)  # ":", ":/" and "://" are all suppressed, and one of them must be


def test_a_constraint_begins_where_the_prompt_ended() -> None:
    # "/a/" comes after the prompt, whose ":" is no text of the language. Whatever is chosen holds ":" and a part of it.
    model = words({(): [0, 1, 2, 0, 3, 5, 4, 0]}, special=[7])
    generation = model.generate([0, 1], TokenHealing(Greedy(processors=Regex("/a/"))), max_new_tokens=6)
    assert (generation.text, generation.tokens, str(generation.stop_reason)) == ("/a/", (4, 5, 3, 7), "eos(7)")


def test_alone_and_among_others() -> None:
    model = words()
    alone = model.generate([0, 1, 3], TokenHealing(Sampling()), max_new_tokens=6)
    tasks = [Task(model, [0, 1, 3], method, 6) for method in (TokenHealing(Sampling()), Greedy(), Sampling())]
    together = next(each for each in run(tasks) if isinstance(each.task.method, TokenHealing))
    assert together.tokens == alone.tokens


@pytest.mark.parametrize("spec", ["token_healing", "token_healing:strategy=(sampling:top_k=3),num_tokens=2"])
def test_spec_round_trip(spec: str) -> None:
    assert str(parse(spec)) == spec


@pytest.mark.parametrize("parameters", [{"num_tokens": 0}, {"num_tokens": 1.5}, {"strategy": "greedy"}])
def test_a_parameter_out_of_range_is_named(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(parameters))}`"):
        TokenHealing(**parameters)


# What it rests on: reopened prompts


def test_a_reopened_prompt_is_one_node_beside_its_ancestor() -> None:
    prompt = Vocabulary(26).prompt([3, 4, 5])
    reopened = prompt.reopen(2)
    assert reopened is prompt.reopen(2)
    assert reopened is not prompt[:1]
    assert (list(reopened), reopened.prompt_length, reopened.owed, reopened.taken_back) == ([3], 1, b"ef", (4, 5))
    assert prompt.reopen(0) is prompt
    assert prompt.reopen(1).reopen(1) is reopened
    assert prompt.owed == b""
    child = reopened + 4
    assert (child.prompt, child.generated.tolist()) == (reopened, [4])
    assert child is not prompt[:1] + 4


@pytest.mark.parametrize(
    ("generated", "text", "rest"), [([], "", b"ef"), ([4], "", b"f"), ([4, 5], "", b""), ([4, 5, 6], "g", b"")]
)
def test_the_text_begins_after_what_is_owed(generated: list[int], text: str, rest: bytes) -> None:
    sequence = Vocabulary(26).prompt([3, 4, 5]).reopen(2) + generated
    assert (generated_text(sequence), generated_text(sequence, final=True), owed(sequence)) == (text, text, rest)


@pytest.mark.parametrize(("generated", "holds"), [([], True), ([4], True), ([4, 5, 9], True), ([4, 6, 5], False)])
def test_whether_what_is_owed_is_spelled(generated: list[int], holds: bool) -> None:
    assert spells(Vocabulary(26).prompt([3, 4, 5]).reopen(2) + generated) is holds
    assert spells(Vocabulary(26).prompt([3]) + generated)


def test_what_is_owed_must_be_spelled() -> None:
    with pytest.raises(StrategyError, match="must spell b'f' first, but goes on with b'g'"):
        generated_text(Vocabulary(26).prompt([3, 4, 5]).reopen(2) + [4, 6])


@pytest.mark.parametrize("count", [-1, 3, 4])
def test_a_prompt_keeps_a_token(count: int) -> None:
    with pytest.raises(TokenError, match="`count` must be from 0 to 2"):
        Vocabulary(26).prompt([3, 4, 5]).reopen(count)


def test_only_a_prompt_is_reopened() -> None:
    with pytest.raises(TokenError, match="of a prompt alone"):
        (Vocabulary(26).prompt([3, 4]) + 5).reopen(1)


@dataclass(frozen=True)
class Ancestor(Strategy):
    """Returns what begins with a part of the prompt that does not owe the rest, or that owes something else."""

    other: bool = False

    def decode(self, prompt: Sequence, stop: Any, rng: Random) -> Decoding:
        start = prompt.vocabulary.prompt([*prompt.tokens[:-1], 6]).reopen(1) if self.other else prompt[:-1]
        yield start
        return start + 6


@pytest.mark.parametrize("other", [False, True])
def test_a_strategy_must_reopen_the_prompt_of_its_task(other: bool) -> None:
    with pytest.raises(StrategyError, match=r"begins with the prompt \(or with it reopened\)"):
        words().generate([0, 1], Ancestor(other), max_new_tokens=2)


# On a real model


def test_a_space_at_the_end_of_a_prompt(model: Model) -> None:
    """The best known case: a space of its own is followed by nothing usual."""
    plain = model.generate("The capital of France is", max_new_tokens=4)
    healed = model.generate("The capital of France is ", "token_healing", max_new_tokens=4)
    assert healed.tokens == plain.tokens
    assert " " + healed.text == plain.text
    assert healed.taken_back == 1
    assert healed.token_logprobs == pytest.approx(plain.token_logprobs, abs=1e-4)


def test_the_prompt_inside_a_word(model: Model) -> None:
    prompt = "The capital of France is Par"
    healed = model.generate(prompt, "token_healing", max_new_tokens=3)
    assert healed.text.startswith("is")
    tokens = model.encode(prompt)
    spelled = b"".join(map(model.vocabulary.spelling.token_bytes, [*tokens[: -healed.taken_back], *healed.tokens]))
    assert spelled.decode() == prompt + healed.text


def test_healed_json(model: Model) -> None:
    schema = JsonSchema({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3})
    constrained, complete = TokenHealing(Greedy(processors=schema)), GrammarComplete(schema)
    generation = model.generate("Some numbers as JSON: ", constrained, max_new_tokens=40, stop=complete)
    assert generation.taken_back == 1
    assert str(generation.stop_reason) == "grammar_complete(json_schema)"
    assert 2 <= len(json.loads(generation.text)) <= 3
