"""Watermarks: their laws by enumeration, their detectors under the null and on marked text."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from operator import xor
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, kstest

from ovdecode import (
    Candidates,
    GumbelWatermark,
    KgwWatermark,
    Model,
    Sampling,
    SynthIdWatermark,
    TableRunner,
    Task,
    TopK,
    Vocabulary,
    run,
)
from ovdecode.errors import ConfigurationError
from ovdecode.hashing import Hashes, absorb, uniforms
from ovdecode.spec import parse
from ovdecode.strategies.processors.watermarks.watermark import Watermark
from ovdecode.testing import distribution

MARKS: list[Watermark] = [
    KgwWatermark(),
    KgwWatermark(context_width=2, seeding_scheme="selfhash"),
    SynthIdWatermark(),
    GumbelWatermark(),
]
P = np.array([0.5, 0.25, 0.125, 0.125])
PROMPT = Vocabulary(4).prompt([0, 1, 2, 3, 0])


# ---- The hash ----------------------------------------------------------------------------------------------


def mix(state: int, value: int) -> int:
    """One step of the hash in plain integers."""
    state = ((state ^ value) + 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    return state ^ (state >> 31)


def plain_hash(*values: int) -> int:
    """The hash of one value after the other."""
    return reduce(mix, values, 0)


def plain_context(key: int, *tokens: int) -> int:
    """The hash of a context."""
    return reduce(xor, (plain_hash(key, place, token) for place, token in enumerate(tokens)))


def test_the_hash_is_what_plain_integers_give() -> None:
    mark = SynthIdWatermark(hashing_key=2**64 - 1, context_width=2)
    hashes = absorb(mark.hash_contexts(np.array([[7, 151_000], [0, 0]])), np.array([3, 151_935]))
    contexts = plain_context(2**64 - 1, 7, 151_000), plain_context(2**64 - 1, 0, 0)
    assert hashes.tolist() == [mix(contexts[0], 3), mix(contexts[1], 151_935)]
    assert plain_hash(1, 2) == int(absorb(absorb(np.zeros(1, np.uint64), np.array([1])), np.array([2]))[0])


def test_uniforms_are_uniform_and_never_zero_or_one() -> None:
    numbers = uniforms(absorb(np.zeros(1, np.uint64), np.arange(20_000)))
    assert kstest(numbers, "uniform").pvalue > 0.01
    ends = uniforms(np.array([0, 2**64 - 1], np.uint64))
    assert 0 < ends[0] < ends[1] < 1


def test_hashes_of_neighbours_are_independent() -> None:
    rows = uniforms(absorb(absorb(np.zeros(1, np.uint64), np.arange(200))[:, None], np.arange(200)))
    for one, other in ((rows[1:], rows[:-1]), (rows[:, 1:], rows[:, :-1]), (rows[1:, 1:], rows[:-1, :-1])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / math.sqrt(one.size)


# ---- KGW ---------------------------------------------------------------------------------------------------


def green(mark: KgwWatermark, tokens: list[int], vocab: int) -> list[int]:
    """The green tokens after some tokens, by the definition."""
    context = tokens[len(tokens) - mark.context_width :]
    if mark.seeding_scheme == "lefthash":
        start = plain_context(mark.hashing_key, *context)
        ranks = [(mix(start, token // 8) >> 8 * (token % 8) & 255, mix(start, vocab + token)) for token in range(vocab)]
        return sorted(sorted(range(vocab), key=ranks.__getitem__)[: int(mark.greenlist_ratio * vocab)])
    least = [min(plain_hash(mark.hashing_key, each, token) for each in context) for token in range(vocab)]
    share = [plain_hash_of(value) / 2**64 for value in least]
    return [token for token in range(vocab) if share[token] < mark.greenlist_ratio]


def plain_hash_of(value: int) -> int:
    return int(absorb(np.array([value], np.uint64), np.zeros(1, np.uint64))[0])


@pytest.mark.parametrize("scheme", ["lefthash", "selfhash"])
@pytest.mark.parametrize("width", [1, 3])
def test_kgw_adds_its_bias_to_green_tokens(scheme: Any, width: int) -> None:
    row = np.linspace(-1, 1, 12)
    for key in range(20):
        mark = KgwWatermark(key, width, 0.34, 1.5, scheme)
        tokens = [key % 12, 5, 7, key % 5]
        expected = row.copy()
        expected[green(mark, tokens, 12)] += 1.5
        found = mark(Candidates(row), Vocabulary(12).prompt(tokens))
        assert found.logits.tolist() == expected.tolist()
        narrow = mark(Candidates(row).at(np.array([2, 5, 11])), Vocabulary(12).prompt(tokens))
        assert narrow.logits.tolist() == expected[[2, 5, 11]].tolist()


def test_a_green_list_has_its_size_and_every_token_is_on_it_as_often() -> None:
    lists = np.array([KgwWatermark(key)(Candidates(np.zeros(8)), PROMPT8).logits > 0 for key in range(4000)])
    assert (lists.sum(axis=1) == 2).all()
    for count in lists.sum(axis=0):
        assert 1e-4 < binom.cdf(count, 4000, 0.25) < 1 - 1e-4
    together = int((lists[:, 3] & lists[:, 4]).sum())
    assert 1e-4 < binom.cdf(together, 4000, 2 / 8 * 1 / 7) < 1 - 1e-4


PROMPT8 = Vocabulary(8).prompt([3])


def test_selfhash_greens_are_independent_with_their_probability() -> None:
    marks = [KgwWatermark(key, 3, 0.25, seeding_scheme="selfhash") for key in range(4000)]
    prompt = Vocabulary(8).prompt([3, 1, 6])
    lists = np.array([mark(Candidates(np.zeros(8)), prompt).logits > 0 for mark in marks])
    for count in lists.sum(axis=0):
        assert 1e-4 < binom.cdf(count, 4000, 0.25) < 1 - 1e-4
    assert 1e-4 < binom.cdf((lists[:, 3] & lists[:, 4]).sum(), 4000, 0.25**2) < 1 - 1e-4


def test_the_distribution_of_marked_texts_is_as_defined() -> None:
    mark = KgwWatermark(bias=math.log(2.0))
    exact = distribution(Sampling(processors=mark), Model(TableRunner({(): np.log(P)})), [1], max_new_tokens=2)
    for tokens in product(range(4), repeat=2):
        expected = 1.0
        for before, token in zip((1, tokens[0]), tokens, strict=True):
            weights = P.copy()
            weights[green(mark, [before], 4)] *= 2  # one of four is green
            expected *= weights[token] / weights.sum()
        assert exact[tokens] == pytest.approx(expected)


def test_a_text_shorter_than_a_context_is_not_marked() -> None:
    for mark in (KgwWatermark(context_width=6), SynthIdWatermark(context_width=6), GumbelWatermark(context_width=6)):
        assert mark(Candidates(P), PROMPT).logits.tolist() == P.tolist()
        assert mark.detect(PROMPT).scored == 0
        assert mark.detect(PROMPT + 1).p_value == 1.0
        assert math.isnan(mark.detect(PROMPT + 1).score)


# ---- SynthID -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PrescribedWins(SynthIdWatermark):
    """A tournament whose g-values are read off a table: layer to (context, token) to g."""

    table: tuple[tuple[int, ...], ...] = ()

    def hash_contexts(self, contexts: Any) -> Hashes:
        return np.array([int(context[-1]) for context in contexts], np.uint64)

    def kinds(self, hashes: Hashes, first: int, layers: int) -> Any:
        bits = np.array(self.table[first : first + layers])[:, hashes.astype(int)]  # (layers, n)
        return 2 ** np.arange(layers)[::-1] @ bits


@pytest.fixture
def _plain_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """(context, token) is its own hash: context · 2 + token."""
    monkeypatch.setattr(
        "ovdecode.strategies.processors.watermarks.synthid.absorb",
        lambda hashes, values: hashes * np.uint64(2) + values.astype(np.uint64),
    )


@pytest.mark.usefixtures("_plain_pairs")
def test_a_tournament_of_two_is_played_out_exactly() -> None:
    """Draws against each other, layer by layer, enumerated."""

    def winner(draws: tuple[int, ...], tables: tuple[tuple[int, ...], ...]) -> dict[int, float]:
        if not tables:
            return {draws[0]: 1.0}
        half = len(draws) // 2
        left, right = winner(draws[:half], tables[:-1]), winner(draws[half:], tables[:-1])
        found: dict[int, float] = {}
        for (one, p), (other, q) in product(left.items(), right.items()):
            ahead = tables[-1][one] - tables[-1][other]
            for token, share in ((one, (1 + ahead) / 2), (other, (1 - ahead) / 2)):
                found[token] = found.get(token, 0.0) + p * q * share
        return found

    p = np.array([0.5, 0.25, 0.25])
    sequence = Vocabulary(3).prompt([0])
    for tables in product(product((0, 1), repeat=3), repeat=2):
        expected = np.zeros(3)
        for draws in product(range(3), repeat=4):
            for token, share in winner(draws, tables).items():
                expected[token] += p[list(draws)].prod() * share
        mark = PrescribedWins(context_width=1, depth=2, table=tables)
        assert mark(Candidates(np.log(p)), sequence).probabilities == pytest.approx(expected)


@pytest.mark.parametrize("size", [300, 3000])
def test_layers_that_are_played_together_are_layers_one_after_another(size: int) -> None:
    row = np.random.default_rng(0).standard_normal(size).astype(np.float32) * 3
    row[::7] = -np.inf
    prompt, together = Vocabulary(size).prompt([0, 1, 2, 0]), SynthIdWatermark(depth=24)
    expected = Candidates(row).weights.astype(np.float64)
    expected /= expected.sum()
    (context,) = [together.fresh_context(prompt)]
    assert context is not None
    hashes = absorb(context, np.arange(size))
    for layer in range(24):
        g = (hashes >> np.uint64(63 - layer)) & np.uint64(1)
        expected *= 1 + g - (g * expected).sum()
    left = together(Candidates(row), prompt)
    assert left.probabilities == pytest.approx(expected, rel=1e-5, abs=1e-12)
    assert np.exp(left.logits) == pytest.approx(left.probabilities)


def test_averaged_over_all_g_values_the_tournament_changes_nothing() -> None:
    average, mark = np.zeros(4), SynthIdWatermark(depth=3)
    hashes = [np.array(bits, np.uint64) << np.uint64(61) for bits in product(range(8), repeat=4)]
    with pytest.MonkeyPatch.context() as patch:
        for each in hashes:
            patch.setattr("ovdecode.strategies.processors.watermarks.synthid.absorb", lambda _, __, each=each: each)
            average += mark(Candidates(np.log(P)), PROMPT).probabilities / len(hashes)
    assert average == pytest.approx(P)


@pytest.mark.usefixtures("_plain_pairs")
def test_averaged_over_all_keys_marked_texts_are_distributed_as_unmarked_ones() -> None:
    """Over all 2^4 functions from (context, token) to g, of texts that repeat contexts."""
    table = Model(TableRunner([np.log([0.75, 0.25]), np.log([0.5, 0.5])]))
    plain = distribution(Sampling(), table, [0], max_new_tokens=4)
    average = dict.fromkeys(plain, 0.0)
    for g in product((0, 1), repeat=4):
        mark = PrescribedWins(context_width=1, depth=1, table=(g,))
        marked = distribution(Sampling(processors=mark), table, [0], max_new_tokens=4)
        average = {tokens: average[tokens] + marked.get(tokens, 0.0) / 16 for tokens in plain}
    assert average == pytest.approx(plain)


# ---- Gumbel ------------------------------------------------------------------------------------------------


def test_over_many_keys_the_pick_has_the_models_distribution() -> None:
    keys = 20_000
    picks = [GumbelWatermark(key)(Candidates(np.log(P)), PROMPT) for key in range(keys)]
    assert all(len(pick) == 1 for pick in picks)
    counts = np.bincount([pick.argmax() for pick in picks], minlength=4)
    for count, probability in zip(counts, P, strict=True):
        assert 1e-4 < binom.cdf(count, keys, probability) < 1 - 1e-4


def plain_number(key: int, *context: int, token: int) -> float:
    """The number u of a token, by the law of the noise: in each block of 64 one arrives first, and the others later."""
    start = plain_context(key, *context)
    first, own = mix(start, token // 64), mix(start ^ 2**63, token)
    arrival, later = (-math.log((each // 2**12 + 0.5) / 2**52) for each in (first, own))
    return math.exp(-arrival / 64 - (0 if token % 64 == first % 64 else later))


def test_the_pick_is_the_largest_log_u_over_p() -> None:
    for key in range(50):
        u = np.array([plain_number(key, 1, 2, 3, 0, token=token) for token in range(4)])
        assert GumbelWatermark(key)(Candidates(np.log(P)), PROMPT).argmax() == int((np.log(u) / P).argmax())


def test_over_many_keys_texts_are_distributed_as_unmarked_ones() -> None:
    table, keys = Model(TableRunner([np.log([0.75, 0.25]), np.log([0.5, 0.5])])), 3000
    plain = distribution(Sampling(), table, [0], max_new_tokens=3)
    tasks = [
        Task(table, [0], Sampling(processors=GumbelWatermark(key, 1)), max_new_tokens=3, seed=key)
        for key in range(keys)
    ]
    texts = [generation.tokens for generation in run(tasks)]
    for tokens, probability in plain.items():
        assert 1e-4 < binom.cdf(texts.count(tokens), keys, probability) < 1 - 1e-4


# ---- A context marks once ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SynthIdWatermark, GumbelWatermark])
def test_a_context_marks_once_in_each_text_and_siblings_do_not_share_theirs(kind: type[Watermark]) -> None:
    mark, prompt = kind(context_width=1), Vocabulary(4).prompt([0, 1, 0])
    marked = mark(Candidates(np.log(P)), prompt)  # the prompt's own contexts were no marks
    assert marked.distribution(4).tolist() != pytest.approx(P)
    for _ in range(2):
        assert mark(Candidates(np.log(P)), prompt + [1, 0]).distribution(4).tolist() == pytest.approx(P)
        assert mark(Candidates(np.log(P)), prompt + [2, 1]).distribution(4).tolist() != pytest.approx(P)
        assert mark(Candidates(np.log(P)), prompt + [1, 1]).distribution(4).tolist() == pytest.approx(P)


# ---- Detection ---------------------------------------------------------------------------------------------


def p_values(mark: Watermark, vocab: int, length: int, count: int) -> np.ndarray:
    vocabulary = Vocabulary(vocab)
    found = []
    for seed in range(count):
        tokens = np.random.default_rng(seed).integers(0, vocab, length).tolist()
        found.append(replace(mark, hashing_key=seed).detect(vocabulary.root + tokens).p_value)
    return np.array(found)


@pytest.mark.parametrize(
    ("mark", "vocab", "length"),
    [
        (KgwWatermark(), 60, 1500),
        (KgwWatermark(context_width=3, seeding_scheme="selfhash"), 60, 1500),
        (SynthIdWatermark(context_width=1), 100, 80),
        (GumbelWatermark(context_width=2), 10, 120),
    ],
    ids=str,
)
def test_p_values_are_uniform_without_the_mark(mark: Watermark, vocab: int, length: int) -> None:
    assert kstest(p_values(mark, vocab, length, 300), "uniform").pvalue > 0.01


@pytest.mark.parametrize("mark", MARKS, ids=str)
def test_a_text_that_repeats_itself_is_no_evidence(mark: Watermark) -> None:
    vocabulary = Vocabulary(50)
    loop = [replace(mark, hashing_key=key).detect(vocabulary.root + [7, 3, 9, 4, 1, 8] * 40) for key in range(300)]
    assert {detection.scored for detection in loop} <= {6, 7, 8}
    for level in (0.05, 0.2):
        assert binom.sf(sum(each.p_value <= level for each in loop) - 1, 300, level) > 1e-3


def test_the_statistics_of_a_literal_text() -> None:
    sequence = Vocabulary(12).prompt([4, 2]) + [3, 1, 4, 1, 5, 3, 1]
    mark = KgwWatermark(greenlist_ratio=0.34, hashing_key=8)
    pairs = {(2, 3), (3, 1), (1, 4), (4, 1), (1, 5), (5, 3)}  # "3 1" comes twice
    count = sum(token in green(mark, [before], 12) for before, token in pairs)
    detection = mark.detect(sequence)
    assert (detection.scored, detection.score) == (6, pytest.approx(count / 6))
    u = [plain_number(8, before, token=token) for before, token in ((2, 3), (3, 1), (1, 4), (4, 1), (5, 3))]
    gumbel = GumbelWatermark(8, 1).detect(sequence)  # the context 1 comes twice, too
    assert (gumbel.scored, gumbel.score) == (5, pytest.approx(-np.log1p(-np.array(u)).mean()))


def test_the_p_value_of_green_lists_is_exact() -> None:
    """One of two tokens is green after each context, so that both tokens after one have exactly one green."""
    mark, vocabulary = KgwWatermark(greenlist_ratio=0.5), Vocabulary(2)
    certain = mark.detect(vocabulary.root + [0, 0, 1, 1, 0])  # 00, 01, 11, 10
    assert (certain.scored, certain.score, certain.p_value) == (4, 0.5, pytest.approx(1.0))
    one = mark.detect(vocabulary.root + [0, 0, 0, 0])
    assert (one.scored, one.p_value) == (1, pytest.approx(0.5 if one.score else 1.0))


def test_marks_are_found_in_what_the_real_model_writes_and_not_elsewhere(model: Model) -> None:
    prompt = model.encode("Once upon a time, in a village by the sea,")
    strategies = [Sampling(), *(Sampling(processors=TopK(100) | mark) for mark in MARKS)]
    tasks = [Task(model, prompt, each, max_new_tokens=120, seed=3, ignore_eos=True) for each in strategies]
    plain, *marked = (each.tokens for each in sorted(run(tasks), key=lambda each: each.index))
    start = model.vocabulary.prompt(prompt)
    for mark, tokens in zip(MARKS, marked, strict=True):
        own = mark.detect(start + tokens)
        assert own.p_value < 1e-3
        assert own.scored > 40
        assert mark.detect(model.vocabulary.root + tokens).p_value < 1e-3  # the prompt need not be known
        assert mark.detect(start + plain).p_value > 1e-3
        assert replace(mark, hashing_key=1).detect(start + tokens).p_value > 1e-3


# ---- Configuration -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [*MARKS, SynthIdWatermark(2**64 - 1, 2, 64)], ids=str)
def test_spec_strings_come_back(mark: Watermark) -> None:
    assert parse(str(mark), "processor") == mark


@pytest.mark.parametrize(
    ("kind", "parameter", "value"),
    [
        (KgwWatermark, "hashing_key", -1),
        (GumbelWatermark, "hashing_key", 2**64),
        (SynthIdWatermark, "context_width", 0),
        (SynthIdWatermark, "depth", 0),
        (SynthIdWatermark, "depth", 65),
        (KgwWatermark, "greenlist_ratio", 0),
        (KgwWatermark, "greenlist_ratio", 1),
        (KgwWatermark, "bias", math.inf),
        (KgwWatermark, "seeding_scheme", "righthash"),
    ],
)
def test_errors_name_the_parameter(kind: Any, parameter: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"`{parameter}`"):
        kind(**{parameter: value})
