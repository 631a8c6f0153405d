from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ovdecode import FSD, BeamSearch, Candidates, Greedy, Model, Speculative, Strategy, TableRunner, Vocabulary
from ovdecode.errors import ConfigurationError

VOCABULARY = Vocabulary(5)
TEXT = [1, 2, 3, 1, 2, 0, 1, 2, 3, 1, 2]
EVEN = np.log(np.full(5, 0.2))


def said_again(text: list[int], **parameters: Any) -> list[float]:
    candidates = FSD(alpha=1.0, top_k=5, **parameters)(Candidates(EVEN), VOCABULARY.prompt(text[:2]) + text[2:])
    return (-candidates.logits).tolist()


def test_the_penalty_is_that_of_the_authors_code() -> None:
    # `NGram(text, 3, 5, 0.9).penalize(text, range(5))` of github.com/LHRYANG/FSD, then with n = 2 and beta = 0.5.
    expected = [0.24840909242630005, 0.3636363744735718, 0.3636363744735718, 0.4968181848526001, 0.0]
    assert said_again(TEXT) == pytest.approx(expected, abs=1e-6)
    expected = [0.17045454680919647, 0.3636363744735718, 0.3636363744735718, 0.34090909361839294, 0.0]
    assert said_again(TEXT, n=2, beta=0.5) == pytest.approx(expected, abs=1e-6)


def test_the_penalty_by_eye() -> None:
    # "0 1 0": 1 followed "0" one of the two times that it occurs; 0 is two of three tokens, 1 is one of them.
    assert said_again([0, 1, 0], n=2) == pytest.approx([2 / 3, 0.9 / 2 + 0.1 / 3, 0, 0, 0])
    assert said_again([0, 1, 0], n=1) == pytest.approx([2 / 3, 1 / 3, 0, 0, 0])
    assert said_again([0, 1, 0], n=9) == pytest.approx([2 / 3, 0.9 / 2 + 0.1 / 3, 0, 0, 0])


def test_only_the_best_stay_with_their_new_scores() -> None:
    sequence = VOCABULARY.prompt([0, 1]) + [0, 1, 0]
    left = FSD(alpha=0.4, top_k=2, n=1)(Candidates(np.log([0.1, 0.5, 0.2, 0.15, 0.05])), sequence)
    assert left.ids.tolist() == [1, 2]
    assert left.logits == pytest.approx([0.6 * 0.5 - 0.4 * 2 / 5, 0.6 * 0.2])


def test_without_weight_it_is_the_models_choice() -> None:
    assert FSD(0.0)(Candidates(np.log([0.1, 0.5, 0.2, 0.15, 0.05])), VOCABULARY.prompt(TEXT)).argmax() == 1


def test_what_is_impossible_stays_so() -> None:
    with np.errstate(divide="ignore"):
        left = FSD(alpha=0.9)(Candidates(np.log([0.9, 0.1, 0, 0, 0])), VOCABULARY.prompt([0, 1]))
    assert left.ids.tolist() == [0, 1]


def test_siblings_have_histories_of_their_own() -> None:
    prompt = VOCABULARY.prompt([3])
    one, other = prompt + [0, 1, 0], prompt + [0, 2, 0]
    processor = FSD(alpha=0.9, n=2)
    assert processor(Candidates(np.log([0.01, 0.4, 0.39, 0.1, 0.1])), one).argmax() == 2
    assert processor(Candidates(np.log([0.01, 0.4, 0.39, 0.1, 0.1])), other).argmax() == 1


@pytest.mark.parametrize("search", [Greedy, Speculative])
def test_a_loop_is_left(search: Any) -> None:
    loop = Model(TableRunner([[0.0, 3.0, 2.0], [3.0, 0.0, 2.0], [3.0, 2.0, 0.0]]))
    assert loop.generate([0], search(), max_new_tokens=4).tokens == (1, 0, 1, 0)
    freed = loop.generate([0], search(processors=FSD(alpha=0.6)), max_new_tokens=4).tokens
    assert freed == (1, 2, 0, 1)


@pytest.mark.parametrize(
    "parameters", [{"alpha": -0.1}, {"alpha": math.inf}, {"top_k": 0}, {"n": 0}, {"beta": 0.0}, {"beta": 1.5}]
)
def test_a_parameter_out_of_range_is_named(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(parameters))}` of `fsd`"):
        FSD(**parameters)


def test_a_real_model_in_any_search(model: Model) -> None:
    def decode(strategy: Strategy) -> tuple[int, ...]:
        return model.generate(
            "one two three four one two three four one two three four one two", strategy, max_new_tokens=12
        ).tokens

    tokens = decode(Greedy(processors=FSD()))
    assert tokens != decode(Greedy())
    assert decode(Speculative(processors=FSD())) == tokens
    assert len(decode(BeamSearch(num_beams=3, processors=FSD()))) > 0
