from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from search_tables import Rows, noise, noise_model

from ovdecode import BeamSearch, DiverseBeamSearch, Model, NoRepeatNgram, TableRunner
from ovdecode.errors import ConfigurationError
from ovdecode.numerics import log_softmax

COIN = np.log([0.5, 0.3, 0.2])


def penalised(*counts: int, penalty: float = 1.0) -> float:
    """The best sum of one token after each round's counts of tokens 0, 1, 2 in the groups before."""
    return float(max(COIN - penalty * np.array(counts)))


def test_the_second_group_avoids_the_token_of_the_first() -> None:
    model = Model(TableRunner({(): COIN}))
    strategy = DiverseBeamSearch(
        3, num_beam_groups=3, diversity_penalty=1.0, length_penalty=0.0, num_return_sequences=3
    )
    alternatives = model.generate([0], strategy, max_new_tokens=2).alternatives
    assert [each.tokens for each in alternatives] == [(0, 0), (1, 1), (2, 2)]
    expected = [2 * penalised(0, 0, 0), 2 * penalised(1, 0, 0), 2 * penalised(1, 1, 0)]
    assert [each.score for each in alternatives] == pytest.approx(expected, abs=1e-5)


def test_a_strong_token_is_used_again() -> None:
    model = Model(TableRunner({(): COIN}))
    strategy = DiverseBeamSearch(
        2, num_beam_groups=2, diversity_penalty=0.4, length_penalty=0.0, num_return_sequences=2
    )
    alternatives = model.generate([0], strategy, max_new_tokens=1).alternatives
    assert [each.tokens for each in alternatives] == [(0,), (0,)]  # log 0.5 - 0.4 is above log 0.3
    assert alternatives[1].score == pytest.approx(math.log(0.5) - 0.4, abs=1e-5)


def test_cumulative_penalties_fade_as_the_groups_part() -> None:
    """Beams of one: a first round apart leaves exp(-1) of the penalty on the token in common, and exp(-2) on others."""
    rows = {(0,): np.log([0.5, 0.3, 0.2]), (): np.log([0.2, 0.2, 0.6])}
    model = Model(TableRunner({(0, 0): np.log([0.2, 0.2, 0.6]), (0, 1): np.log([0.2, 0.2, 0.6]), **rows}))
    strategy = DiverseBeamSearch(
        2,
        num_beam_groups=2,
        diversity_penalty=1.0,
        diversity="cumulative",
        length_penalty=0.0,
        num_return_sequences=2,
    )
    first, second = model.generate([0], strategy, max_new_tokens=2).alternatives
    assert (first.tokens, second.tokens) == ((0, 2), (1, 2))
    one_apart, two_apart = math.exp(-1), math.exp(-2)
    assert math.log(0.3) - one_apart > math.log(0.5) - 1.0  # so token 1 comes first in the second group
    assert math.log(0.6) - one_apart > math.log(0.2) - two_apart
    assert second.score == pytest.approx(math.log(0.3) - one_apart + math.log(0.6) - one_apart, abs=1e-5)


def group_search(rows: Rows, vocab: int, beams: int, groups: int, penalty: float, bound: int, cumulative: bool) -> list:
    """The definition over dense arrays, without an end of text: the running beams of every group at the bound."""
    size = beams // groups
    running = [[((), 0.0)] for _ in range(groups)]
    for _ in range(bound):
        earlier: list[list[tuple[int, ...]]] = []
        for group in range(groups):
            found = []
            for tokens, score in running[group]:
                for token, each in enumerate(log_softmax(rows((0, *tokens)).astype(np.float64))):
                    longer = (*tokens, token)
                    alike = 0.0
                    for others in earlier:
                        if cumulative:
                            apart = sum(a != b for other in others for a, b in zip(other, longer, strict=True))
                            alike += math.exp(-apart / 2.0)
                        else:
                            alike += sum(other[-1] == token for other in others)
                    found.append((longer, score + float(each) - penalty * alike))
            running[group] = sorted(found, key=lambda each: -each[1])[:size]
            earlier.append([tokens for tokens, _ in running[group]])
    return sorted((each for group in running for each in group), key=lambda each: -each[1])


@pytest.mark.parametrize("diversity", ["hamming", "cumulative"])
def test_agrees_with_the_definition_written_out(diversity: str) -> None:
    for seed, (beams, groups) in itertools.product(range(8), [(2, 2), (4, 2), (6, 3)]):
        expected = group_search(noise(seed, 5), 5, beams, groups, 0.7, 3, diversity == "cumulative")
        strategy = DiverseBeamSearch(
            beams,
            0.0,
            num_return_sequences=beams,
            num_beam_groups=groups,
            diversity_penalty=0.7,
            diversity=diversity,
            diversity_temperature=2.0,
        )
        alternatives = noise_model(seed, 5, eos=False).generate([0], strategy, max_new_tokens=3).alternatives
        assert [each.tokens for each in alternatives] == [tokens for tokens, _ in expected]
        assert [each.score for each in alternatives] == pytest.approx([score for _, score in expected], abs=1e-4)


@pytest.mark.parametrize("parameters", [{"num_beam_groups": 1}, {"num_beam_groups": 1, "diversity": "cumulative"}])
def test_one_group_is_beam_search(parameters: dict) -> None:
    for seed in range(5):
        model = noise_model(seed, 6)
        plain = model.generate([0], BeamSearch(3, num_return_sequences=3), max_new_tokens=5)
        grouped = DiverseBeamSearch(3, num_return_sequences=3, **parameters)
        assert model.generate([0], grouped, max_new_tokens=5).alternatives == plain.alternatives


def test_processors_work_in_every_group() -> None:
    strategy = DiverseBeamSearch(4, num_return_sequences=4, processors=NoRepeatNgram(1))
    for each in noise_model(3, 6, eos=False).generate([0], strategy, max_new_tokens=4).alternatives:
        assert len({0, *each.tokens}) == 5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_beams": 4, "num_beam_groups": 3}, "must be a divisor of `num_beams`, which is 4, got 3"),
        ({"diversity_penalty": -1.0}, "must be a finite number of at least 0, got -1.0"),
        ({"diversity": "ngram"}, "must be hamming or cumulative, got 'ngram'"),
        ({"diversity_temperature": 0.0}, "must be a finite number above 0, got 0.0"),
    ],
)
def test_a_parameter_out_of_range_is_named(parameters: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"`{list(parameters)[-1]}` of `diverse_beam` {message}"):
        DiverseBeamSearch(**parameters)


def test_on_a_real_model(model: Model) -> None:
    strategy = DiverseBeamSearch(4, num_beam_groups=4, diversity_penalty=5.0, num_return_sequences=4)
    alternatives = model.generate("The weather today is", strategy, max_new_tokens=5).alternatives
    for place in range(5):
        assert len({each.tokens[place] for each in alternatives}) == 4
