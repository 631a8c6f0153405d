"""transformers' stopping criteria as ours; what they do themselves needs torch, which is not installed everywhere."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from ovdecode import HFCriterion, MaxNewTokens, Model, TableRunner, Vocabulary
from ovdecode.errors import ConfigurationError
from ovdecode.testing import check_stopping, law_configuration

PROMPT = Vocabulary(4).prompt([0, 3])


def test_what_is_no_criterion_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="`criterion` of `hf_criterion` must be one `StoppingCriteria` object"):
        HFCriterion(7)  # type: ignore[arg-type]


def test_it_is_shown_by_the_class_of_the_object() -> None:
    assert str(HFCriterion(MaxNewTokens(2)) | MaxNewTokens(3)) == "hf_criterion(MaxNewTokens)|max_new_tokens:count=3"


def test_the_configuration_keeps_the_law() -> None:
    law_configuration(HFCriterion(lambda input_ids, scores: True))


def test_without_torch_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigurationError, match=r"`hf_criterion` must have `torch`.*pip install torch"):
        HFCriterion(lambda input_ids, scores: True)(PROMPT + 1)


@pytest.mark.parametrize("asked", ["numpy", "torch"])
def test_the_object_sees_all_tokens_once_one_is_generated(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if asked == "torch":
        pytest.importorskip("torch", reason="torch is not installed")
    else:
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(from_numpy=lambda array: array))
    seen = []

    def ends_in_two(input_ids, scores):  # type: ignore[no-untyped-def]
        seen.append(input_ids.tolist())
        assert scores is None
        return input_ids[:, -1] == 2

    stop = HFCriterion(ends_in_two)
    assert [stop(PROMPT), stop(PROMPT + 1)] == [None, None]
    assert str(stop(PROMPT + 2)) == "hf_criterion(function)"
    assert seen == [[[0, 3, 1]], [[0, 3, 2]]]


class TestWithTorch:
    """What the objects themselves do."""

    @pytest.fixture(autouse=True)
    def torch(self) -> None:
        pytest.importorskip("torch", reason="the objects of transformers work with torch, which is not installed")

    def test_the_end_of_text(self) -> None:
        from transformers import EosTokenCriteria

        ends = HFCriterion(EosTokenCriteria([2, 3]))
        assert ends(PROMPT + 1) is None
        assert str(ends(PROMPT + 3)) == "hf_criterion(EosTokenCriteria)"

    def test_it_is_not_asked_before_a_token_is_generated(self) -> None:
        from transformers import EosTokenCriteria, MaxLengthCriteria

        both = HFCriterion(EosTokenCriteria(3)) | HFCriterion(MaxLengthCriteria(2))
        assert both(PROMPT) is None
        assert both(PROMPT + 1)

    def test_it_ends_a_task_beside_another_bound(self) -> None:
        from transformers import MaxLengthCriteria

        model = Model(TableRunner([[0.0, 1.0], [1.0, 0.0]]))
        generation = model.generate([0], max_new_tokens=9, stop=HFCriterion(MaxLengthCriteria(4)))
        assert generation.tokens == (1, 0, 1)
        assert str(generation.stop_reason) == "hf_criterion(MaxLengthCriteria)"

    def test_it_keeps_the_laws(self) -> None:
        from transformers import EosTokenCriteria

        check_stopping(HFCriterion(EosTokenCriteria([1, 3])))

    def test_on_a_real_model(self, model: Model) -> None:
        from transformers import MaxLengthCriteria

        stop = HFCriterion(MaxLengthCriteria(len(model.encode("one two")) + 3))
        assert len(model.generate("one two", max_new_tokens=8, stop=stop).tokens) == 3
