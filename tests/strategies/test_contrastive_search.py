from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ovdecode import (
    AllowedTokens,
    ContrastiveSearch,
    Forward,
    Greedy,
    Model,
    TableRunner,
    Task,
    Temperature,
    parse,
    run,
)
from ovdecode.errors import ConfigurationError, LogitsError

# A hidden state is the direction of its last token: 0 and 3 look alike, 1 and 2 stand at right angles to them.
DIRECTIONS = {0: [2.0, 0, 0], 1: [0, 0.5, 0], 2: [0, 0, 1.0], 3: [1.0, 0, 0]}


def model(*probabilities: float, **options: Any) -> Model:
    with np.errstate(divide="ignore"):
        table = TableRunner({(): np.log(probabilities)}, hidden=lambda tokens: DIRECTIONS[tokens[-1]])
    return Model(table, **options)


def decode(given: Model, count: int, **parameters: Any) -> tuple[int, ...]:
    return given.generate([0], ContrastiveSearch(**parameters), max_new_tokens=count).tokens


FAMILIAR = model(0.4, 0.3, 0.1, 0.2)


def test_what_resembles_the_text_is_held_back() -> None:
    # After 0, tokens 0 and 3 have similarity 1: 0.4 p − 0.6 s is −0.44, 0.12, 0.04, −0.52. After 0 1, token 1 has too.
    assert decode(FAMILIAR, 2) == (1, 2)
    # Everything has been said: s is 1 for all, and p decides.
    assert decode(FAMILIAR, 4) == (1, 2, 0, 0)


def test_the_weight_of_the_similarity() -> None:
    assert decode(FAMILIAR, 3, penalty_alpha=0.0) == (0, 0, 0)
    # 0.9 p − 0.1 s: token 0 has 0.26, token 1 has 0.27.
    assert decode(FAMILIAR, 1, penalty_alpha=0.1) == (1,)
    # 0.95 p − 0.05 s: token 0 has 0.33, token 1 has 0.285.
    assert decode(FAMILIAR, 1, penalty_alpha=0.05) == (0,)


def test_similarity_alone_goes_to_the_lower_id_among_equals() -> None:
    assert decode(FAMILIAR, 1, penalty_alpha=1.0) == (1,)


def test_only_the_most_probable_are_compared() -> None:
    assert decode(FAMILIAR, 3, top_k=1) == (0, 0, 0)
    assert decode(model(0.4, 0.1, 0.2, 0.3), 1, top_k=2) == (0,)
    assert decode(model(0.4, 0.1, 0.2, 0.3), 1, top_k=3) == (2,)
    assert decode(FAMILIAR, 2, top_k=100) == (1, 2)


def test_processors_change_the_probabilities() -> None:
    # p becomes 16 : 9 : 1 : 4 of 30; 0.8 p − 0.2 s is 0.227 and 0.24. Squared once more, token 0 leads.
    for temperature, token in ((0.5, 1), (0.25, 0)):
        assert decode(FAMILIAR, 1, penalty_alpha=0.2, processors=Temperature(temperature)) == (token,)


def test_what_is_impossible_is_no_candidate() -> None:
    assert decode(model(0.6, 0.0, 0.0, 0.4), 2) == (0, 0)
    assert decode(FAMILIAR, 2, processors=AllowedTokens([0, 3])) == (0, 0)
    with pytest.raises(LogitsError, match="no token is left possible"):
        decode(FAMILIAR, 1, processors=AllowedTokens([0]) | AllowedTokens([1]))


def test_a_hidden_state_of_zeros_resembles_nothing() -> None:
    # Its cosine was 0 / 0, and then everything was NaN. Token 0 was said, and token 1 has a state of zeros:
    # 0.4 p − 0.6 s is -0.36 and 0.16, in both steps.
    hidden = {0: [1.0, 0.0], 1: [0.0, 0.0]}
    zeros = Model(TableRunner({(): np.log([0.6, 0.4])}, hidden=lambda tokens: hidden[tokens[-1]]))
    with np.errstate(all="raise"):
        assert decode(zeros, 2) == (1, 1)
        assert decode(zeros, 1, penalty_alpha=0.0) == (0,)


