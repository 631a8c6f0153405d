from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from ovdecode import Model, Random, Sampling, SelfConsistency, Sequence, Strategy, TableRunner, parse
from ovdecode.errors import ConfigurationError
from ovdecode.stopping import Stop
from ovdecode.strategy import Decoding
from ovdecode.testing import distribution

COIN = Model(TableRunner({(): np.log([0.75, 0.25])}))
LETTERS = Model(TableRunner({(): np.log([0.4, 0.3, 0.2, 0.1])}))


@dataclass(frozen=True)
class Given(Strategy):
    """Decoding i is text i of a list."""

    texts: tuple[str, ...] = ()

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        yield from ()
        return prompt + [ord(letter) - ord("a") for letter in self.texts[rng.key[-1]]]


def vote(*texts: str, pattern: str = "([bc])") -> tuple[list[tuple[str, float]], dict[str, float]]:
    method = SelfConsistency(len(texts), Given(texts), pattern)
    generation = LETTERS.generate([0], method, max_new_tokens=4)
    return [(each.text, each.score) for each in generation.alternatives], dict(generation.info)


def test_the_answer_of_most_wins_and_its_most_probable_text_stands_for_it() -> None:
    # Two for c, one for b, none from a; "ac" is more probable than "ddc".
    ranked, info = vote("b", "ddc", "a", "ac")
    assert ranked == [("ac", 2.0), ("ddc", 2.0), ("b", 1.0), ("a", 0.0)]
    assert info == {"votes": 2, "share": 0.5, "answers": 2}


def test_of_equally_many_votes_the_more_probable_answer_wins_whatever_the_order() -> None:
    expected = [("b", 1.0), ("c", 1.0)]
    assert vote("c", "b")[0] == vote("b", "c")[0] == expected


def test_answers_with_equal_votes_stay_together() -> None:
    ranked, _ = vote("ddb", "c", "b", "dc")
    assert [text for text, _ in ranked] == ["b", "ddb", "c", "dc"]


def test_without_any_answer_the_most_probable_text_is_first() -> None:
    ranked, info = vote("d", "a", "ad")
    assert ranked == [("a", 0.0), ("d", 0.0), ("ad", 0.0)]
    assert info == {"votes": 0, "share": 0.0, "answers": 0}


def test_the_law_is_that_of_the_majority() -> None:
    # Of three tosses, two or three; of two, both, or one, which is a tie that the more probable side wins.
    three = distribution(SelfConsistency(n=3, pattern="(.)"), COIN, [0], max_new_tokens=1)
    assert three == pytest.approx({(0,): 0.75**3 + 3 * 0.75**2 * 0.25, (1,): 0.25**3 + 3 * 0.25**2 * 0.75})
    two = distribution(SelfConsistency(n=2, pattern="(.)"), COIN, [0], max_new_tokens=1)
    assert two == pytest.approx({(0,): 15 / 16, (1,): 1 / 16})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5 apples and 3 pears make 8.", 8),
        ("#### 1,234", 1234),
        ("That is $18.50, then.", 18.5),
        ("1, 2, 3", 3),
        ("1,2,3", 3),
        ("The change is -7", -7),
        ("minus −7 degrees", -7),
        ("So 5-3", 3),
        ("(5)-3", 3),
        ("答案是18", 18),
        ("no number at all", None),
        ("", None),
    ],
)
def test_the_last_number(text: str, number: float | None) -> None:
    assert SelfConsistency().answer(text) == number


def test_one_number_however_it_is_written() -> None:
    answers = {SelfConsistency().answer(text) for text in ("1,000", "1000", "1000.00", "$1000.0")}
    assert len(answers) == 1


def test_the_pattern_is_taken_where_it_is_found_last() -> None:
    method = SelfConsistency(pattern=r"answer is (\w*)|result: (\w+)")
    assert method.answer("The answer is A. No, the answer is B") == "B"
    assert method.answer("result: 5") is None
    assert SelfConsistency(pattern="is ([^.]*)").answer("It is  A .") == "A"


@pytest.mark.parametrize("pattern", ["", "no group", "(", "(?:still) none"])
def test_a_pattern_without_a_group_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="`pattern` of `self_consistency` must be a regular expression with a"):
        SelfConsistency(pattern=pattern)


def test_spec_round_trip_with_a_pattern() -> None:
    method = SelfConsistency(5, Sampling(temperature=0.7), pattern=r'answer is "(\w+)"', alternatives=True)
    assert parse(str(method)) == method


def test_votes_on_a_real_model(model: Model) -> None:
    method = SelfConsistency(n=4, strategy=Sampling(temperature=0.7, top_k=20))
    generation = model.generate("Q: What is 2 + 2?\nA:", method, max_new_tokens=12, seed=1)
    votes = [each.score for each in generation.alternatives]
    assert len(votes) == 4
    assert votes == sorted(votes, reverse=True)
    assert generation.info["share"] == generation.info["votes"] / 4 == votes[0] / 4
    assert sum(votes) >= generation.info["votes"] ** 2
