"""Spec strings: every plugin as text and back, and an error that says what is wrong."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import ovdecode as od
from ovdecode import registry
from ovdecode.errors import ConfigurationError, ParameterError, UnknownNameError
from ovdecode.processor import Chain
from ovdecode.registry import lookup, names
from ovdecode.spec import format_spec, parameters, parse
from ovdecode.stopping import AllOf, AnyOf

KNOWN: list[tuple[str, Any]] = [
    ("greedy", od.Greedy()),
    ("sampling", od.Sampling()),
    ("sampling:temperature=0.8,top_p=0.95", od.Sampling(temperature=0.8, top_p=0.95)),
    ("beam:num_beams=2,length_penalty=0.6", od.BeamSearch(num_beams=2, length_penalty=0.6)),
    ("beam:early_stopping=never", od.BeamSearch(early_stopping="never")),
    ("beam:early_stopping=true", od.BeamSearch(early_stopping=True)),
    (
        "greedy:processors=(repetition:penalty=1.2|no_repeat_ngram:size=3)",
        od.Greedy(processors=od.RepetitionPenalty(1.2) | od.NoRepeatNgram(3)),
    ),
    (
        "best_of_n:n=2,strategy=(best_of_n:n=3,strategy=(sampling:top_k=5))",
        od.BestOfN(n=2, strategy=od.BestOfN(n=3, strategy=od.Sampling(top_k=5))),
    ),
    (
        "speculative:strategy=(sampling:temperature=0.7),proposer=(prompt_lookup:num_tokens=4)",
        od.Speculative(strategy=od.Sampling(temperature=0.7), proposer=od.PromptLookup(num_tokens=4)),
    ),
]

STOPS: list[tuple[str, Any]] = [
    ("eos", od.Eos()),
    ("eos:tokens=[1,2]", od.Eos([1, 2])),
    ("max_new_tokens:count=64|eos", od.MaxNewTokens(64) | od.Eos()),
    ("max_new_tokens:count=64&eos", od.MaxNewTokens(64) & od.Eos()),
    ("~eos", ~od.Eos()),
    ("~(eos|max_length:length=4)", ~(od.Eos() | od.MaxLength(4))),
    ("~~eos", ~~od.Eos()),
    ("(eos|max_length:length=4)&max_new_tokens:count=2", (od.Eos() | od.MaxLength(4)) & od.MaxNewTokens(2)),
    ('stop_string:string="\\n\\n"', od.StopString("\n\n")),
    ('stop_string:string=["a|b","(",x]', od.StopString(["a|b", "(", "x"])),
    ('stop_string:string="3"', od.StopString("3")),
    ('stop_string:string="True",keep=true', od.StopString("True", keep=True)),
]


@pytest.mark.parametrize(("text", "plugin"), KNOWN, ids=[each[0] for each in KNOWN])
def test_a_strategy_is_its_text(text: str, plugin: Any) -> None:
    assert parse(text) == plugin
    assert parse(str(plugin)) == plugin
    assert str(plugin) == text


@pytest.mark.parametrize(("text", "plugin"), STOPS, ids=[each[0] for each in STOPS])
def test_a_stop_is_its_text(text: str, plugin: Any) -> None:
    assert parse(text, "stopping") == plugin
    assert parse(str(plugin), "stopping") == plugin
    assert str(plugin) == text


def test_a_bar_binds_less_than_an_and() -> None:
    one, two, three = od.Eos(), od.MaxLength(1), od.MaxLength(2)
    found = parse("eos|max_length:length=1&max_length:length=2", "stopping")
    assert found == one | (two & three)
    assert parse(str((one | two) & three), "stopping") == (one | two) & three
    assert isinstance(parse("eos|eos|eos", "stopping"), AnyOf)
    assert len(parse("eos|eos|eos", "stopping").criteria) == 3  # type: ignore[attr-defined]


def test_space_means_nothing_outside_of_quotes() -> None:
    assert parse(" sampling : temperature = 0.5 , top_k = 3 ") == od.Sampling(temperature=0.5, top_k=3)
    assert parse('stop_string : string = " a  b "', "stopping") == od.StopString(" a  b ")


def test_values_are_read_by_their_look() -> None:
    found = parse("stop_string:string=word,keep=TRUE", "stopping")
    assert found == od.StopString("word", keep=True)
    assert parse("sampling:temperature=none,top_p=1e-1") == od.Sampling(temperature=None, top_p=0.1)
    assert parse("greedy:processors=(logit_bias:bias=[[1,-inf],[2,0.5]])", "strategy") is not None


OBJECT = '{"a": [1, {"b|c": ")&~\\" ="}],\n "d": null}'


def test_a_json_object_is_text_that_needs_no_quotes() -> None:
    assert parse(f"stop_string:string={OBJECT},keep=true", "stopping") == od.StopString(OBJECT, keep=True)
    assert parse(f"(stop_string:string= {OBJECT} )|eos", "stopping") == od.StopString(OBJECT) | od.Eos()
    assert str(od.StopString(OBJECT)) == f"stop_string:string={OBJECT}"
    assert parse(f"stop_string:string=[{OBJECT},{{}},a{{2}}]", "stopping") == od.StopString([OBJECT, "{}", "a{2}"])


@pytest.mark.parametrize("text", ["{", "}", "{a", "{}{}", "{} ", " {}", '{"a": 1}}', '{"a"}', "{" * 9999])
def test_what_only_looks_like_a_json_object_is_quoted(text: str) -> None:
    assert parse(str(od.StopString(text)), "stopping") == od.StopString(text)
    assert '"' in str(od.StopString(text)) or text == "}"


def test_a_malformed_json_object_is_shown() -> None:
    with pytest.raises(ConfigurationError, match=r"a JSON object, or quotes, at '{\"a\": }' \(Expecting value"):
        parse('stop_string:string={"a": }', "stopping")


def test_an_empty_chain_has_a_name() -> None:
    assert parse(str(Chain()), "processor") == Chain()


@pytest.mark.parametrize("family", ["strategy", "processor", "stopping", "proposer"])
def test_what_is_left_out_takes_its_default(family: str) -> None:
    for name in names(family):
        plugin = lookup(family, name)
        if all(default is not dataclasses.MISSING for default in parameters(plugin).values()):
            try:
                default = plugin()
            except ConfigurationError as error:  # one of two parameters is needed
                with pytest.raises(ConfigurationError, match=re.escape(str(error))):
                    parse(name, family)
            else:
                assert parse(name, family) == default
                assert str(default) == name


@pytest.mark.parametrize(
    ("text", "family", "error", "message"),
    [
        ("gredy", "strategy", UnknownNameError, "unknown strategy `gredy`; did you mean `greedy`"),
        ("zzz", "strategy", UnknownNameError, "known: .*greedy"),
        ("top_k:k=3", "strategy", UnknownNameError, "unknown strategy `top_k`"),
        ("greedy|top_k:k=3", "strategy", UnknownNameError, "`top_k` is a processor, as in sampling:processors="),
        (
            "sampling:temprature=1",
            "strategy",
            UnknownNameError,
            "unknown parameter of strategy `sampling`: `temprature`; did you mean `temperature`",
        ),
        ("sampling:temperature=0", "strategy", ConfigurationError, "`temperature`.*got 0"),
        ("sampling:temperature=hot", "strategy", ConfigurationError, "`temperature`.*got 'hot'"),
        ("sampling:temperature=(greedy)", "strategy", ConfigurationError, "a plain value"),
        ("best_of_n:strategy=(gredy)", "strategy", UnknownNameError, "did you mean `greedy`"),
        ("best_of_n:strategy=gredy", "strategy", UnknownNameError, "did you mean `greedy`"),
        ("speculative:strategy=beam", "strategy", ConfigurationError, "that draws token by token, .*, got `beam`"),
        ("speculative:strategy=cfg", "strategy", ConfigurationError, "cfg or dola, goes around this .*, got `cfg`"),
        ("sampling:processors=temperature", "strategy", ConfigurationError, "a value for `temperature`"),
        ("greedy:processors=repetition", "strategy", ConfigurationError, "a value for `penalty` of `repetition`"),
        ("top_k:k=true", "processor", ConfigurationError, "`k` of `top_k` must be a whole number, got True"),
        ("greedy:processors=none", "strategy", ConfigurationError, "`processors` of `greedy` must be a processor"),
        ("max_new_tokens", "stopping", ConfigurationError, "a value for `count` of `max_new_tokens`"),
        ("greedy|greedy", "strategy", ConfigurationError, "only processors and stopping criteria"),
        ("~greedy", "strategy", ConfigurationError, "only processors and stopping criteria"),
        ("eos&", "stopping", ConfigurationError, "its end"),
        ("eos|", "stopping", ConfigurationError, "its end"),
        ("(eos", "stopping", ConfigurationError, r"`\)` before"),
        ("eos)", "stopping", ConfigurationError, "nothing after 'eos'"),
        ("eos eos", "stopping", ConfigurationError, "nothing after 'eos'"),
        ("", "strategy", ConfigurationError, "must have the name of a strategy before its end"),
        ("", "stopping", ConfigurationError, "must have the name of a stopping criterion before its end"),
        (":top_k=3", "strategy", ConfigurationError, "must have the name of a strategy before `:`"),
        ("   ", "strategy", ConfigurationError, "its end"),
        ("sampling:", "strategy", ConfigurationError, "must have a parameter of `sampling` before its end"),
        ("sampling:=3", "strategy", ConfigurationError, "must have a parameter of `sampling` before `=`"),
        ("sampling:top_k", "strategy", ConfigurationError, "`=` before"),
        ("sampling:top_k=", "strategy", ConfigurationError, "a value for `top_k` of `sampling` before its end"),
        ("sampling:top_k=,top_p=1", "strategy", ConfigurationError, "a value for `top_k` of `sampling` before `,`"),
        ("mbr:strategy=(sampling:top_k=)", "strategy", ConfigurationError, r"`top_k` of `sampling` before `\)`"),
        ("speculative:strategy=", "strategy", ConfigurationError, "must have the name of a strategy before its end"),
        ("sampling:top_k=3,", "strategy", ConfigurationError, "its end"),
        ("sampling,top_k=3", "strategy", ConfigurationError, "nothing after"),
        ("eos:tokens=[1,2", "stopping", ConfigurationError, "its end"),
        ('stop_string:string="open', "stopping", ConfigurationError, "a closed string"),
    ],
)
def test_an_error_says_what_is_wrong(text: str, family: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse(text, family)


@pytest.mark.parametrize("given", [[od.TopK(3), od.TopP(0.9)], "top_k:k=3"])
def test_what_is_no_processor_is_told_how_to_write_one(given: Any) -> None:
    message = 'must be a processor: TopK(50) | TopP(0.9), say, or od.parse("top_k:k=50", "processor"), got '
    with pytest.raises(ParameterError, match=re.escape(message)):
        od.Sampling(processors=given)


# Any plugin, as text and back

fractions = st.floats(0.01, 1.0)
processors = st.recursive(
    st.one_of(
        st.builds(od.TopK, st.integers(1, 500)),
        st.builds(od.TopP, fractions),
        st.builds(od.Temperature, st.floats(0.01, 100)),
        st.builds(od.MinP, fractions),
        st.builds(od.RepetitionPenalty, st.floats(0.1, 5)),
        st.builds(od.MinNewTokens, st.integers(1, 20)),
        st.builds(od.SuppressedTokens, st.lists(st.integers(0, 99), min_size=1, max_size=4)),
    ),
    lambda inner: st.builds(lambda one, other: one | other, inner, inner),
    max_leaves=5,
)
strings = st.text(min_size=1, max_size=12)
stops = st.recursive(
    st.one_of(
        st.builds(od.Eos),
        st.builds(od.MaxLength, st.integers(1, 999)),
        st.builds(od.MaxTime, st.floats(1e-9, 1e9)),
        st.builds(od.StopString, strings, st.booleans()),
        st.builds(od.StopString, st.lists(strings, min_size=2, max_size=3)),
        st.builds(
            od.StopTokens,
            st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), min_size=1, max_size=3),
        ),
    ),
    lambda inner: st.one_of(
        st.builds(lambda one, other: one | other, inner, inner),
        st.builds(lambda one, other: one & other, inner, inner),
        st.builds(lambda one: ~one, inner),
    ),
    max_leaves=8,
)
strategies = st.recursive(
    st.one_of(
        st.builds(od.Greedy, processors=processors),
        st.builds(
            od.Sampling,
            temperature=st.none() | st.floats(0.01, 9),
            top_p=st.none() | fractions,
            processors=processors,
        ),
        st.builds(od.BeamSearch, st.integers(1, 9), st.floats(-2, 2), st.sampled_from([True, False, "never"])),
    ),
    lambda inner: st.builds(od.BestOfN, st.integers(1, 9), inner, processors=processors),
    max_leaves=3,
)


@given(strategies)
def test_any_strategy_is_its_text(strategy: Any) -> None:
    assert parse(str(strategy)) == strategy


@given(processors)
def test_any_processor_is_its_text(processor: Any) -> None:
    assert parse(str(processor), "processor") == processor


@given(stops)
def test_any_stop_is_its_text(stop: Any) -> None:
    again = parse(str(stop), "stopping")
    assert format_spec(again) == str(stop)
    assert _flat(again) == _flat(stop)


def _flat(stop: Any) -> Any:
    """`a | (b | c)` is the same criterion as `(a | b) | c`."""
    if dataclasses.is_dataclass(stop) and hasattr(stop, "criteria"):
        parts: list[Any] = []
        for each in stop.criteria:
            parts += _flat(each)[1] if type(each) is type(stop) else [_flat(each)]
        return type(stop).__name__, parts
    return (type(stop).__name__, [_flat(stop.criterion)]) if hasattr(stop, "criterion") else stop


@given(st.text('sampling:top_k=3(),|&~[]" \\x', max_size=30))
def test_no_text_raises_anything_but_our_errors(text: str) -> None:
    assume("\\" not in text)
    for family in ("strategy", "stopping", "processor"):
        try:
            found = parse(text, family)
        except (ConfigurationError, UnknownNameError):
            continue
        assert parse(str(found), family) == found


def test_an_infinite_bias_is_a_number() -> None:
    bias = od.LogitBias({3: -math.inf})
    assert parse(str(bias), "processor") == bias


@pytest.mark.parametrize(
    ("text", "message"),
    [('stop_string:string="\\q"', "JSON"), ("top_k:k=1,k=2", "`k` of `top_k` once")],
)
def test_malformed_strings_and_repeated_parameters_are_refused(text, message):
    family = "stopping" if text.startswith("stop") else "processor"
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        parse(text, family)


def test_a_word_where_a_plugin_belongs_names_one() -> None:
    found = parse("speculative:proposer=prompt_lookup,strategy=sampling")
    assert found == od.Speculative(strategy=od.Sampling(), proposer=od.PromptLookup())


def test_a_combination_of_fewer_than_two_is_its_text() -> None:
    top_k, eos = od.TopK(3), od.Eos()
    assert top_k | Chain() == Chain() | top_k == top_k
    assert Chain() | Chain() == Chain()
    for processor in (Chain(), Chain((top_k,)), Chain((Chain((top_k, top_k)),)), Chain((Chain((top_k,)), top_k))):
        assert parse(str(processor), "processor") == processor
    for stop in (AnyOf((eos,)), AllOf((eos,)), AnyOf((eos & eos,)), AllOf((AnyOf((eos,)), eos))):
        assert parse(str(stop), "stopping") == stop


@dataclasses.dataclass(frozen=True)
class Factory(od.Strategy):
    """With a default that is made, and a field that is no parameter."""

    tokens: tuple[int, ...] = dataclasses.field(default_factory=tuple)
    derived: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "derived", 7)

    def decode(self, prompt: Any, stop: Any, rng: Any) -> Any:
        yield prompt
        return prompt


def test_made_defaults_are_not_missing_and_derived_fields_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    od.register("factory")(Factory)
    assert str(Factory()) == "factory"
    assert parse("factory") == Factory()
    assert parse(str(Factory((1, 2)))) == Factory((1, 2))
    assert str(Factory((1, 2))) == "factory:tokens=[1,2]"


def test_a_function_prints_the_same_inside_a_combination() -> None:
    odd = od.When(lambda sequence: True, "odd")
    assert str(od.Eos() | odd) == f"eos|{odd}"
    assert str(~odd) == f"~{odd}"


def test_an_error_of_a_parameter_says_what_and_survives_a_process() -> None:
    with pytest.raises(ParameterError) as raised:
        od.BestOfN(0)
    error = pickle.loads(pickle.dumps(raised.value))
    assert str(error) == str(raised.value) == "`n` of `best_of_n` must be a whole number of at least 1, got 0"
    assert (error.plugin, error.parameter) == ("best_of_n", "n")


def test_types_are_checked_before_and_whatever_a_class_does_itself() -> None:
    @dataclasses.dataclass(frozen=True)
    class Late(od.Strategy):
        width: int = 1

        def __post_init__(self) -> None:
            assert self.width + 1

    with pytest.raises(ConfigurationError, match="`width` of `Late` must be a whole number, got 'x'"):
        Late(width="x")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"`processors` of `greedy` must be a processor: .*, got None"):
        od.Greedy(processors=None)  # type: ignore[arg-type]