def test_the_stop_ends_it() -> None:
    generation = model(0.4, 0.3, 0.1, 0.2, eos_token_ids=[2]).generate([0], ContrastiveSearch(), max_new_tokens=9)
    assert generation.tokens == (1, 2)


def test_one_inference_a_token_and_one_for_each_piece_of_the_prompt() -> None:
    for length, pieces in ((1, 1), (128, 1), (129, 2)):
        generation = FAMILIAR.generate([0] * length, ContrastiveSearch(), max_new_tokens=3)
        assert generation.cost.forwards == pieces + 3
        assert generation.cost.tokens == length + 3 * 4


def test_a_prompt_in_pieces_is_remembered_as_a_whole() -> None:
    # Token 1 was said at the very beginning only, token 2 at the very end.
    prompt = [1, *[0] * 200, 2]
    assert FAMILIAR.generate(prompt, ContrastiveSearch(), max_new_tokens=1).tokens == (0,)


def test_text_is_streamed_token_by_token() -> None:
    assert list(FAMILIAR.stream([0], ContrastiveSearch(), max_new_tokens=4)) == ["b", "c", "a", "a"]
    assert list(FAMILIAR.stream([0], ContrastiveSearch(top_k=1), max_new_tokens=2)) == ["a", "a"]


def test_a_single_candidate_that_ends_the_text_is_not_shown_too_early() -> None:
    # The lookahead is about a finished sequence; its text was shown before the stop string was cut off.
    pieces = list(FAMILIAR.stream([0], ContrastiveSearch(top_k=1), stop="stop_string:string=a", max_new_tokens=2))
    assert "".join(pieces) == ""


def test_the_logprob_is_the_models() -> None:
    generation = FAMILIAR.generate([0], ContrastiveSearch(), max_new_tokens=2)
    assert generation.logprob == pytest.approx(math.log(0.3) + math.log(0.1), abs=1e-6)


def test_alone_and_among_others() -> None:
    tasks = [Task(FAMILIAR, [0], each, max_new_tokens=3) for each in (ContrastiveSearch(), Greedy(), "beam")]
    found = {generation.index: generation.tokens for generation in run(tasks)}
    assert found == {0: (1, 2, 0), 1: (0, 0, 0), 2: (0, 0, 0)}


def test_spec_round_trip() -> None:
    spec = "contrastive_search:penalty_alpha=0.4,top_k=8"
    assert parse(spec) == ContrastiveSearch(0.4, 8)
    assert str(parse(spec)) == spec


@pytest.mark.parametrize("parameters", [{"penalty_alpha": -0.1}, {"penalty_alpha": 1.1}, {"top_k": 0}])
def test_a_parameter_out_of_range_is_named(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(parameters))}` of `contrastive_search`"):
        ContrastiveSearch(**parameters)


def test_a_real_model_against_an_independent_computation(model: Model) -> None:
    prompt = model.encode("Once upon a time, there was a little")
    generation = model.generate(prompt, ContrastiveSearch(), max_new_tokens=8)
    tokens: list[int] = []
    for _ in range(8):  # every candidate's hidden states from scratch, similarities one by one
        answer = ask(model, [*prompt, *tokens])
        logits = answer.logits[-1].astype(np.float64)
        p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        scores = {}
        for token in np.argsort(-p, kind="stable")[:4]:
            states = ask(model, [*prompt, *tokens, int(token)]).hidden
            new, norm = states[-1], np.linalg.norm
            scores[int(token)] = 0.4 * p[token] - 0.6 * max(new @ old / norm(new) / norm(old) for old in states[:-1])
        tokens.append(max(scores, key=lambda token: scores[token]))
    assert generation.tokens == tuple(tokens)
    assert model.runner.cache_in_use == 0


def ask(model: Model, tokens: list[int]) -> Any:
    (answer,) = model.runner.forward([Forward(model.vocabulary.prompt(tokens), last=len(tokens), hidden=True)])
    return answer
