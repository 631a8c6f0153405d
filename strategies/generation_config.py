"""transformers' generation configurations: what its `generate` would do with one, as options of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypedDict

from ovdecode.processor import Chain, LogitsProcessor
from ovdecode.stopping import AnyOf, StoppingCriterion
from ovdecode.strategies import presets
from ovdecode.strategies.beam import BeamSearch
from ovdecode.strategies.beam_sampling import BeamSampling
from ovdecode.strategies.best_of_n import BestOfN
from ovdecode.strategies.cfg import ClassifierFreeGuidance
from ovdecode.strategies.contrastive_search import ContrastiveSearch
from ovdecode.strategies.diverse_beam import DiverseBeamSearch
from ovdecode.strategies.generation_fields import DEFAULTS, Fields, read_fields, refused, token_ids
from ovdecode.strategies.greedy import Greedy
from ovdecode.strategies.processors.at_least import AtLeast
from ovdecode.strategies.processors.beginning import BeginSuppress
from ovdecode.strategies.processors.bias import SuppressedTokens
from ovdecode.strategies.processors.limits import ExponentialLengthDecay, ForcedEos, MinLength, MinNewTokens
from ovdecode.strategies.processors.ngrams import EncoderNoRepeatNgram, NoRepeatNgram
from ovdecode.strategies.processors.penalties import EncoderRepetitionPenalty, RepetitionPenalty
from ovdecode.strategies.processors.sequence_bias import BadWords, SequenceBias
from ovdecode.strategies.processors.truncation import TopK
from ovdecode.strategies.proposers.early_exit import EarlyExit
from ovdecode.strategies.proposers.prompt_lookup import PromptLookup
from ovdecode.strategies.sampling import Sampling
from ovdecode.strategies.speculative import Speculative
from ovdecode.strategies.stopping.length import MaxLength, MaxTime
from ovdecode.strategies.stopping.text import StopString
from ovdecode.strategies.stopping.tokens import Eos
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
    """The one that `GenerationConfig.get_generation_mode` chooses."""
    edits = _edits(fields)
    strategy: Strategy
    if fields["num_beams"] > 1:
        return _beams(fields, edits)
    count = fields["num_return_sequences"]
    if count != 1 and not fields["do_sample"]:
        raise refused("num_return_sequences", count, "1 without beams or do_sample: there is but one answer")
    if fields["do_sample"]:
        strategy = Sampling(preset="hf", processors=edits, **_warpers(fields))
    elif fields["penalty_alpha"] and fields["top_k"] > 1:
        strategy = ContrastiveSearch(fields["penalty_alpha"], fields["top_k"], processors=edits)
    else:
        strategy = Greedy(processors=edits)
    if isinstance(strategy, Sampling | Greedy):
        if fields["assistant_early_exit"] is not None:
            tokens, threshold = fields["num_assistant_tokens"], fields["assistant_confidence_threshold"]
            exits = EarlyExit(fields["assistant_early_exit"], tokens, threshold or None)
            strategy = Speculative(strategy, exits)
        elif fields["prompt_lookup_num_tokens"] is not None:
            tokens, ngram = fields["prompt_lookup_num_tokens"], fields["max_matching_ngram_size"]
            lookup = PromptLookup(tokens, ngram, factor=tokens)
            strategy = Speculative(strategy, lookup)
    if fields["guidance_scale"] not in (None, 1):
        strategy = ClassifierFreeGuidance(fields["guidance_scale"], strategy=strategy)
    return BestOfN(count, strategy) if count != 1 else strategy


def _beams(fields: Fields, edits: LogitsProcessor) -> Strategy:
    for name in ("guidance_scale", "forced_eos_token_id", "renormalize_logits"):
        if fields[name] not in (None, False, DEFAULTS[name]):
            raise refused(name, fields[name], "left out with num_beams > 1, where its effect on scores is not the same")
    names = ("num_beams", "length_penalty", "early_stopping", "num_return_sequences")
    shared = {name: fields[name] for name in names}
    if fields["num_beam_groups"] > 1:
        groups = {name: fields[name] for name in ("num_beam_groups", "diversity_penalty")}
        return DiverseBeamSearch(**shared, **groups, processors=edits)
    if fields["do_sample"]:
        return BeamSampling(**shared, processors=edits | _beam_warpers(fields))
    return BeamSearch(**shared, processors=edits)


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
    ("forced_eos_token_id", _forced_eos),
    ("exponential_decay_length_penalty", lambda decay, _: ExponentialLengthDecay(*decay)),
    ("suppress_tokens", lambda tokens, _: SuppressedTokens(tokens)),
    ("begin_suppress_tokens", lambda tokens, _: BeginSuppress(tokens)),
)
"""Field to what it makes, in the order of `GenerationMixin._get_logits_processor`."""
