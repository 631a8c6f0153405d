"""Every registered plugin keeps every law; one that needs arguments has its examples in a table below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from random import Random as Shuffle

import numpy as np
import pytest

from ovdecode import (
    BestOfN,
    Candidates,
    ContrastiveDecoding,
    CorpusPerplexity,
    DExperts,
    DraftModel,
    DraftTree,
    Engine,
    Ensemble,
    Entropy,
    Generation,
    Grammar,
    Greedy,
    HFCriterion,
    HFProcessor,
    LogitsProcessor,
    LogProbability,
    Mbr,
    Model,
    Perplexity,
    ProxyTuning,
    Sampling,
    Sequence,
    Speculative,
    StoppingCriterion,
    Strategy,
    Task,
    When,
    parse,
    registry,
)
from ovdecode.errors import ConfigurationError, LogitsError
from ovdecode.metric import Metric
from ovdecode.plugin import Plugin
from ovdecode.proposer import Proposer
from ovdecode.testing import (
    check_metric,
    check_processor,
    check_stopping,
    check_strategy,
    distribution,
    law_configuration,
    law_distribution,
    law_nothing_left,
    law_stopping,
    table_model,
)
from ovdecode.testing.cases import EOS, PROMPTS, difference, facts
from ovdecode.utility import Utility
from ovdecode.vocabulary import Letters

PACKAGE = "ovdecode.strategies."
Make = Callable[[Model], Plugin]
"""An example as a function of a second model, for plugins that need one."""


def needs_torch(plugin: Plugin) -> Plugin:
    """The plugin, where there is torch; elsewhere the test is skipped."""
    pytest.importorskip("torch", reason=f"`{plugin.name}` works with torch, which is not installed")
    return plugin


STRATEGIES: dict[str, list[str | Make]] = {
    "sampling": [
        "sampling",
        "sampling:temperature=0.7,top_k=4,top_p=0.9",
        "sampling:preset=llama.cpp,repetition_penalty=1.2,xtc_probability=0.5",
        "sampling:preset=hf,top_k=3",
    ],
    "beam": [
        "beam:num_beams=3,num_return_sequences=3",
        "beam:num_beams=2,length_penalty=0.0,early_stopping=true",
        "beam:num_beams=3,early_stopping=never",
        "beam:num_beams=2,preset=genai,score=gnmt",
        "beam:num_beams=2,preset=fairseq",
        "beam:num_beams=2,preset=vllm,num_return_sequences=2",
    ],
    "gumbel": ["gumbel", "gumbel:strategy=(sampling:temperature=0.7,top_k=3)"],
    "mirostat_sampling": ["mirostat_sampling:tau=1.0,eta=0.5", "mirostat_sampling:version=1,tau=0.5,m=3"],
    "adaptive_p_sampling": ["adaptive_p_sampling:target=0.3,processors=(top_k:k=4)"],
    "arithmetic": ["arithmetic:n=3", "arithmetic:n=2,strategy=(sampling:top_p=0.8)"],
    "beam_sampling": ["beam_sampling:num_beams=2,num_return_sequences=2"],
    "diverse_beam": [
        "diverse_beam:num_beams=4,num_return_sequences=4",
        "diverse_beam:num_beams=3,num_beam_groups=3,diversity=cumulative,preset=genai",
    ],
    "stochastic_beam": ["stochastic_beam:num_beams=3"],
    "constrained_beam": [
        "constrained_beam:num_beams=3,phrases=[[1],bd],strict=false",
        "constrained_beam:num_beams=3,phrases=[[1]],num_return_sequences=2",
    ],
    "exact_search": ["exact_search:length_penalty=1.0,max_nodes=5,num_return_sequences=2", "exact_search"],
    "a_star": ["a_star:length_penalty=1.0,max_nodes=5,batch_size=1", "a_star"],
    "best_first": ["best_first:num_beams=3,num_return_sequences=3", "best_first:batch_size=1"],
    "best_of_n": [
        "best_of_n:n=3",
        "best_of_n:n=2,score=mean_logprob,strategy=(beam:num_beams=2)",
        lambda other: BestOfN(3, model=other),
    ],
    "self_consistency": ['self_consistency:n=3,pattern="([a-c])"', "self_consistency:n=2,strategy=(beam)"],
    "mbr": [
        "mbr:n=3",
        "mbr:n=2,num_references=1,weighting=model,aggregate=true",
        "mbr:n=4,utility=token_f1,references=(sampling:top_k=2),num_references=12,pruning=0.8",
    ],
    "smc": [
        "smc:num_particles=2",
        "smc:num_particles=3,ess_threshold=1.0,resampling=multinomial,processors=(logit_bias:bias=[[2,1.5]])",
        "smc:num_particles=2,ess_threshold=0.9,proposal=(temperature:temperature=2),processors=(top_k:k=3)",
    ],
    "contrastive_decoding": [
        lambda other: ContrastiveDecoding(other, amateur_temperature=0.5),
        lambda other: ContrastiveDecoding(other, beta=0.5, strategy=Sampling()),
    ],
    "cfg": ["cfg", "cfg:negative_prompt=[3,1],strategy=(beam:num_beams=2)", "cfg:strategy=sampling"],
    "contrastive_search": ["contrastive_search", "contrastive_search:top_k=2,processors=(temperature:temperature=0.5)"],
    "dexperts": [lambda other: DExperts(other), lambda other: DExperts(None, other, strategy=Greedy())],
    "dola": ["dola", "dola:layers=high,strategy=sampling", "dola:layers=[1,3],strategy=(speculative)"],
    "ensemble": [
        lambda other: Ensemble([other]),
        lambda other: Ensemble([other, other], [1, 2, 3], "mixture", strategy=Sampling()),
    ],
    "proxy_tuning": [lambda other: ProxyTuning(other, table_model(2) if other.name == "table" else other)],
    "token_healing": ["token_healing", "token_healing:strategy=sampling,num_tokens=2"],
    "speculative": [
        "speculative",
        "speculative:strategy=(sampling:temperature=0.8),proposer=(prompt_lookup:num_tokens=2)",
        lambda other: Speculative(Sampling(), DraftModel(other, num_tokens=2)),
        lambda other: Speculative(Greedy(), DraftTree(other, (2, 1))),
    ],
    "jacobi": ["jacobi", "jacobi:strategy=(sampling:top_k=3),num_tokens=2"],
    "lookahead": ["lookahead", "lookahead:strategy=(sampling:top_k=3),window=2,ngram=3"],
}
PROCESSORS: dict[str, list[str | Make]] = {
    "temperature": ["temperature:temperature=0.7", "temperature:temperature=3"],
    "at_least": ["at_least:count=2,processor=(top_p:p=0.3)", "at_least:count=3,processor=(top_k:k=1|top_p:p=0.9)"],
    "hf_processor": [lambda other: needs_torch(HFProcessor(lambda input_ids, scores: scores / 2))],
    "top_k": ["top_k:k=1", "top_k:k=3", "top_k:k=100", "top_k:k=2,ties=keep"],
    "top_p": ["top_p:p=0.6", "top_p:p=1"],
    "min_p": ["min_p:p=0.2", "min_p:p=1"],
    "typical": ["typical:mass=0.6", "typical:mass=1", "typical:mass=0.4,ties=keep"],
    "dynamic_temperature": ["dynamic_temperature:low=0.2,high=1.5", "dynamic_temperature:low=0,high=2,exponent=0.5"],
    "edt": ["edt:temperature=1.2,theta=0.5", "edt:temperature=0.7,theta=3,base=0.1"],
    "adapt": ["adapt:hard=1.5,easy=0.5,pattern=c", "adapt:hard=0.8,easy=0.6"],
    "epsilon": ["epsilon:epsilon=0.1", "epsilon:epsilon=0.9"],
    "eta": ["eta:epsilon=0.1", "eta:epsilon=0.9"],
    "top_n_sigma": ["top_n_sigma", "top_n_sigma:n=0.5"],
    "top_a": ["top_a", "top_a:a=1"],
    "top_h": ["top_h", "top_h:h=1", "top_h:h=0.7,rule=hf"],
    "tail_free": ["tail_free", "tail_free:z=0.4", "tail_free:z=1"],
    "xtc": ["xtc", "xtc:probability=1", "xtc:probability=0.3,threshold=0.15,temperature=0.7,protected=[2]"],
    "quadratic": ["quadratic:factor=0.3", "quadratic:factor=0.5,curve=2", "quadratic:factor=1,curve=5"],
    "skew": ["skew:skew=1.5", "skew:skew=-0.5"],
    "entropix": ["entropix", "entropix:low_entropy=1,high_entropy=2,high_varentropy=1,clarify=3"],
    "mirostat_1": ["mirostat_1:tau=1.0,eta=0.5", "mirostat_1:tau=0.5,m=3"],
    "mirostat": ["mirostat:tau=1.0,eta=0.5", "mirostat:tau=0.1"],
    "adaptive_p": ["adaptive_p:target=0.3", "adaptive_p:target=0.9,decay=0.5"],
    "repetition": ["repetition:penalty=1.3", "repetition:penalty=2,window=2,prompt=false"],
    "presence": ["presence:penalty=0.5", "presence:penalty=-1,toward_zero=true"],
    "frequency": ["frequency:penalty=0.5", "frequency:penalty=-1,window=3,prompt=true"],
    "encoder_repetition": ["encoder_repetition:penalty=1.3", "encoder_repetition:penalty=0.5"],
    "dry": ["dry:allowed_length=1", "dry:multiplier=2.0,base=1,sequence_breakers=[cd,0],window=6", "dry:base=1e9"],
    "no_repeat_ngram": ["no_repeat_ngram:size=3", "no_repeat_ngram:size=1"],
    "encoder_no_repeat_ngram": ["encoder_no_repeat_ngram:size=2", "encoder_no_repeat_ngram:size=1"],
    "json_schema": ['json_schema:schema={"type": "integer"}', "json_schema"],
    "regex": ['regex:pattern="[a-e]*"', 'regex:pattern="a(b|cd)*e"'],
    "grammar": [lambda other: Grammar("start: /[a-e]/*"), lambda other: Grammar('start: "a" | "b" start "c"')],
    "logit_bias": ["logit_bias:bias=[[2,5.0],[3,-1.5],[99,1]]"],
    "allowed_tokens": ["allowed_tokens:tokens=[0,1,2,4]"],
    "suppressed_tokens": ["suppressed_tokens:tokens=[3,5]"],
    "sequence_bias": ["sequence_bias:bias=[[[2],1.5],[[2,2],-inf],[[1,2],-3.0],[[99,1],1]]"],
    "bad_words": ["bad_words:sequences=[[3],[0,1],[2,99]]"],
    "forced_tokens": ["forced_tokens:tokens=[2,1]", "forced_tokens:tokens=[1,4],length=2"],
    "begin_suppress": ["begin_suppress:tokens=[0,99]"],
    "min_new_tokens": ["min_new_tokens:count=2"],
    "min_length": ["min_length:length=4"],
    "exponential_length_decay": [
        "exponential_length_decay:start=1,factor=1.5",
        "exponential_length_decay:start=0,factor=1e9",
    ],
    "forced_eos": ["forced_eos:count=3", "forced_eos:count=3,prompt=true,tokens=[1,4]"],
    "kgw_watermark": ["kgw_watermark", "kgw_watermark:context_width=3,seeding_scheme=selfhash,greenlist_ratio=0.5"],
    "kgw_watermark_hf": ["kgw_watermark_hf", "kgw_watermark_hf:context_width=3,greenlist_ratio=0.5"],
    "synthid_watermark_hf": ["synthid_watermark_hf:keys=[3,77],ngram_len=2"],
    "synthid_watermark": ["synthid_watermark:context_width=2", "synthid_watermark:depth=3"],
    "gumbel_watermark": ["gumbel_watermark:context_width=2", "gumbel_watermark:hashing_key=0"],
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
    "grammar_complete": [
        'grammar_complete:constraint=(regex:pattern="a?b(cd)*")',
        'grammar_complete:constraint=(regex:pattern="ab*"),earliest=true',
    ],
    "confidence": ["confidence:threshold=-1,window=2"],
    "hf_criterion": [lambda other: needs_torch(HFCriterion(lambda input_ids, scores: input_ids[:, -1] == 2))],
    "when": [lambda other: When(lambda sequence: sequence.token % 2 == 1, "odd")],
}
PROPOSERS: dict[str, list[str | Make]] = {
    "prompt_lookup": [
        "prompt_lookup",
        "prompt_lookup:num_tokens=2,max_ngram=2,min_ngram=2",
        "prompt_lookup:num_tokens=2,num_drafts=2",
    ],
    "suffix_index": ["suffix_index", "suffix_index:branching=true,min_probability=0.3"],
    "early_exit": ["early_exit:layer=1,num_tokens=2", "early_exit:layer=2,num_tokens=2,threshold=0.4"],
    "draft_tree": [
        lambda other: DraftTree(other, (2, 1)),
        lambda other: DraftTree(other, (2,), "distinct"),
        lambda other: DraftTree(other, (2,), "independent"),
    ],
    "draft_model": [
        lambda other: DraftModel(other, num_tokens=1),
        lambda other: DraftModel(other, num_tokens=3),
    ],
}
UTILITIES: dict[str, list[str | Make]] = {
    "chrf": ["chrf", "chrf:char_order=2,beta=1.0"],
    "bleu": ["bleu:tokenize=char"],
}
METRICS: dict[str, list[str | Make]] = {
    "logprob": ["logprob", "logprob:mean=true", lambda other: LogProbability(other)],
    "perplexity": ["perplexity", lambda other: Perplexity(other)],
    "corpus_perplexity": ["corpus_perplexity", lambda other: CorpusPerplexity(other)],
    "entropy": ["entropy", lambda other: Entropy(other)],
    "distinct_n": ["distinct_n", "distinct_n:n=1,of=words"],
    "rep_n": ["rep_n:n=2", "rep_n:of=words"],
    "loop_rate": ["loop_rate", "loop_rate:max_period=1"],
    "corpus_distinct_n": ["corpus_distinct_n:n=1", "corpus_distinct_n:of=words"],
    "self_bleu": ["self_bleu", "self_bleu:n=2,of=words"],
    "zipf": ["zipf", "zipf:ranks=3,of=words"],
    "mauve": ["mauve:num_buckets=2", "mauve:pooling=mean,max_tokens=2,num_buckets=2,scaling_factor=1"],
    "exact_match": ["exact_match:ignore_case=true,ignore_punctuation=true"],
    "rouge": ["rouge", "rouge:rouge_type=rouge2"],
    "chrf": ["chrf", "chrf:word_order=2,beta=1"],
    "bleu": ["bleu", "bleu:tokenize=char,lowercase=true"],
    "corpus_score": ["corpus_score", "corpus_score:metric=(chrf:char_order=2)"],
    "pass_at_k": ["pass_at_k", "pass_at_k:k=3,metric=(exact_match)"],
    "longest_copy": ["longest_copy", "longest_copy:of=characters"],
    "stopped": ["stopped", "stopped:reason=max_new_tokens"],
}
TABLES = {
    "strategy": STRATEGIES,
    "processor": PROCESSORS,
    "stopping": STOPPING,
    "proposer": PROPOSERS,
    "utility": UTILITIES,
    "metric": METRICS,
}
COMBINATIONS = [
    "eos|max_new_tokens:count=4|stop_string:string=b",
    "eos&max_new_tokens:count=3",
    "~eos",
    "stop_string:string=ab&max_new_tokens:count=6",
    "(eos|stop_string:string=b)&~loop:repeats=2",
]


class Digits(Letters):
    """A spelling in which a JSON text can be written."""

    def token_bytes(self, token: int) -> bytes:
        return str(token).encode()


def digits_model() -> Model:
    return Model(table_model().runner, [EOS], Digits())  # type: ignore[arg-type]


def ours(family: str) -> list[str]:
    """The names of this package's plugins; another test may have registered some of its own."""
    return [name for name in registry.names(family) if registry.lookup(family, name).__module__.startswith(PACKAGE)]


