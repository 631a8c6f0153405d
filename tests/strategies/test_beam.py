from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ovdecode import (
    BeamSearch,
    Candidates,
    DiverseBeamSearch,
    LogitsProcessor,
    MaxTime,
    MinNewTokens,
    Model,
    NoRepeatNgram,
    RepetitionPenalty,
    Sequence,
    StopTokens,
    SuppressedTokens,
    TableRunner,
    Task,
    Temperature,
    TopK,
    numerics,
    parse,
    run,
)
from ovdecode.errors import ConfigurationError, LogitsError
from ovdecode.numerics import log_softmax, logsumexp
from ovdecode.processor import Chain
from ovdecode.strategies import extensions
from ovdecode.strategies.extensions import Extensions, likeliest, next_tokens
from ovdecode.strategy import Hypothesis

Rows = Callable[[tuple[int, ...]], NDArray[Any]]


def noise(seed: int, vocab: int, spread: float = 1.5) -> Rows:
    return lambda tokens: np.random.default_rng([seed, *tokens]).standard_normal(vocab) * spread


@cache
def endings(seed: int, vocab: int) -> Rows:
    """Noise that likes the last two tokens, so that searches end in many ways."""
    return cache(lambda tokens: noise(seed, vocab, 1.0)(tokens) + np.array([0.0] * (vocab - 2) + [1.5, 1.5]))


# ---- Literal cases -----------------------------------------------------------------------------------------

A, B, EOS = 0, 1, 2


def story(tokens: tuple[int, ...]) -> NDArray[Any]:
    """After [B]: A 0.68 (then A 0.69, then EOS 0.99), or EOS 0.3, or B 0.02 and then always B."""
    if tokens[1:2] == (B,):
        return np.log([0.001, 0.998, 0.001])
    return np.log([[0.68, 0.02, 0.3], [0.69, 0.01, 0.3], [0.005, 0.005, 0.99]][min(len(tokens) - 1, 2)])


STORY = Model(TableRunner(story), eos_token_ids=[EOS])
END, A_END, A_A_END, BS = (EOS,), (A, EOS), (A, A, EOS), (B,) * 16
LOG = {  # of the probability of each
    END: np.log(0.3),
    A_END: np.log(0.68 * 0.3),
    A_A_END: np.log(0.68 * 0.69 * 0.99),
    BS: np.log(0.02) + 15 * np.log(0.998),
}


@pytest.mark.parametrize(
    ("length_penalty", "early_stopping", "best", "score"),
    [
        # True ends in round 2, when END and A_END are finished.
        (0.0, True, END, LOG[END]),  # -1.20 against -1.59
        (1.0, True, A_END, LOG[A_END] / 2),  # -0.79 against -1.20
        (2.0, True, A_END, LOG[A_END] / 4),
        # False goes on, because A A (-0.76) may still beat A_END. Then A_A_END ends it: B B B has only -3.92.
        (0.0, False, A_A_END, LOG[A_A_END]),
        (1.0, False, A_A_END, LOG[A_A_END] / 3),
        (2.0, False, A_A_END, LOG[A_A_END] / 9),
        # "never" waits for BS where a length of 16 helps it.
        (0.0, "never", A_A_END, LOG[A_A_END]),
        (1.0, "never", BS, LOG[BS] / 16),  # -0.246 against -0.256
        (2.0, "never", BS, LOG[BS] / 256),
    ],
)
def test_length_penalty_and_early_stopping(
    length_penalty: float, early_stopping: Any, best: tuple[int, ...], score: float
) -> None:
    strategy = BeamSearch(2, length_penalty, early_stopping)
    generation = STORY.generate([B], strategy, max_new_tokens=16)
    assert generation.tokens == best
    assert generation.score == pytest.approx(score, abs=1e-5)


def test_never_ends_when_even_the_longest_text_would_not_do() -> None:
    # After round 3, B B B has -3.92: over 16 tokens that may beat A_END's -0.79, over 4 it is -0.98 at best.
    strategy = BeamSearch(2, 1.0, "never")
    assert STORY.generate([B], strategy, max_new_tokens=4).cost.forwards == 3
    assert STORY.generate([B], strategy, max_new_tokens=16).cost.forwards == 16


