"""Every registered plugin keeps every law; one that needs arguments has its examples in a table below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ovdecode import (
    ContrastiveDecoding,
    DraftModel,
    LogitsProcessor,
    Model,
    Sampling,
    Speculative,
    StoppingCriterion,
    Strategy,
    When,
    parse,
    registry,
)
from ovdecode.errors import ConfigurationError
from ovdecode.plugin import Plugin
from ovdecode.proposer import Proposer
from ovdecode.testing import (
    check_processor,
    check_stopping,
    check_strategy,
    distribution,
    law_configuration,
    law_distribution,
    law_isolation,
    law_nothing_left,
    law_stopping,
    table_model,
)
from ovdecode.testing.cases import PROMPTS

Make = Callable[[Model], Plugin]
"""An example as a function of a second model, for plugins that need one."""

STRATEGIES: dict[str, list[str | Make]] = {
    "sampling": ["sampling", "sampling:temperature=0.7,top_k=4,top_p=0.9"],
    "beam": [
        "beam:num_beams=3,num_return_sequences=3",
        "beam:num_beams=2,length_penalty=0.0,early_stopping=true",
        "beam:num_beams=3,early_stopping=never",
    ],
    "best_of_n": ["best_of_n:n=3", "best_of_n:n=2,score=mean_logprob,strategy=(beam:num_beams=2)"],
    "contrastive_decoding": [
        lambda other: ContrastiveDecoding(other, amateur_temperature=0.5),
        lambda other: ContrastiveDecoding(other, beta=0.5, temperature=1.0),
    ],
    "speculative": [
        "speculative",
        "speculative:strategy=(sampling:temperature=0.8),proposer=(prompt_lookup:num_tokens=2)",
        lambda other: Speculative(Sampling(), DraftModel(other, num_tokens=2)),
    ],
}
PROCESSORS: dict[str, list[str | Make]] = {
    "temperature": ["temperature:temperature=0.7", "temperature:temperature=3"],
    "top_k": ["top_k:k=1", "top_k:k=3", "top_k:k=100"],
    "top_p": ["top_p:p=0.6", "top_p:p=1"],
    "min_p": ["min_p:p=0.2", "min_p:p=1"],
    "typical": ["typical:mass=0.6", "typical:mass=1"],
    "repetition": ["repetition:penalty=1.3", "repetition:penalty=2,window=2,prompt=false"],
    "presence": ["presence:penalty=0.5", "presence:penalty=-1"],
    "frequency": ["frequency:penalty=0.5", "frequency:penalty=-1"],
    "no_repeat_ngram": ["no_repeat_ngram:size=3", "no_repeat_ngram:size=1"],
    "logit_bias": ["logit_bias:bias=[[2,5.0],[3,-1.5],[99,1]]"],
    "allowed_tokens": ["allowed_tokens:tokens=[0,1,2,4]"],
    "suppressed_tokens": ["suppressed_tokens:tokens=[3,5]"],
    "min_new_tokens": ["min_new_tokens:count=2"],
}
STOPPING: dict[str, list[str | Make]] = {
    "max_new_tokens": ["max_new_tokens:count=1", "max_new_tokens:count=20"],
    "max_length": ["max_length:length=1", "max_length:length=20"],
    "max_time": ["max_time:seconds=7200"],
    "eos": ["eos", "eos:tokens=[1,3]"],
    "stop_tokens": ["stop_tokens:sequences=[[1,2],[4]]"],
    "loop": ["loop", "loop:max_period=3,repeats=2"],
    "stop_string": [
        "stop_string:string=cd",
        "stop_string:string=[ab,cde]",
        "stop_string:string=cd,keep=true",
    ],
    "stop_regex": ['stop_regex:pattern="c.e"', 'stop_regex:pattern="c.e",keep=true'],
    "thinking_budget": ["thinking_budget:count=2,opening=b,closing=c"],
    "confidence": ["confidence:threshold=-1,window=2"],
    "when": [lambda other: When(lambda sequence: sequence.token % 2 == 1, "odd")],
}
PROPOSERS: dict[str, list[str | Make]] = {
    "prompt_lookup": ["prompt_lookup", "prompt_lookup:num_tokens=2,max_ngram=2,min_ngram=2"],
    "draft_model": [
        lambda other: DraftModel(other, num_tokens=1),
        lambda other: DraftModel(other, num_tokens=3),
    ],
}
TABLES = {
    "strategy": STRATEGIES,
    "processor": PROCESSORS,
    "stopping": STOPPING,
    "proposer": PROPOSERS,
}
COMBINATIONS = [
    "eos|max_new_tokens:count=4|stop_string:string=b",
    "eos&max_new_tokens:count=3",
    "~eos",
    "stop_string:string=ab&max_new_tokens:count=6",
    "(eos|stop_string:string=b)&~loop:repeats=2",
]


def examples(family: str) -> list[tuple[str, int]]:
    """Name and place of every example; one even for a plugin that has none, whose test then says so."""
    table = TABLES[family]
    return [(name, place) for name in registry.names(family) for place in range(len(table.get(name, [name])))]


def example(family: str, name: str, place: int = 0, other: Model | None = None) -> Plugin:
    """An instance of a plugin: one of the table's, or the default one of a plugin that has no entry."""
    made = TABLES[family].get(name, [name])[place]
    try:
        return parse(made, family) if isinstance(made, str) else made(other or table_model(1))
    except ConfigurationError as error:
        table = next(key for key, value in globals().items() if value is TABLES[family])
        pytest.fail(f"{family} `{name}` needs an example in `{table}` of tests/test_conformance.py: {error}")