def examples(family: str) -> list[tuple[str, int]]:
    """Name and place of every example; one even for a plugin that has none, whose test then says so."""
    table = TABLES[family]
    return [(name, place) for name in ours(family) for place in range(len(table.get(name, [name])))]


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
    assert set(TABLES[family]) <= set(ours(family))


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


@every("utility")
def test_utility(name: str, place: int) -> None:
    utility = example("utility", name, place)
    assert isinstance(utility, Utility)
    law_configuration(utility)
    check_strategy(Mbr(3, utility=utility, aggregate=True))


@every("metric")
def test_metric(name: str, place: int) -> None:
    metric = example("metric", name, place)
    assert isinstance(metric, Metric)
    check_metric(metric)


HISTORIES = [(2, 3, 2, 3), (2, 3, 2, 4), (4, 1, 4, 1), (0, 0, 0, 0)]
ROW = np.log(np.array([0.3, 0.05, 0.25, 0.15, 0.15, 0.1], np.float32))


def remembered(processor: LogitsProcessor, sequence: Sequence) -> str:
    """What a processor makes of one row after a sequence, as text."""
    try:
        left = processor(Candidates(ROW), sequence)
        return f"{left.ids.tolist()} {left.distribution(len(ROW)).round(6).tolist()}"
    except LogitsError as error:
        return type(error).__name__