def test_the_bound_finishes_what_is_running() -> None:
    generation = STORY.generate([B], BeamSearch(2, num_return_sequences=2), max_new_tokens=1)
    assert [each.tokens for each in generation.alternatives] == [(A,), END]
    bound, eos = (each.stop_reason for each in generation.alternatives)
    assert str(bound).startswith("max_new_tokens")
    assert str(eos).startswith("eos")


def test_one_beam_is_greedy() -> None:
    model = Model(TableRunner(noise(3, 6)))
    greedy = model.generate([1], "greedy", max_new_tokens=8)
    beam = model.generate([1], "beam:num_beams=1", max_new_tokens=8)
    assert beam.tokens == greedy.tokens
    assert beam.score == pytest.approx(greedy.logprob / 8, abs=1e-5)


def test_ties_go_to_the_lower_token() -> None:
    model = Model(TableRunner({(): [1.0, 1.0, 1.0]}))
    alternatives = model.generate([0], BeamSearch(3, num_return_sequences=3), max_new_tokens=1).alternatives
    assert [each.tokens for each in alternatives] == [(0,), (1,), (2,)]


# ---- Search ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_wide_beam_finds_the_best_of_all(seed: int, length_penalty: float) -> None:
    model = Model(TableRunner(noise(seed, 4)), eos_token_ids=[3])
    strategy = BeamSearch(200, length_penalty, "never", num_return_sequences=10)
    generation = model.generate([0], strategy, max_new_tokens=4)
    found = []
    for length in (1, 2, 3, 4):
        for tokens in itertools.product(range(4), repeat=length):
            if 3 in tokens[:-1] or (length < 4 and tokens[-1] != 3):
                continue
            prefixes = [(0, *tokens[:end]) for end in range(length)]
            total = sum(log_softmax(noise(seed, 4)(p))[t] for p, t in zip(prefixes, tokens, strict=True))
            found.append((float(total) / length**length_penalty, tokens))
    best = sorted(found, reverse=True)[:10]
    assert [each.tokens for each in generation.alternatives] == [tokens for _, tokens in best]
    assert [each.score for each in generation.alternatives] == pytest.approx([score for score, _ in best], abs=1e-5)


def test_n_best_is_sorted_and_scored_by_the_model() -> None:
    model = Model(TableRunner(noise(9, 8)))
    alternatives = model.generate([0], BeamSearch(6, 0.0, num_return_sequences=6), max_new_tokens=5).alternatives
    assert len({each.tokens for each in alternatives}) == 6
    assert [each.score for each in alternatives] == sorted((each.score for each in alternatives), reverse=True)
    assert [each.score for each in alternatives] == pytest.approx([each.logprob for each in alternatives], abs=1e-5)


# ---- transformers 5.23, written out over dense arrays of beams × vocab -------------------------------------

NOWHERE = -1e9


