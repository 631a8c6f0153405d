"""transformers' processors inside ours; what they do themselves needs torch, which is not installed everywhere."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from ovdecode import (
    BeamSearch,
    Candidates,
    Greedy,
    HFProcessor,
    LogitsProcessor,
    Model,
    NoRepeatNgram,
    RepetitionPenalty,
    Sampling,
    TableRunner,
    Temperature,
    TopK,
    TopP,
    Vocabulary,
)
from ovdecode.errors import ConfigurationError
from ovdecode.testing import check_processor, distribution, law_configuration, table_model

SEQUENCE = Vocabulary(4).prompt([0]) + [1, 1]


def test_what_is_no_processor_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="`processor` of `hf_processor` must be one `LogitsProcessor` object"):
        HFProcessor("repetition")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no list"):
        HFProcessor([TopK(3)])  # type: ignore[arg-type]


def test_it_is_shown_by_the_class_of_the_object() -> None:
    assert str(HFProcessor(TopK(3)) | TopK(2)) == "hf_processor(TopK)|top_k:k=2"


def test_the_configuration_keeps_the_law() -> None:
    law_configuration(HFProcessor(lambda input_ids, scores: scores))


def test_without_torch_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigurationError, match=r"`hf_processor` must have `torch`.*pip install torch"):
        HFProcessor(lambda input_ids, scores: scores)(Candidates(np.zeros(4)), SEQUENCE)


class Tensor(np.ndarray):
    """What the adapter and a plain function need of a tensor, over the same memory."""

    def numpy(self) -> np.ndarray:
        return self.view(np.ndarray)

    def fill_(self, value: float) -> Tensor:
        self.fill(value)
        return self


@pytest.fixture(params=["numpy", "torch"])
def tensors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch, and where it is not installed at least the adapter's own work, on arrays in the place of tensors."""
    if request.param == "torch":
        pytest.importorskip("torch", reason="torch is not installed")
    else:
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(from_numpy=lambda array: array.view(Tensor)))


@pytest.mark.usefixtures("tensors")
def test_the_object_sees_prompt_and_generated_tokens_and_the_whole_vocabulary() -> None:
    seen = []

    def spy(input_ids, scores):  # type: ignore[no-untyped-def]
        seen.append((input_ids.tolist(), scores.tolist()))
        return scores

    HFProcessor(spy)(TopK(2)(Candidates(np.array([1.0, 3.0, 2.0, 0.0])), SEQUENCE), SEQUENCE)
    assert seen == [([[0, 1, 1]], [[-np.inf, 3.0, 2.0, -np.inf]])]


@pytest.mark.usefixtures("tensors")
def test_what_is_impossible_stays_so() -> None:
    zero = HFProcessor(lambda input_ids, scores: scores.fill_(0.0))
    narrowed = zero(TopK(2)(Candidates(np.array([1.0, 3.0, 2.0, 0.0])), SEQUENCE), SEQUENCE)
    assert narrowed.ids.tolist() == [1, 2]
    dense = HFProcessor(lambda input_ids, scores: scores.fill_(1.0))
    assert dense(Candidates(np.array([0.0, -np.inf])), SEQUENCE).logits.tolist() == [1.0, -np.inf]


@pytest.mark.usefixtures("tensors")
def test_an_object_that_writes_to_what_it_is_given_changes_nothing_of_ours() -> None:
    row = np.array([1.0, 3.0, 2.0, 0.0], np.float32)

    def careless(input_ids, scores):  # type: ignore[no-untyped-def]
        input_ids.fill_(0)
        return scores.fill_(0.0)

    HFProcessor(careless)(Candidates(row), SEQUENCE)
    assert row.tolist() == [1.0, 3.0, 2.0, 0.0]
    assert SEQUENCE.tokens.tolist() == [0, 1, 1]


class TestWithTorch:
    """What the objects themselves do."""

    @pytest.fixture(autouse=True)
    def torch(self) -> None:
        pytest.importorskip("torch", reason="the objects of transformers work with torch, which is not installed")

    def pairs(self) -> list[tuple[HFProcessor, LogitsProcessor]]:
        import transformers as hf

        return [
            (HFProcessor(hf.RepetitionPenaltyLogitsProcessor(1.5)), RepetitionPenalty(1.5)),
            (HFProcessor(hf.NoRepeatNGramLogitsProcessor(2)), NoRepeatNgram(2)),
            (HFProcessor(hf.TemperatureLogitsWarper(0.5)), Temperature(0.5)),
            (HFProcessor(hf.TopKLogitsWarper(2)), TopK(2)),
            (HFProcessor(hf.TopPLogitsWarper(0.7)), TopP(0.7)),
        ]

    def test_each_is_equal_to_ours(self) -> None:
        model = table_model()
        for theirs, ours in self.pairs():
            for strategy in (Greedy, Sampling, BeamSearch):
                found = distribution(strategy(processors=theirs), model, [0, 1, 2, 0], max_new_tokens=2)
                expected = distribution(strategy(processors=ours), model, [0, 1, 2, 0], max_new_tokens=2)
                assert found == pytest.approx(expected, abs=1e-6), ours

    def test_each_keeps_the_laws(self) -> None:
        for theirs, _ in self.pairs():
            check_processor(theirs)

    def test_siblings_do_not_see_each_other(self) -> None:
        processor, row = self.pairs()[0][0], Candidates(np.array([4.0, 4.0, 4.0, 4.0]))
        prompt = SEQUENCE.prompt
        first, second = processor(row, prompt + 1), processor(row, prompt + 2)
        assert (first.logits < 4).tolist() == [True, True, False, False]
        assert (second.logits < 4).tolist() == [True, False, True, False]

    def test_on_a_real_model(self, model: Model) -> None:
        theirs, ours = self.pairs()[0]
        options = {"max_new_tokens": 8}
        found = model.generate("one two one two", Greedy(processors=theirs), **options)
        assert found.tokens == model.generate("one two one two", Greedy(processors=ours), **options).tokens

    def test_nothing_but_the_adapter_needs_torch(self) -> None:
        runner = TableRunner([[0.0, 1.0], [1.0, 0.0]])
        assert Model(runner).generate([0], Greedy(processors=self.pairs()[0][0]), max_new_tokens=1).tokens == (1,)