def grown(model: Model, history: tuple[int, ...]) -> list[Sequence]:
    """A prompt and each sequence up to the whole history, of tokens that the model gave probabilities."""
    sequences = [model.vocabulary.prompt([1, 2, 1])]
    for token in history:
        sequences[-1].answered(ROW, 0.0)
        sequences.append(sequences[-1] + token)
    return sequences


def histories(processor: LogitsProcessor, make: Callable[[], Model]) -> list[list[str]]:
    """What it makes of each history, step by step, each on a tree of its own."""
    return [[remembered(processor, each) for each in grown(make(), history)] for history in HISTORIES]


@pytest.mark.parametrize("name", ours("processor"))
def test_siblings_do_not_see_each_others_history(name: str) -> None:
    """Whether each history is gone through alone, or all side by side, as beams, particles and drafts are."""
    make = digits_model if name == "json_schema" else table_model
    for place in range(len(TABLES["processor"].get(name, [name]))):
        processor = example("processor", name, place)
        assert isinstance(processor, LogitsProcessor)
        model, fresh = make(), replace(processor)
        sides = [grown(model, history) for history in HISTORIES]
        together = [[remembered(fresh, each) for each in step] for step in zip(*sides, strict=True)]
        assert [list(each) for each in zip(*together, strict=True)] == histories(processor, make)