def transformers_search(
    rows: Rows, vocab: int, eos: list[int], strategy: BeamSearch, max_new_tokens: int
) -> list[tuple[tuple[int, ...], float]]:
    """What `GenerationMixin._beam_search` does for one prompt, [0]: every finished beam with its score, best
    first."""
    beams, power = strategy.num_beams, strategy.length_penalty
    keep = max(2, 1 + len(eos)) * beams
    running, scores = [(0,)] * beams, np.array([0.0] + [NOWHERE] * (beams - 1))
    done: list[tuple[float, tuple[int, ...], bool]] = [(NOWHERE, (), False)] * beams
    vocabulary = Model(TableRunner(rows)).vocabulary
    for length in itertools.count(1):
        total = np.empty((beams, vocab))
        for beam, tokens in enumerate(running):
            row = log_softmax(np.asarray(rows(tokens), np.float32))
            sequence = vocabulary.prompt([0]) + tokens[1:]
            total[beam] = strategy.processors(Candidates(row), sequence).spread(vocab) + scores[beam]
        order = np.argsort(-total.ravel(), kind="stable")[:keep]
        top = total.ravel()[order]
        grown = [(*running[index // vocab], int(index % vocab)) for index in order]
        hits = np.array([tokens[-1] in eos or length == max_new_tokens for tokens in grown])
        onward = top + hits * NOWHERE
        chosen = np.argsort(-onward, kind="stable")[:beams]
        running, scores = [grown[index] for index in chosen], onward[chosen]
        full = all(each[2] for each in done) and strategy.early_stopping is True
        ended = hits & (np.arange(keep)[: len(hits)] < beams)
        final = top / length**power + full * NOWHERE + ~ended * NOWHERE
        merged = [*done, *zip(final.tolist(), grown, ended.tolist(), strict=True)]
        done = sorted(merged, key=lambda each: -each[0])[:beams]
        horizon = max_new_tokens if strategy.early_stopping == "never" and power > 0 else length
        worst = [min(score for score, _, _ in done) if finished else NOWHERE for _, _, finished in done]
        improvable = any(scores[0] / horizon**power > each for each in worst)
        closed = all(each[2] for each in done) and strategy.early_stopping is True
        if not improvable or closed or hits.all():
            return [(tokens[1:], score) for score, tokens, finished in done if finished]
    raise AssertionError


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("processors", [Chain(), Temperature(0.6) | RepetitionPenalty(1.4), NoRepeatNgram(2)])
def test_agrees_with_transformers_rank_by_rank(
    early_stopping: Any, length_penalty: float, processors: LogitsProcessor
) -> None:
    for seed, beams, eos in itertools.product(range(6), (1, 2, 4), ([15], [14, 15], [])):
        rows = endings(seed, 16)
        strategy = BeamSearch(beams, length_penalty, early_stopping, beams, processors=processors)
        expected = transformers_search(rows, 16, eos, strategy, max_new_tokens=6)
        generation = Model(TableRunner(rows), eos_token_ids=eos).generate([0], strategy, max_new_tokens=6)
        assert [each.tokens for each in generation.alternatives] == [tokens for tokens, _ in expected]
        scores = [score for _, score in expected]
        assert [each.score for each in generation.alternatives] == pytest.approx(scores, abs=1e-4)


# ---- Processors and stops inside ---------------------------------------------------------------------------


def test_processors_work_on_every_beam() -> None:
    model = Model(TableRunner({(): np.log([0.9, 0.05, 0.05])}))
    generation = model.generate([0], BeamSearch(3, processors=NoRepeatNgram(2)), max_new_tokens=4)
    bigrams = list(itertools.pairwise([0, *generation.tokens]))
    assert len(set(bigrams)) == len(bigrams)


def test_end_of_text_can_be_held_back_inside() -> None:
    generation = STORY.generate([B], BeamSearch(2, processors=MinNewTokens(4)), max_new_tokens=8)
    assert len(generation.tokens) >= 4


def test_any_stop_finishes_a_hypothesis() -> None:
    model = Model(TableRunner({(): np.log([0.6, 0.3, 0.1])}))
    generation = model.generate([0], BeamSearch(2, 0.0), max_new_tokens=5, stop=StopTokens([[0, 1]]))
    assert generation.tokens == (0, 1)
    assert str(generation.stop_reason).startswith("stop_tokens")


def test_nothing_is_produced_past_a_stop() -> None:
    model = Model(TableRunner(noise(5, 6)), eos_token_ids=[5])
    stop = StopTokens([[1], [2, 3]])
    for each in model.generate([0], BeamSearch(4, num_return_sequences=4), stop=stop, max_new_tokens=9).alternatives:
        sequence = model.vocabulary.prompt([0])
        for token in each.tokens[:-1]:
            sequence += token
            assert token != 5
            assert not stop(sequence)
        assert each.stop_reason


def test_a_beam_without_a_token_left_is_dropped() -> None:
    # After 0 nothing is possible; after 1 only 1.
    rows = {(2,): np.log([0.6, 0.3, 0.1]), (0,): [-np.inf, -np.inf, 0.0], (1,): [-np.inf, 1.0, -np.inf]}
    strategy = BeamSearch(2, processors=SuppressedTokens([2]))
    assert Model(TableRunner(rows)).generate([2], strategy, max_new_tokens=3).tokens == (1, 1, 1)


def test_no_token_left_in_any_beam_is_an_error() -> None:
    model = Model(TableRunner({(): [0.0, 0.0]}))
    with pytest.raises(LogitsError, match="any of its beams"):
        model.generate([0], BeamSearch(2, processors=SuppressedTokens([0, 1])), max_new_tokens=3)


def test_a_vocabulary_smaller_than_the_beam() -> None:
    model = Model(TableRunner({(): np.log([0.7, 0.3])}))
    alternatives = model.generate([0], BeamSearch(8, 0.0, num_return_sequences=8), max_new_tokens=3).alternatives
    assert len(alternatives) == 8
    assert alternatives[0].tokens == (0, 0, 0)


def test_never_without_a_bound_on_the_length_goes_on_to_the_stop() -> None:
    strategy = BeamSearch(2, 1.0, "never", num_return_sequences=2)
    stop = StopTokens([[B] * 6]) | MaxTime(1.0)
    alternatives = STORY.generate([B], strategy, max_new_tokens=None, stop=stop).alternatives
    assert [each.tokens for each in alternatives] == [A_A_END, (B,) * 6]


# ---- In company --------------------------------------------------------------------------------------------


def test_alone_and_among_others() -> None:
    model = Model(TableRunner(noise(11, 12)), eos_token_ids=[11])
    specs = ["beam", "beam:num_beams=2", "greedy", "sampling", "beam:num_beams=3,length_penalty=0.0"]
    alone = {spec: model.generate([0], spec, max_new_tokens=7).tokens for spec in specs}
    together = run([Task(model, [0], spec, max_new_tokens=7) for spec in reversed(specs)])
    assert {str(generation.task.strategy): generation.tokens for generation in together} == alone


def test_all_beams_share_one_inference_a_round() -> None:
    assert Model(TableRunner(noise(2, 8))).generate([0], BeamSearch(4), max_new_tokens=5).cost.forwards == 5


def test_a_search_streams_one_piece() -> None:
    assert list(STORY.stream([B], BeamSearch(2), max_new_tokens=8)) == ["aac"]


@pytest.mark.parametrize("strategy", [BeamSearch(3), BeamSearch(3, processors=TopK(4))], ids=str)
def test_what_the_model_has_summed_is_not_summed_again(strategy: BeamSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    for module in (extensions, numerics):
        monkeypatch.setattr(module, "logsumexp", lambda logits: rows.append(1) or logsumexp(logits))
    Model(TableRunner(noise(2, 8))).generate([0], strategy, max_new_tokens=5)
    assert not rows
    found = next_tokens(strategy, np.zeros(8, np.float32), Model(TableRunner(noise(2, 8))).vocabulary.prompt([0]), 2)
    assert rows == [1]
    assert found.logits.tolist() == pytest.approx([-np.log(8)] * 2)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_of_all_beams_are_found_in_few_blocks(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No beam's own best are looked for where the largest of every few logits are known; ties and all."""
    monkeypatch.setattr(extensions, "next_tokens", None)
    rng, strategy = np.random.default_rng(seed), BeamSearch()
    prompt = Model(TableRunner(noise(0, 64))).vocabulary.prompt([0])
    beams = [Hypothesis(prompt + token, float(rng.integers(-3, 0))) for token in range(rng.integers(1, 5))]
    rows = [rng.integers(-4, 5, 64).astype(np.float32) for _ in beams]
    for beam, row in zip(beams, rows, strict=True):
        row[rng.random(64) < rng.random()] = -np.inf
        beam.sequence.answered(row, 3.0, np.array([row.reshape(-1, 4).max(axis=1), np.ones(16)], np.float32))
    for count in (1, 3, 8, 16):
        own = [next_tokens(strategy, row, beam.sequence, count) for beam, row in zip(beams, rows, strict=True)]
        assert [*likeliest(strategy, beams, rows, count).best(count)] == [*Extensions.by(beams, own).best(count)]


def test_logits_handed_in_stay_as_they_are() -> None:
    row = np.arange(6, dtype=np.float32)
    row.flags.writeable = False
    strategy = BeamSearch(2, processors=TopK(3))
    best = next_tokens(strategy, row, Model(TableRunner(noise(0, 6))).vocabulary.prompt([0]), 4)
    assert best.ids.tolist() == [3, 4, 5]


@pytest.mark.parametrize(
    "spec",
    ["beam", "beam:num_beams=8,length_penalty=0.6", "beam:early_stopping=never", "beam:early_stopping=true"],
)
def test_spec_round_trip(spec: str) -> None:
    assert str(parse(spec)) == spec
    assert parse(str(parse(spec))) == parse(spec)


@pytest.mark.parametrize(
    "parameters",
    [
        {"num_beams": 0},
        {"num_beams": 2.5},
        {"length_penalty": float("nan")},
        {"early_stopping": "always"},
        {"num_return_sequences": 5},
        {"num_return_sequences": 0},
        {"score": "mean"},
        {"preset": "llama.cpp"},
    ],
)
def test_a_parameter_out_of_range_is_named(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(parameters))}` of `beam`"):
        BeamSearch(**parameters)


# ---- Other engines -----------------------------------------------------------------------------------------

RECORDED = json.loads((Path(__file__).parents[1] / "data" / "beams.json").read_text())["cases"]


def recorded_table(seed: int) -> NDArray[Any]:
    rows = np.random.default_rng(seed).standard_normal((12, 12)) * 1.5
    rows[:, 11] += 1.0
    return rows.astype(np.float32)


@pytest.mark.parametrize("engine", ["hf", "genai"])
@pytest.mark.parametrize("groups", [1, 2])
def test_agrees_with_what_the_engine_itself_found(engine: str, groups: int) -> None:
    cases = [each for each in RECORDED if (each["engine"], each["num_beam_groups"]) == (engine, groups)]
    assert len(cases) == {("hf", 1): 144, ("genai", 1): 144, ("hf", 2): 0, ("genai", 2): 72}[engine, groups]
    for case in cases:
        beams = case["num_beams"]
        stopping = {"true": True, "false": False}.get(case["early_stopping"], "never")
        shared = (beams, case["length_penalty"], stopping, beams, "length", engine)
        strategy = (
            BeamSearch(*shared)
            if groups == 1
            else DiverseBeamSearch(*shared, num_beam_groups=groups, diversity_penalty=case["diversity_penalty"])
        )
        model = Model(TableRunner(recorded_table(case["seed"])), eos_token_ids=[11])
        alternatives = model.generate([3], strategy, max_new_tokens=case["max_new_tokens"]).alternatives
        assert [list(each.tokens) for each in alternatives] == [tokens for tokens, _ in case["found"]], case
        scores = [score for _, score in case["found"]]
        assert [each.score for each in alternatives] == pytest.approx(scores, abs=5e-5)


def test_the_recorded_engines_differ() -> None:
    found = {}
    for case in RECORDED:
        if case["num_beam_groups"] == 1:
            key = tuple(value for name, value in case.items() if name not in ("engine", "found"))
            found.setdefault(key, []).append([tokens for tokens, _ in case["found"]])
    assert sum(hf != genai for hf, genai in found.values()) == 20


def fairseq_search(rows: Rows, eos: int, beams: int, power: float, bound: int) -> list[tuple[tuple[int, ...], float]]:
    """What fairseq's `SequenceGenerator` does for one sentence: `bound` counts the end of text, which is forced
    there."""
    running, scores, done = [(0,)], [0.0], list[tuple[tuple[int, ...], float]]()
    for step in range(bound):
        found = []
        for tokens, score in zip(running, scores, strict=True):
            row = log_softmax(np.asarray(rows(tokens), np.float64))
            if step == bound - 1:
                row = np.where(np.arange(len(row)) == eos, row, -np.inf)
            found += [(score + each, (*tokens, token)) for token, each in enumerate(row) if each > -np.inf]
        found = sorted(found, reverse=True)[: 2 * beams]
        for score, tokens in found[:beams]:
            if tokens[-1] == eos and len(done) < beams:
                done.append((tokens[1:], score / (step + 1) ** power))
        if len(done) == beams:
            break
        alive = [each for each in found if each[1][-1] != eos][:beams]
        running, scores = [tokens for _, tokens in alive], [score for score, _ in alive]
    return sorted(done, key=lambda each: -each[1])


@dataclass(frozen=True)
class EndAt(LogitsProcessor):
    """The end of text is forced as the last token, as fairseq does."""

    length: int = 1
    token: int = 0

    def __call__(self, candidates: Candidates, sequence: Sequence) -> Candidates:
        return candidates.only(np.array([self.token])) if sequence.generated_length == self.length - 1 else candidates


def vllm_search(rows: Rows, eos: int, beams: int, power: float, bound: int) -> list[tuple[tuple[int, ...], float]]:
    """What vLLM's `LLM.beam_search` does for the prompt [0]."""

    def key(beam: tuple[float, tuple[int, ...]]) -> float:
        return beam[0] / (len(beam[1]) - (beam[1][-1] == eos)) ** power

    running, completed = [(0.0, (0,))], list[tuple[float, tuple[int, ...]]]()
    for _ in range(bound):
        found = []
        for score, tokens in running:
            row = log_softmax(np.asarray(rows(tokens), np.float64))
            for token in np.argsort(-row)[: 2 * beams].tolist():
                (completed if token == eos else found).append((score + row[token], (*tokens, token)))
        running = sorted(found, key=key, reverse=True)[:beams]
        if not running:
            break
    ranked = sorted(completed + running, key=key, reverse=True)[:beams]
    return [(tokens[1:], key((score, tokens))) for score, tokens in ranked]


@pytest.mark.parametrize("engine", ["fairseq", "vllm"])
def test_agrees_with_the_rules_of_an_engine_written_out(engine: str) -> None:
    seen = set()
    for seed, beams, power in itertools.product(range(12), (1, 2, 3), (0.0, 1.0, 2.0)):
        rows = endings(seed, 8)
        search = fairseq_search if engine == "fairseq" else vllm_search
        expected = search(rows, 7, beams, power, 5)
        processors = EndAt(5, 7) if engine == "fairseq" else Chain()
        strategy = BeamSearch(beams, power, False, beams, preset=engine, processors=processors)
        model = Model(TableRunner(rows), eos_token_ids=[7])
        alternatives = model.generate([0], strategy, max_new_tokens=5).alternatives
        assert [each.tokens for each in alternatives] == [tokens for tokens, _ in expected]
        assert [each.score for each in alternatives] == pytest.approx([score for _, score in expected], abs=1e-4)
        hf = model.generate([0], replace(strategy, preset="hf"), max_new_tokens=5).alternatives
        seen.add([each.tokens for each in hf] == [each.tokens for each in alternatives])
    assert seen == {True, False}  # the rules matter, and not always


@pytest.mark.parametrize(
    ("parameters", "score"),
    [
        ({"score": "length", "length_penalty": 2.0}, LOG[A_A_END] / 3**2),
        ({"score": "gnmt", "length_penalty": 2.0}, LOG[A_A_END] / (8 / 6) ** 2),
        ({"preset": "fairseq", "length_penalty": 2.0}, LOG[A_END] / 2**2),  # END and A_END fill the places first
        ({"preset": "vllm", "length_penalty": 2.0}, LOG[A_A_END] / 3**2),  # the prompt's token, but not EOS
    ],
)
def test_the_length_that_a_score_is_divided_by(parameters: dict[str, Any], score: float) -> None:
    generation = STORY.generate([B], BeamSearch(2, **parameters), max_new_tokens=4)
    assert generation.score == pytest.approx(score, abs=1e-5)


def test_a_preset_with_a_rule_of_its_own_has_no_early_stopping() -> None:
    with pytest.raises(ConfigurationError, match="`early_stopping` of `beam` must be left out with the preset vllm"):
        BeamSearch(preset="vllm", early_stopping=True)
