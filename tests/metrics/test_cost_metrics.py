from __future__ import annotations

import math

import pytest

from ovdecode import (
    CacheBytes,
    ForwardsPerToken,
    Info,
    Length,
    Model,
    Stopped,
    TimeToFirstToken,
    TokensPerSecond,
)
from ovdecode.errors import ConfigurationError
from ovdecode.generation import Cost
from ovdecode.metric import Result

TEXT = Result(
    "abcd",
    tokens=(0, 1, 2, 3),
    stop="eos",
    cost=Cost(forwards=3, tokens=9, seconds=2.0, time_to_first_token=0.5, cache_bytes=512),
    info={"acceptance": 0.75},
)


def test_figures_by_hand() -> None:
    metrics = [Length(), TokensPerSecond(), TimeToFirstToken(), ForwardsPerToken(), Info(), CacheBytes()]
    assert [metric(TEXT) for metric in metrics] == [4.0, 2.0, 0.5, 0.75, 0.75, 512.0]


def test_what_is_not_known_is_no_number() -> None:
    metrics = [TokensPerSecond(), TimeToFirstToken(), ForwardsPerToken(), Info("votes"), CacheBytes()]
    assert [math.isnan(metric(Result(""))) for metric in metrics] == [True] * 5
    assert Length()(Result("")) == 0.0


def test_why_it_ended() -> None:
    assert Stopped()(TEXT) == Stopped("eos")(TEXT) == 1.0
    assert Stopped("stop_string")(TEXT) == Stopped()(Result("")) == 0.0


@pytest.mark.parametrize(("kind", "parameter"), [(Stopped, "reason"), (Info, "key")])
def test_an_empty_name_is_refused(kind: type[Stopped] | type[Info], parameter: str) -> None:
    with pytest.raises(ConfigurationError, match=f"`{parameter}` of `{kind.name}` must be the name of"):
        kind("")


def test_of_a_real_generation(model: Model) -> None:
    greedy, drafted = (
        Result.of(model.generate("one two one two one two one", method, max_new_tokens=8, ignore_eos=True))
        for method in ("greedy", "speculative")
    )
    assert Length()(greedy) == Length()(drafted) == 8.0
    assert Stopped("max_new_tokens")(greedy) == 1.0
    assert ForwardsPerToken()(greedy) == 1.0 > ForwardsPerToken()(drafted)
    assert math.isnan(Info()(greedy))
    assert 0 < Info()(drafted) <= 1
    assert 0 < TimeToFirstToken()(greedy) < 8 / TokensPerSecond()(greedy)
