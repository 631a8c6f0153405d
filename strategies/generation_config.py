"""transformers' generation configurations: what its `generate` would do with one, as options of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypedDict

from ovdecode.processor import Chain, LogitsProcessor
from ovdecode.registry import unknown
from ovdecode.spec import parameters
from ovdecode.stopping import AnyOf, StoppingCriterion
from ovdecode.strategies import presets
from ovdecode.strategies.beam import BeamSearch
from ovdecode.strategies.beam_sampling import BeamSampling
from ovdecode.strategies.best_of_n import BestOfN
from ovdecode.strategies.cfg import ClassifierFreeGuidance
from ovdecode.strategies.constrained_beam import ConstrainedBeamSearch
from ovdecode.strategies.contrastive_search import ContrastiveSearch
from ovdecode.strategies.diverse_beam import DiverseBeamSearch
from ovdecode.strategies.dola import DoLa
from ovdecode.strategies.generation_fields import DEFAULTS, Fields, read_fields, refused, token_ids
from ovdecode.strategies.greedy import Greedy
from ovdecode.strategies.processors.at_least import AtLeast
from ovdecode.strategies.processors.beginning import BeginSuppress, ForcedTokens
from ovdecode.strategies.processors.bias import SuppressedTokens
from ovdecode.strategies.processors.limits import ExponentialLengthDecay, ForcedEos, MinLength, MinNewTokens
from ovdecode.strategies.processors.ngrams import EncoderNoRepeatNgram, NoRepeatNgram
from ovdecode.strategies.processors.penalties import EncoderRepetitionPenalty, RepetitionPenalty
from ovdecode.strategies.processors.sequence_bias import BadWords, SequenceBias
from ovdecode.strategies.processors.truncation import TopK
from ovdecode.strategies.processors.watermarks.transformers import KgwWatermarkHF, SynthIdWatermarkHF
from ovdecode.strategies.proposers.early_exit import EarlyExit
from ovdecode.strategies.proposers.prompt_lookup import PromptLookup
from ovdecode.strategies.sampling import Sampling
from ovdecode.strategies.speculative import Speculative
from ovdecode.strategies.stopping.length import MaxLength, MaxTime
from ovdecode.strategies.stopping.text import StopString
from ovdecode.strategies.stopping.tokens import Eos
from ovdecode.strategies.token_healing import TokenHealing
from ovdecode.strategy import Strategy


class TaskOptions(TypedDict):
    """What a `Task` takes, besides a model and a prompt."""

    strategy: Strategy
    max_new_tokens: int | None
    stop: StoppingCriterion | None
    ignore_eos: bool


def from_generation_config(config: Any) -> TaskOptions:
    """The options of a task that does what transformers' `generate` does with a configuration.

    Strategy, processors in transformers' order, stopping criteria, and its default for every field that is not given:
    greedy decoding, at most 20 new tokens. Fields that say how it is computed or shown (`use_cache`, `output_scores`),
    and those for which `generate` itself has no use (`temperature` without `do_sample`), change nothing here either.

    `eos_token_id` says what ends a text; without it, the model's own tokens do. What `min_new_tokens`, `min_length` and
    `exponential_decay_length_penalty` act on, and what beam search allows for, are the model's own in any case: give
    the `eos_token_id` that the model has, as its `generation_config.json` does.

    What transformers 5 leaves to code on its hub is here what the papers say: `penalty_alpha` is `contrastive_search`,
    `dola_layers` `dola`, `num_beam_groups` `diverse_beam`, and `force_words_ids` `constrained_beam`. `token_healing`
    takes back one token: here it is chosen by the strategy among those that begin with it, where transformers adds 10
    to their logits (11 to its own), and strips the prompt of space first.

    Several samples (`do_sample` with `num_return_sequences`) are those of `best_of_n`: independent draws, which come as
    alternatives, the most probable first, where `generate` leaves them in the order in which they were drawn.

    Args:
        config: a `transformers.GenerationConfig`, a mapping of its fields, or the path of a `generation_config.json`
            or of the folder that it is in.

    Returns:
        A dictionary of `strategy`, `max_new_tokens`, `stop` and `ignore_eos`.

    Raises:
        ConfigurationError: for a field, or a combination, that can't be honoured; it is named.
        UnknownNameError: for a field that transformers does not have.

    Example:
        >>> import ovdecode as od
        >>> options = od.from_generation_config({"do_sample": True, "top_p": 0.9, "max_new_tokens": 64})
        >>> print(options["strategy"], options["max_new_tokens"])
        sampling:top_p=0.9,preset=hf 64
        >>> model = od.Model(od.TableRunner([[0, 1, 2], [2, 0, 1], [1, 2, 0]]))
        >>> task = od.Task(model, [0], **od.from_generation_config({"num_beams": 2, "max_new_tokens": 3}))
        >>> [generation.tokens for generation in od.run([task])]
        [(2, 1, 0)]
    """
    fields = read_fields(config)
    ends = fields["eos_token_id"]
    criteria: list[StoppingCriterion] = []
    if fields["max_new_tokens"] is None:
        criteria.append(MaxLength(fields["max_length"]))
    if fields["max_time"] is not None:
        criteria.append(MaxTime(fields["max_time"]))
    if fields["stop_strings"] is not None:
        criteria.append(StopString(fields["stop_strings"], keep=True))
    if ends is not None:
        criteria.append(Eos(token_ids(ends)))
    return {
        "strategy": _strategy(fields),
        "max_new_tokens": fields["max_new_tokens"],
        "stop": AnyOf(tuple(criteria)) if len(criteria) > 1 else next(iter(criteria), None),
        "ignore_eos": ends is not None,
    }


def _strategy(fields: Fields) -> Strategy:
    """The one that `GenerationConfig.get_generation_mode` chooses, on a prompt that may be healed first."""
    edits, mark = _edits(fields), _watermark(fields)
    strategy = _beams(fields, edits, mark) if fields["num_beams"] > 1 else _single(fields, edits, mark)
    return TokenHealing(strategy, num_tokens=1) if fields["token_healing"] else strategy


def _single(fields: Fields, edits: LogitsProcessor, mark: LogitsProcessor) -> Strategy:
    strategy: Strategy
    if fields["force_words_ids"]:
        raise refused("num_beams", 1, "at least 2 with force_words_ids")
    count = fields["num_return_sequences"]
    if count != 1 and not fields["do_sample"]:
        raise refused("num_return_sequences", count, "1 without beams or do_sample: there is but one answer")
    if fields["do_sample"]:
        strategy = Sampling(preset="hf", processors=edits, **_warpers(fields))
        if mark.stages:  # it comes after all that sampling does
            strategy = Sampling(processors=strategy.chain | mark)
    elif fields["penalty_alpha"] and fields["top_k"] > 1:
        strategy = ContrastiveSearch(fields["penalty_alpha"], fields["top_k"], processors=edits | mark)
    else:
        strategy = Greedy(processors=edits | mark)
    if isinstance(strategy, Sampling | Greedy):
        if fields["assistant_early_exit"] is not None:
            tokens, threshold = fields["num_assistant_tokens"], fields["assistant_confidence_threshold"]
            exits = EarlyExit(fields["assistant_early_exit"], tokens, threshold or None)
            strategy = Speculative(strategy, exits)
        elif fields["prompt_lookup_num_tokens"] is not None:
            tokens, ngram = fields["prompt_lookup_num_tokens"], fields["max_matching_ngram_size"]
            lookup = PromptLookup(tokens, ngram, factor=tokens)
            strategy = Speculative(strategy, lookup)
        if fields["dola_layers"] is not None:
            if fields["guidance_scale"] not in (None, 1):
                raise refused("dola_layers", fields["dola_layers"], "left out with guidance_scale")
            return _several(DoLa(fields["dola_layers"], strategy=strategy), count)
    if fields["guidance_scale"] not in (None, 1):
        strategy = ClassifierFreeGuidance(fields["guidance_scale"], strategy=strategy)
    return _several(strategy, count)


def _several(strategy: Strategy, count: int) -> Strategy:
    return BestOfN(count, strategy) if count != 1 else strategy


def _beams(fields: Fields, edits: LogitsProcessor, mark: LogitsProcessor) -> Strategy:
    for name in ("guidance_scale", "forced_bos_token_id", "forced_eos_token_id", "renormalize_logits"):
        if fields[name] not in (None, False, DEFAULTS[name]):
            raise refused(name, fields[name], "left out with num_beams > 1, where its effect on scores is not the same")
    names = ("num_beams", "length_penalty", "early_stopping", "num_return_sequences")
    shared = {name: fields[name] for name in names}
    if isinstance(mark, SynthIdWatermarkHF):
        wanted = "a green-list watermark with num_beams > 1, where transformers mixes up the beams' histories"
        raise refused("watermarking_config", fields["watermarking_config"], wanted)
    if fields["force_words_ids"]:
        for name in ("do_sample", "num_beam_groups"):
            if fields[name] != DEFAULTS[name]:
                raise refused(name, fields[name], "left out with force_words_ids")
        return ConstrainedBeamSearch(**shared, phrases=_phrases(fields["force_words_ids"]), processors=edits | mark)
    if fields["num_beam_groups"] > 1:
        groups = {name: fields[name] for name in ("num_beam_groups", "diversity_penalty")}
        return DiverseBeamSearch(**shared, **groups, processors=edits | mark)
    if fields["do_sample"]:
        return BeamSampling(**shared, processors=edits | _beam_warpers(fields) | mark)
    return BeamSearch(**shared, processors=edits | mark)


def _phrases(words: Iterable[Iterable[Any]]) -> list[list[int]]:
    """The phrases that must appear; several of which one is enough are refused."""
    phrases: list[list[int]] = []
    for word in map(list, words):
        choices = [list(each) for each in word if isinstance(each, Iterable)] or [word]
        if len(choices) > 1:
            raise refused("force_words_ids", word, "phrases, not lists of phrases of which one is enough")
        phrases += choices
    return phrases


def _watermark(fields: Fields) -> LogitsProcessor:
    """What `watermarking_config` stands for: a tournament if it has the keys of one, else green lists."""
    given = fields["watermarking_config"]
    if given is None:
        return Chain()
    settings = dict(given.to_dict() if hasattr(given, "to_dict") else given)
    if settings.pop("debug_mode", False):
        raise refused("watermarking_config", settings, "without debug_mode, which throws the model's logits away")
    kind: type[LogitsProcessor] = SynthIdWatermarkHF if "ngram_len" in settings else KgwWatermarkHF
    for name in settings:
        if name not in parameters(kind):
            raise unknown("field of `watermarking_config`:", name, parameters(kind))
    return kind(**settings)


def _warpers(fields: Fields) -> Fields:
    """The parameters of sampling that are not the defaults, by our names."""
    renamed = {"typical_p": "typical", "epsilon_cutoff": "epsilon", "eta_cutoff": "eta"}
    names = ("temperature", "top_k", "top_p", "min_p", "top_h", *renamed)
    return {renamed.get(name, name): fields[name] for name in names if fields[name] != DEFAULTS[name]}


def _beam_warpers(fields: Fields) -> LogitsProcessor:
    """Those of sampling, which leave beams one token more than can end them."""
    stages = presets.chain("hf", _warpers(fields)).stages
    if stages and fields["eos_token_id"] is None:
        raise refused("eos_token_id", None, "given where beams are sampled: truncation keeps one token more than that")
    count = 1 + len(token_ids(fields["eos_token_id"])) if stages else 1

    def widened(stage: LogitsProcessor) -> LogitsProcessor:
        if stage.name in ("temperature", "top_h"):
            return stage
        if stage.name == "typical":
            raise refused("typical_p", fields["typical_p"], "left out where beams are sampled")
        return replace(stage, k=max(stage.k, count)) if isinstance(stage, TopK) else AtLeast(count, stage)

    return Chain(tuple(map(widened, stages)))


def _edits(fields: Fields) -> LogitsProcessor:
    """The processors that come before sampling's, in transformers' order."""
    edits: LogitsProcessor = Chain()
    for name, make in _EDITS:
        value = fields[name]
        given = value is not None and value != DEFAULTS[name] and not (isinstance(value, Iterable) and not value)
        if given and (processor := make(value, fields)) is not None:
            edits |= processor
    return edits


def _bad_words(words: Iterable[Iterable[int]], fields: Fields) -> LogitsProcessor | None:
    ends = [[token] for token in token_ids(fields["eos_token_id"])]
    banned = [list(word) for word in words if list(word) not in ends]  # what ends a text is never banned
    return BadWords(banned) if banned else None


def _forced_bos(token: int, fields: Fields) -> LogitsProcessor:
    if fields["begin_suppress_tokens"]:
        raise refused("forced_bos_token_id", token, "left out with begin_suppress_tokens")
    return ForcedTokens([token], length=1)


def _forced_eos(tokens: Any, fields: Fields) -> LogitsProcessor:
    if len(token_ids(tokens)) > 1:
        raise refused("forced_eos_token_id", tokens, "one token: transformers takes several for equally probable")
    bound = fields["max_new_tokens"]
    return ForcedEos(fields["max_length"] if bound is None else bound, bound is None, token_ids(tokens))


_EDITS: tuple[tuple[str, Callable[[Any, Fields], LogitsProcessor | None]], ...] = (
    ("sequence_bias", lambda bias, _: SequenceBias(bias)),
    ("encoder_repetition_penalty", lambda penalty, _: EncoderRepetitionPenalty(penalty)),
    ("repetition_penalty", lambda penalty, _: RepetitionPenalty(penalty)),
    ("no_repeat_ngram_size", lambda size, _: NoRepeatNgram(size)),
    ("encoder_no_repeat_ngram_size", lambda size, _: EncoderNoRepeatNgram(size)),
    ("bad_words_ids", _bad_words),
    ("min_length", lambda length, fields: MinLength(length) if fields["min_new_tokens"] is None else None),
    ("min_new_tokens", lambda count, _: MinNewTokens(count)),
    ("forced_bos_token_id", _forced_bos),
    ("forced_eos_token_id", _forced_eos),
    ("exponential_decay_length_penalty", lambda decay, _: ExponentialLengthDecay(*decay)),
    ("suppress_tokens", lambda tokens, _: SuppressedTokens(tokens)),
    ("begin_suppress_tokens", lambda tokens, _: BeginSuppress(tokens)),
)
"""Field to what it makes, in the order of `GenerationMixin._get_logits_processor`."""