@pytest.mark.parametrize(
    "spec",
    [
        *(
            "mirostat:tau=2,eta=0.2",
            "mirostat_1:tau=2,eta=0.5",
            "adaptive_p:target=0.3",
            "dry",
            "fsd",
            "presence:penalty=1",
        ),
        *("no_repeat_ngram:size=2", "regex:pattern=cd*e*", "frequency:penalty=1", "gumbel_watermark:context_width=1"),
        *(
            "synthid_watermark:context_width=1",
            "synthid_watermark_hf:keys=[3],ngram_len=2",
            "adapt:hard=2,easy=1,pattern=c",
        ),
    ],
)
def test_these_histories_make_a_difference_to_what_remembers(spec: str) -> None:
    processor = parse(spec, "processor")
    assert isinstance(processor, LogitsProcessor)
    assert len(set(map(str, histories(processor, table_model)))) > 1


@pytest.mark.parametrize("name", [*ours("proposer"), "jacobi", "lookahead"])
@pytest.mark.parametrize("processor", ours("processor"))
def test_drafts_with_processor(name: str, processor: str) -> None:
    plain = Sampling(top_k=2, processors=example("processor", processor))
    if name in ours("proposer"):
        drafted: Strategy = Speculative(plain, example("proposer", name))
    else:
        drafted = replace(strategy(name), strategy=plain)
    model = digits_model() if processor == "json_schema" else table_model()
    law, exact = (distribution(each, model, [1, 2, 1], max_new_tokens=2) for each in (plain, drafted))
    assert exact == pytest.approx(law, abs=1e-6)


