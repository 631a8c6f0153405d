"""Plugins by name: ours, those of other packages, those of this session, and those that are broken."""

from __future__ import annotations

import gc
import logging
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest

import ovdecode as od
from ovdecode import registry
from ovdecode.errors import ConfigurationError, UnknownNameError
from ovdecode.strategy import Decoding, Strategy

MODULE = """
from dataclasses import dataclass
from ovdecode import Strategy

@dataclass(frozen=True)
class Theirs(Strategy):
    width: int = 3
    def decode(self, prompt, stop, rng):
        yield prompt
        return prompt

NOT_A_CLASS = 3
"""


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is registered in a test is forgotten after it."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.setattr(registry, "_broken", {})
    registry._announced.cache_clear()
    yield
    registry._announced.cache_clear()


@pytest.fixture
def installed(session: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A package beside ours, of which one plugin works and five do not."""
    (tmp_path / "their_plugins.py").write_text(MODULE)
    (tmp_path / "their_broken.py").write_text("raise OSError('no such library')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("their_plugins", "their_broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    group = "ovdecode.strategies"
    theirs = [
        EntryPoint("theirs", "their_plugins:Theirs", group),
        EntryPoint("gone", "their_plugins:Gone", group),
        EntryPoint("number", "their_plugins:NOT_A_CLASS", group),
        EntryPoint("missing", "no_such_module:Thing", group),
        EntryPoint("broken", "their_broken:Thing", group),
        EntryPoint("foreign", "pathlib:Path", group),
    ]

    def both(*, group: str) -> list[EntryPoint]:
        return [*entry_points(group=group), *(theirs if group == "ovdecode.strategies" else [])]

    monkeypatch.setattr(registry, "entry_points", both)


@pytest.mark.parametrize("family", list(registry.GROUPS))
def test_ours_are_found_by_entry_points_and_all_load(family: str) -> None:
    announced = {entry.name for entry in entry_points(group=registry.GROUPS[family])}
    assert announced
    assert announced <= set(registry.names(family))
    assert registry.broken(family) == {}
    for name in announced:
        plugin = registry.lookup(family, name)
        assert (plugin.name, plugin.family) == (name, family)
        assert getattr(od, plugin.__name__) is plugin


@pytest.mark.usefixtures("installed")
def test_a_broken_plugin_is_reported_and_the_rest_work(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="ovdecode"):
        found = registry.names("strategy")
        registry.names("strategy")
    assert {"greedy", "theirs"} <= set(found)
    assert found == sorted(found)
    broken = registry.broken("strategy")
    assert set(broken) == {"gone", "number", "missing", "broken", "foreign"}
    assert isinstance(broken["broken"], OSError)
    assert isinstance(broken["missing"], ModuleNotFoundError)
    assert isinstance(broken["number"], ConfigurationError)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 5  # once each
    assert any("`broken` (their_broken:Thing)" in each and "no such library" in each for each in told)
    assert str(od.parse("theirs:width=5")) == "theirs:width=5"


@pytest.mark.usefixtures("installed")
def test_a_broken_plugin_that_is_asked_for_says_why() -> None:
    with pytest.raises(UnknownNameError, match=r"strategy `broken` is installed but does not load.*no such library"):
        od.parse("broken")


@pytest.mark.usefixtures("installed")
def test_what_is_not_asked_for_is_not_loaded() -> None:
    registry.lookup("strategy", "greedy")
    assert "their_plugins" not in sys.modules
    registry.lookup("strategy", "theirs")
    assert "their_plugins" in sys.modules
    assert "their_broken" not in sys.modules


@pytest.mark.usefixtures("session")
def test_a_decorator_registers_for_this_session() -> None:
    @od.register("mine")
    @dataclass(frozen=True)
    class Mine(Strategy):
        size: int = 2

        def decode(self, prompt: Any, stop: Any, rng: Any) -> Decoding:
            logits = yield prompt
            return prompt + int(logits.argmax())

    assert registry.lookup("strategy", "mine") is Mine
    assert od.parse("mine:size=4") == Mine(size=4)
    assert "mine" in registry.names("strategy")
    assert "mine" not in registry.names("processor")
    model = od.Model(od.TableRunner([[0.0, 1.0], [1.0, 0.0]]))
    assert model.generate([0], "mine").tokens == (1,)


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("thing", [3, int, object(), lambda: None])
def test_only_plugins_are_registered(thing: Any) -> None:
    with pytest.raises(ConfigurationError, match="`wrong` must be a class that extends one of strategy, processor"):
        od.register("wrong")(thing)


@pytest.mark.parametrize(
    "name", ["", "two words", "a:b", "a|b", "~a", "{a", 'a"b', "a,b", "a=b", "(a)", "[a]", "a&b", 3]
)
def test_a_name_that_no_spec_can_write_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"a plugin's name must be one word .*got .*write @register"):
        od.register(name)


def test_a_decorator_without_a_name_is_told() -> None:
    """The class was replaced by a function, and nothing was said."""
    with pytest.raises(
        ConfigurationError, match=r"a plugin's name must be one word .*write @register\(\"my_method\"\)"
    ):
        od.register(od.Greedy)  # type: ignore[arg-type]


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("name", ["a{b", "1.5", "mine-2", "größe"])
def test_a_name_that_a_spec_can_write_is_found(name: str) -> None:
    @od.register(name)
    @dataclass(frozen=True)
    class Mine(od.Greedy):
        pass

    assert od.parse(name) == Mine()


@pytest.mark.usefixtures("session")
def test_a_class_with_an_init_of_its_own_is_refused() -> None:
    """Its parameters were no fields: a spec string could not tell one of its plugins from another."""

    class Mine(od.Greedy):
        def __init__(self, size: int = 3) -> None:
            super().__init__()

    with pytest.raises(ConfigurationError, match=r"`mine` must be a frozen dataclass.*write @dataclass\(frozen=True\)"):
        od.register("mine")(Mine)


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("loaded", [True, False])
def test_one_that_takes_the_place_of_ours_is_told_once(loaded: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever loads a file must not find another `greedy` in its place and not know it."""
    registry._registered.pop(("strategy", "greedy"), None)
    if loaded:
        registry.lookup("strategy", "greedy")

    with caplog.at_level(logging.WARNING, logger="ovdecode"):
        for _ in range(2):

            @od.register("greedy")
            @dataclass(frozen=True)
            class Mine(od.Sampling):
                pass

        assert registry.lookup("strategy", "greedy") is Mine
    (told,) = [record.getMessage() for record in caplog.records]
    assert "strategy `greedy` was ovdecode.strategies.greedy.Greedy and is" in told
    assert "test_registry.test_one_that_takes_the_place_of_ours_is_told_once.<locals>.Mine from now on" in told


@pytest.mark.parametrize(
    ("family", "name", "message"),
    [
        ("strategy", "gredy", "unknown strategy `gredy`; did you mean `greedy`"),
        ("processor", "topk", "unknown processor `topk`; did you mean `top_k`"),
        ("stopping", "stop_sting", "did you mean `stop_string`"),
        ("proposer", "qqq", "unknown proposer `qqq`; known: draft_model, draft_tree, early_exit"),
        ("strategy", "BeamSearch", "unknown strategy `BeamSearch`; did you mean `beam`[?]$"),
        ("strategy", "beam_search", "did you mean `beam`[?]$"),
        ("strategy", "classifier_free_guidance", "did you mean `cfg`[?]$"),
        ("strategy", "multinomial", "did you mean `sampling`[?]$"),
        ("strategy", "majority_vote", "did you mean `self_consistency`[?]$"),
        ("processor", "Nucleus", "did you mean `top_p`[?]$"),
        ("processor", "tfs", "did you mean `tail_free`[?]$"),
        ("processor", "smoothing", "did you mean `quadratic`[?]$"),
        ("processor", "lark", "did you mean `grammar`[?]$"),
        ("processor", "eta_cutoff", "did you mean `eta`[?]$"),
        ("processor", "epsilon_cutoff", "did you mean `epsilon`[?]$"),
        ("processor", "typical_p", "did you mean `typical`[?]$"),
        ("processor", "top_nsigma", "did you mean `top_n_sigma`[?]$"),
        ("processor", "mirostat_2", "did you mean `mirostat`[?]$"),
        ("processor", "repetition_penalty", "did you mean `repetition`[?]$"),
        ("processor", "no_repeat_ngram_size", "did you mean `no_repeat_ngram`[?]$"),
        ("strategy", "assisted decoding", "did you mean `speculative`[?]$"),
        ("strategy", "speculative_decoding", "did you mean `speculative`[?]$"),
        ("strategy", "penalty_alpha", "did you mean `contrastive_search`[?]$"),
        ("strategy", "stochastic_beam_search", "did you mean `stochastic_beam`[?]$"),
        ("strategy", "lookahead decoding", "did you mean `lookahead`[?]$"),
        ("proposer", "prompt_lookup_decoding", "did you mean `prompt_lookup`[?]$"),
    ],
)
def test_an_unknown_name_is_told_its_neighbours(family: str, name: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        registry.lookup(family, name)


@pytest.mark.parametrize(
    ("family", "name", "place"),
    [
        ("strategy", "fsd", "`fsd` is a processor, as in sampling:processors=(fsd) or greedy:processors=(fsd)"),
        ("strategy", "top_p", "`top_p` is a processor, as in sampling:processors=(top_p:p=…) or "),
        ("strategy", "nucleus", "`top_p` is a processor, as in "),
        ("strategy", "prompt_lookup", "`prompt_lookup` is a proposer, as in speculative:proposer=(prompt_lookup)"),
        ("strategy", "chrf", "`chrf` is a utility, as in mbr:utility=(chrf); `chrf` is a metric"),
        ("strategy", "prompt_lookup_decoding", "`prompt_lookup` is a proposer, as in speculative:"),
        ("strategy", "xtc", "`xtc` is a processor, as in "),
        ("strategy", "mirostat", "`mirostat` is a processor, as in "),
        ("processor", "eos", "`eos` is a stopping criterion"),
        ("utility", "greedy", "`greedy` is a strategy"),
    ],
)
def test_a_name_of_another_family_is_told_where_it_belongs(family: str, name: str, place: str) -> None:
    with pytest.raises(UnknownNameError) as raised:
        registry.lookup(family, name)
    assert str(raised.value).startswith(f"unknown {family} `{name}`; {place}")


@pytest.mark.parametrize("family", list(registry.GROUPS))
def test_no_alias_is_a_name_or_means_two_plugins(family: str) -> None:
    plugins = [registry.lookup(family, name) for name in registry.names(family)]
    words = [word for plugin in plugins for word in plugin.__dict__.get("aliases", ())]
    assert len({*words, *registry.names(family)}) == len(words) + len(plugins)


@pytest.mark.usefixtures("session")
def test_aliases_are_not_inherited() -> None:
    @od.register("mine")
    @dataclass(frozen=True)
    class Mine(od.Sampling):
        pass

    assert registry.aliases("strategy")["multinomial"] == "sampling"


def test_an_attribute_that_is_no_plugin() -> None:
    with pytest.raises(AttributeError, match="`ovdecode` has no attribute `Gredy`"):
        od.Gredy  # noqa: B018


@pytest.mark.usefixtures("session")
def test_of_two_that_announce_one_name_the_first_wins_and_that_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(*, group: str) -> list[EntryPoint]:
        return [*entry_points(group=group), EntryPoint("greedy", "elsewhere:Greedy", group)]

    monkeypatch.setattr(registry, "entry_points", twice)
    with caplog.at_level(logging.WARNING, logger="ovdecode"):
        assert registry.lookup("strategy", "greedy") is od.Greedy
    (told,) = [record.getMessage() for record in caplog.records]
    assert "`greedy` is announced twice" in told
    assert "elsewhere:Greedy is left out" in told


def test_a_class_that_is_local_to_a_function_is_not_kept() -> None:
    """What its methods hold, a sequence for one, was held as long as the program ran, and so was its cache."""

    def use() -> weakref.ref[type]:
        @dataclass(frozen=True)
        class Local(od.Strategy):
            width: int = 3

            def decode(self, prompt, stop, rng):  # type: ignore[no-untyped-def]
                yield prompt

        Local(4)
        return weakref.ref(Local)

    gone = use()
    gc.collect()
    assert gone() is None
