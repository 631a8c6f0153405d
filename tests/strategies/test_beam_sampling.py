from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
from search_tables import Rows, noise, noise_model

from ovdecode import BeamSampling, BeamSearch, Model, SuppressedTokens, TableRunner, Temperature
from ovdecode.errors import LogitsError
from ovdecode.numerics import log_softmax
from ovdecode.testing import distribution

Beam = tuple[float, tuple[int, ...]]


def law(rows: Rows, vocab: int, eos: int | None, beams: int, bound: int) -> dict[tuple[int, ...], float]:
    """The distribution of the best sequence, with sums as scores: every order of draws, one after another, in every
    round until the bound, as transformers draws them; nothing ends early."""
    found: dict[tuple[int, ...], float] = defaultdict(float)
    count = 2 * beams

    def follow(running: list[Beam], done: list[Beam], length: int, probability: float) -> None:
        if length == bound or not running:
            found[max(done)[1]] += probability
            return
        extensions = [
            (score + float(each), (*tokens, token))
            for score, tokens in running
            for token, each in enumerate(log_softmax(rows((0, *tokens)).astype(np.float64)))
        ]
        weights = [math.exp(score) for score, _ in extensions]
        for order in itertools.permutations(range(len(extensions)), min(count, len(extensions))):
            chance, left = probability, sum(weights)
            for place in order:
                chance, left = chance * weights[place] / left, left - weights[place]
            drawn = [extensions[place] for place in order]
            ended = [length + 1 == bound or each[1][-1] == eos for each in drawn]
            finished = [each for each, end in zip(drawn[:beams], ended, strict=False) if end]
            onward = sorted((each for each, end in zip(drawn, ended, strict=True) if not end), reverse=True)[:beams]
            follow(onward, sorted(done + finished, reverse=True)[:beams], length + 1, chance)

    follow([(0.0, ())], [], 0, 1.0)
    return found


@pytest.mark.parametrize(("vocab", "eos", "beams", "bound"), [(3, None, 2, 1), (3, None, 1, 2), (2, 1, 2, 2)])
def test_the_exact_law_of_draws_without_replacement(vocab: int, eos: int | None, beams: int, bound: int) -> None:
    rows = noise(3, vocab)
    model = Model(TableRunner(rows), [] if eos is None else [eos])
    strategy = BeamSampling(beams, 0.0, "never")
    found = distribution(strategy, model, [0], max_new_tokens=bound)
    assert found == pytest.approx(
        {tokens: p for tokens, p in law(rows, vocab, eos, beams, bound).items() if p}, rel=1e-4
    )


def test_the_first_drawn_are_finished_and_the_best_drawn_run_on() -> None:
    """One beam draws two of three: the end of text counts only as the first drawn, and with it the search ends."""
    model = Model(TableRunner({(): np.log([0.5, 0.3, 0.2])}), [2])
    found = distribution(BeamSampling(1, 0.0, True), model, [0], max_new_tokens=2)
    assert found[2,] == pytest.approx(0.2, rel=1e-5)
    # Token 1 runs on if 0 is not drawn, which is better: when 1 and the end are drawn, 1 first.
    assert sum(p for tokens, p in found.items() if tokens[0] == 1) == pytest.approx(0.3 * 0.2 / 0.7, rel=1e-5)


def test_cold_it_is_beam_search() -> None:
    for seed in range(4):
        model = noise_model(seed, 5)
        cold = BeamSampling(2, 0.0, processors=Temperature(1e-4))
        warm = BeamSearch(2, 0.0, processors=Temperature(1e-4))
        assert (
            model.generate([0], cold, max_new_tokens=4, seed=seed).tokens
            == model.generate([0], warm, max_new_tokens=4).tokens
        )


def test_no_token_left_in_any_beam_is_an_error() -> None:
    model = Model(TableRunner({(): [0.0, 0.0]}))
    with pytest.raises(LogitsError, match="`beam_sampling` leave no token possible in any of its beams"):
        model.generate([0], BeamSampling(2, processors=SuppressedTokens([0, 1])), max_new_tokens=3)


def test_on_a_real_model(model: Model) -> None:
    strategy = BeamSampling(3, num_return_sequences=3)
    generations = [model.generate("Once upon a time", strategy, max_new_tokens=6, seed=seed) for seed in (0, 0, 1)]
    assert generations[0].tokens == generations[1].tokens
    assert len({each.tokens for generation in generations for each in generation.alternatives}) > 3
    for each in generations[0].alternatives:
        assert each.score == pytest.approx(each.logprob / len(each.tokens), abs=1e-4)