@pytest.mark.parametrize("name", ours("strategy"))
@pytest.mark.parametrize("processor", ours("processor"))
def test_strategy_with_processor(name: str, processor: str) -> None:
    """The same in company as alone, and nothing after a stop."""
    method = replace(strategy(name), processors=example("processor", processor))
    model = digits_model() if processor == "json_schema" else table_model()
    tasks = [Task(model, prompt, method, 4, seed=seed) for seed, prompt in enumerate(PROMPTS[:2])]
    alone = [facts(next(Engine().run([task]))) for task in tasks]
    crowd = [Task(model, PROMPTS[0], other, 4) for other in ("beam:num_beams=3", "speculative")]
    together = sorted(Engine(max_live=3).run([*crowd, *tasks]), key=attrgetter("index"))
    for before, generation in zip(alone, together[len(crowd) :], strict=True):
        assert generation.error is None
        assert difference(before, facts(generation)) is None
    law_stopping(method, model, PROMPTS[:1])


REAL_PROMPTS = [
    "The capital of France is",
    "Q: What is 2 + 2?\nA:",
    "one two three one two three one two",
    [{"role": "user", "content": "Name a colour."}],
]


Place = tuple[str, int]
"""A strategy's name and the place of a prompt."""


def real_task(place: Place, model: Model) -> Task:
    name, number = place
    return Task(model, REAL_PROMPTS[number], strategy(name, other=model), 8, seed=number)


@pytest.fixture(scope="module")
def crowds(model: Model) -> list[dict[Place, Generation]]:
    """Every strategy on every prompt, all in one engine, in two orders and within other bounds."""
    found = []
    for seed, engine in enumerate((Engine(max_live=33), Engine(max_live=16, max_tokens=24))):
        order = [(name, number) for name in ours("strategy") for number in range(len(REAL_PROMPTS))]
        Shuffle(seed).shuffle(order)
        results = sorted(engine.run(real_task(place, model) for place in order), key=attrgetter("index"))
        found.append(dict(zip(order, results, strict=True)))
    return found


@pytest.mark.parametrize("name", ours("strategy"))
def test_strategy_on_a_real_model(name: str, model: Model, crowds: list[dict[Place, Generation]]) -> None:
    for number, prompt in enumerate(REAL_PROMPTS):
        alone = facts(next(Engine().run([real_task((name, number), model)])))
        for crowd in crowds:
            assert crowd[name, number].error is None
            assert difference(alone, facts(crowd[name, number])) is None, prompt
    law_nothing_left(strategy(name, other=model), model, REAL_PROMPTS[:1], max_new_tokens=6, interruptions=2)
    assert model.runner.cache_in_use == 0
