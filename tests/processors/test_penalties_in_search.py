"""Penalties, limits, biases and watermarks inside sampling, speculative sampling and beam search, on a table."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from ovdecode import (
    BeamSearch,
    Candidates,
    DraftModel,
    Forward,
    LogitsProcessor,
    Model,
    PromptLookup,
    Sampling,
    Speculative,
    Vocabulary,
)
from ovdecode.numerics import log_softmax
from ovdecode.proposer import Proposer
from ovdecode.spec import parse
from ovdecode.testing import distribution, table_model
from ovdecode.testing.cases import VOCAB_SIZE

PROMPT = [1, 2, 3, 1]
LENGTH = 3
CHAINS = [
    "dry:multiplier=2.0,allowed_length=1,sequence_breakers=[d]",
    "encoder_repetition:penalty=1.5",
    "encoder_no_repeat_ngram:size=2",
    "no_repeat_ngram:size=2|presence:penalty=0.5,window=3,prompt=true",
    "frequency:penalty=0.7,toward_zero=true",
    "sequence_bias:bias=[[[1,2],-2.0],[[0],1.0],[[2,0],3.0]]",
    "bad_words:sequences=[[1,2],[4,4],[0,3]]",
    "forced_tokens:tokens=[2,0]",
    "begin_suppress:tokens=[0,2]|forced_eos:count=3",
    "min_length:length=6|exponential_length_decay:start=1,factor=3",
    "kgw_watermark",
    "kgw_watermark:context_width=2,seeding_scheme=selfhash,bias=1",
    "synthid_watermark:context_width=1,depth=4",
    "top_k:k=4|gumbel_watermark:context_width=1",
]


def step(processors: LogitsProcessor, model: Model, tokens: tuple[int, ...], *, normalised: bool) -> Candidates:
    """What is left after a text, asked in a tree of its own: of log-probabilities in a beam, else of logits."""
    vocabulary = Vocabulary(VOCAB_SIZE, sorted(model.vocabulary.eos_token_ids))
    sequence = vocabulary.prompt(PROMPT) + tokens
    logits = model.runner.forward([Forward(sequence)])[0].logits[-1]
    return processors(Candidates(log_softmax(logits) if normalised else logits), sequence)


def texts(model: Model) -> list[tuple[int, ...]]:
    """All that can be generated: up to the first end, or the whole length."""
    (end,) = model.vocabulary.eos_token_ids
    whole = {text[: text.index(end) + 1] if end in text else text for text in product(range(VOCAB_SIZE), repeat=LENGTH)}
    return sorted(whole)


def processors(spec: str) -> LogitsProcessor:
    chain = parse(spec, "processor")
    assert isinstance(chain, LogitsProcessor)
    return chain


@pytest.mark.parametrize("spec", CHAINS)
def test_sampling_has_the_distribution_of_its_steps(spec: str) -> None:
    model, chain = table_model(), processors(spec)
    exact = distribution(Sampling(processors=chain), model, PROMPT, max_new_tokens=LENGTH)
    for text in texts(model):
        expected = 1.0
        for place, token in enumerate(text):
            if expected:
                left = step(chain, model, text[:place], normalised=False)
                expected *= left.distribution(VOCAB_SIZE)[token]
        assert exact.get(text, 0.0) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("proposer", [DraftModel(table_model(1), 1), PromptLookup(3)], ids=lambda each: each.name)
@pytest.mark.parametrize("spec", CHAINS)
def test_speculation_has_the_distribution_of_sampling(spec: str, proposer: Proposer) -> None:
    plain = Sampling(top_k=3, processors=processors(spec))
    expected = distribution(plain, table_model(), PROMPT, max_new_tokens=LENGTH)
    found = distribution(Speculative(plain, proposer), table_model(), PROMPT, max_new_tokens=LENGTH)
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("spec", CHAINS)
def test_a_beam_as_wide_as_all_texts_finds_the_best(spec: str) -> None:
    model, chain = table_model(), processors(spec)
    scores = {}
    for text in texts(model):
        score = 0.0
        for place, token in enumerate(text):
            left = step(chain, model, text[:place], normalised=True)
            score += float(left.spread(VOCAB_SIZE)[token])
            if score == -np.inf:
                break
        scores[text] = score / len(text)
    beam = BeamSearch(num_beams=VOCAB_SIZE**2, early_stopping="never", processors=chain)
    generation = model.generate(PROMPT, beam, max_new_tokens=LENGTH)
    best = max(scores, key=lambda text: scores[text])
    assert generation.tokens == best
    assert generation.score == pytest.approx(scores[best], abs=1e-4)