def every(family: str) -> pytest.MarkDecorator:
    cases = examples(family)
    return pytest.mark.parametrize(("name", "place"), cases, ids=[f"{name}-{place}" for name, place in cases])


def strategy(name: str, place: int = 0, other: Model | None = None) -> Strategy:
    made = example("strategy", name, place, other)
    assert isinstance(made, Strategy)
    return made


@pytest.mark.parametrize("family", TABLES)
def test_every_plugin_loads_and_every_example_has_a_plugin(family: str) -> None:
    assert not registry.broken(family)
    assert set(TABLES[family]) <= set(registry.names(family))


def test_a_plugin_that_lacks_an_example_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(PROCESSORS, "top_k")
    with pytest.raises(pytest.fail.Exception, match="`top_k` needs an example in `PROCESSORS` of tests"):
        example("processor", "top_k")


@every("strategy")
def test_strategy(name: str, place: int) -> None:
    check_strategy(strategy(name, place))


@every("processor")
def test_processor(name: str, place: int) -> None:
    processor = example("processor", name, place)
    assert isinstance(processor, LogitsProcessor)
    check_processor(processor)


@every("stopping")
def test_stopping(name: str, place: int) -> None:
    criterion = example("stopping", name, place)
    assert isinstance(criterion, StoppingCriterion)
    check_stopping(criterion)


@pytest.mark.parametrize("spec", COMBINATIONS)
def test_combined_stopping(spec: str) -> None:
    criterion = parse(spec, "stopping")
    assert isinstance(criterion, StoppingCriterion)
    check_stopping(criterion)


@every("proposer")
def test_proposer(name: str, place: int) -> None:
    proposer = example("proposer", name, place)
    assert isinstance(proposer, Proposer)
    law_configuration(proposer)
    speculative = Speculative(Sampling(top_k=3), proposer)
    check_strategy(speculative)
    for prompt in ([0], [1, 2, 3, 1, 2]):
        expected = distribution(Sampling(top_k=3), table_model(), prompt, max_new_tokens=3)
        law_distribution(speculative, expected, table_model(), prompt, max_new_tokens=3)


@pytest.mark.parametrize("name", registry.names("strategy"))
@pytest.mark.parametrize("processor", registry.names("processor"))
def test_strategy_with_processor(name: str, processor: str) -> None:
    processors = example("processor", processor)
    method = replace(strategy(name), processors=processors)
    model = table_model()
    law_isolation(method, model, PROMPTS[:2])
    law_stopping(method, model, PROMPTS[:2])


REAL_PROMPTS = [
    "The capital of France is",
    "Q: What is 2 + 2?\nA:",
    "one two three one two three one two",
    [{"role": "user", "content": "Name a colour."}],
]


@pytest.mark.parametrize("name", registry.names("strategy"))
def test_strategy_on_a_real_model(name: str, model: Model) -> None:
    method = strategy(name, other=model)
    law_isolation(method, model, REAL_PROMPTS, max_new_tokens=8)
    law_nothing_left(method, model, REAL_PROMPTS[:1], max_new_tokens=6, interruptions=2)
    assert model.runner.cache_in_use == 0
