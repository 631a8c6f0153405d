"""What metrics see, and how they ask a model: all texts in one batch, each failing alone."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, replace

import numpy as np
import pytest

from ovdecode import Forward, Greedy, Model, Perplexity, TableRunner, TokenHealing
from ovdecode.errors import ConfigurationError, PromptError
from ovdecode.forward import Answer
from ovdecode.metric import Question, Result, ask
from ovdecode.runners.base import Pending
from ovdecode.sequence import Sequence
from ovdecode.spec import parse
from ovdecode.vocabulary import Letters

TURN = Model(TableRunner([[-9.0, 9.0, -9.0], [-9.0, -9.0, 9.0], [9.0, -9.0, -9.0]]), [2])


class Counting(TableRunner):
    """Counts inferences."""

    calls = 0

    def submit(self, requests: Items[Forward]) -> Pending:
        self.calls += 1
        return super().submit(requests)


class Backwards(Letters):
    """Token 0 is "c", token 2 is "a"."""

    def token_bytes(self, token: int) -> bytes:
        return "cba"[token].encode()

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return ["cba".index(letter) for letter in text]


def seen(prompt: Sequence, tokens: Items[int]) -> Question[list[int]]:
    """The tokens that a model is asked about."""
    answer = yield prompt + tokens
    assert isinstance(answer, np.ndarray)
    return [*prompt, *tokens]


def test_what_a_metric_sees_of_a_generation() -> None:
    generation = TURN.generate([0], "greedy", max_new_tokens=5)
    result = Result.of(generation, ["b"])
    assert (result.text, result.tokens, result.stop) == ("bc", (1, 2), "eos")
    assert (result.prompt, result.prompt_tokens, result.references) == ("a", (0,), ("b",))
    assert (result.strategy, result.model, result.cost) == ("greedy", TURN, generation.cost)
    assert result.logprobs == generation.token_logprobs


def test_a_generation_that_gave_up_has_no_stop_and_a_failed_one_raises() -> None:
    generation = TURN.generate([0], max_new_tokens=1)
    assert Result.of(replace(generation, stop_reason=None)).stop == ""
    with pytest.raises(ValueError, match="broken"):
        Result.of(replace(generation, error=ValueError("broken")))


def test_tokens_follow_a_prompt_without_what_was_taken_back(model: Model) -> None:
    generation = model.generate("The capital of Fra", TokenHealing(Greedy()), max_new_tokens=4)
    assert generation.taken_back > 0
    result = Result.of(generation)
    assert result.prompt == "The capital of Fra"
    spelled = model.vocabulary.spelling.token_bytes
    whole = b"".join(spelled(token) for token in result.prompt_tokens + result.tokens).decode()
    assert whole == result.prompt + result.text


def test_the_text_of_a_conversation_has_no_markup(model: Model) -> None:
    generation = model.generate([{"role": "user", "content": "Name a colour."}], max_new_tokens=2)
    prompt = Result.of(generation).prompt
    assert "Name a colour." in prompt
    assert "<|im_start|>" not in prompt


def test_all_texts_are_asked_about_in_one_inference() -> None:
    runner = Counting([[0.0, 0.0], [0.0, 0.0]])
    one = Model(runner)
    results = [Result("", (0,) * length, prompt_tokens=(1,), model=one) for length in range(1, 8)]
    found = ask(results, seen)
    assert found == [[1] + [0] * length for length in range(1, 8)]
    assert runner.calls == 1


def test_what_goes_wrong_with_one_text_is_told_of_that_text() -> None:
    def question(prompt: Sequence, tokens: Items[int]) -> Question[int]:
        yield prompt
        if not tokens:
            raise ArithmeticError("nothing to ask about")
        return len(tokens)

    good = Result("b", (1,), prompt_tokens=(0,), model=TURN)
    found = ask(
        [
            good,
            replace(good, model=None),
            replace(good, tokens=()),
            replace(good, prompt_tokens=(7,)),
            replace(good, prompt="", prompt_tokens=()),
            good,
        ],
        question,
    )
    assert [found[0], found[5]] == [1, 1]
    kinds = [ConfigurationError, ArithmeticError, ValueError, PromptError]
    assert [isinstance(error, kind) for error, kind in zip(found[1:5], kinds, strict=True)] == [True] * 4
    assert "`model` of a Result must be the model that decoded" in str(found[1])


def test_a_model_that_spells_alike_is_asked_about_the_tokens_and_another_about_the_text() -> None:
    result = Result("bc", (1, 2), prompt="ab", prompt_tokens=(0, 0, 1), model=TURN)
    alike = Model(TableRunner(np.zeros((4, 4)).tolist()))
    backwards = Model(TableRunner(np.zeros((3, 3)).tolist()), tokenizer=Backwards())  # type: ignore[arg-type]
    assert ask([result], seen) == [[0, 0, 1, 1, 2]]
    assert ask([result], seen, alike) == [[0, 0, 1, 1, 2]]
    assert ask([result], seen, backwards) == [[2, 1, 1, 0]]
    small = Model(TableRunner([[0.0, 0.0], [0.0, 0.0]]))
    (failure,) = ask([result], seen, small)  # it has no c, in whatever tokens
    assert isinstance(failure, ValueError)
    without = replace(result, model=None)
    assert ask([without], seen, alike) == [[0, 1, 1, 2]]


def test_a_model_may_be_named_by_its_source() -> None:
    other = Model(TableRunner([[0.0, 0.0], [0.0, 0.0]]))
    here = Model(TableRunner([[9.0, 0.0], [9.0, 0.0]]), load_sibling={"other": other}.__getitem__)
    result = Result.of(here.generate([0], max_new_tokens=3))
    assert Perplexity("other")(result) == pytest.approx(2.0)
    assert Perplexity(here)(result) == pytest.approx(1.0, abs=1e-3)
    assert parse("perplexity:model=other", "metric") == Perplexity("other")


@pytest.mark.parametrize("name", ["perplexity", "entropy", "corpus_perplexity", "mauve"])
def test_what_is_no_model_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"`model` of `{name}` must be a model, the source of one, or none"):
        parse(f"{name}:model=3", "metric")


def test_answers_reach_the_question_unchanged() -> None:
    @dataclass
    class Noted:
        hidden: np.ndarray | None = None

    noted = Noted()

    def question(prompt: Sequence, tokens: Items[int]) -> Question[float]:
        plain, rich = yield [prompt, Forward(prompt, hidden=True)]
        assert isinstance(rich, Answer)
        noted.hidden = rich.hidden
        return float(plain[0])

    model = Model(TableRunner([[0.5, 0.0], [0.0, 0.0]], hidden=lambda tokens: (1.0, 2.0)))
    assert ask([Result("a", (0,), prompt_tokens=(0,), model=model)], question) == [0.5]
    assert noted.hidden is not None
    assert noted.hidden.tolist() == [[1.0, 2.0]]
