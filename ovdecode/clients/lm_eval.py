"""lm-evaluation-harness on ovdecode: its model `ovdecode`, whose generations come from any strategy.

With the extra `lm-eval` installed, importing this module registers the model.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence as Items
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from ovdecode.clients.lm_eval_settings import task_options
from ovdecode.clients.scoring import score
from ovdecode.engine import Task
from ovdecode.errors import ConfigurationError, ModelError, PromptError
from ovdecode.model import Model, run
from ovdecode.strategy import Strategy

if TYPE_CHECKING or find_spec("lm_eval") is None:
    TemplateLM = object
else:
    from lm_eval.api.model import TemplateLM

log = logging.getLogger(__name__)

LONGEST = 2048
"""The context in tokens where a model has no bound, as in the harness."""


class OvdecodeLM(TemplateLM):
    """The model `ovdecode` of lm-evaluation-harness. All requests of a call run in one batch.

    Without a strategy, a task's `generation_kwargs` say how to decode, and mean what they mean to the harness's own
    `hf` model: greedy decoding unless `do_sample`, and transformers' defaults. With one, that decodes, and only `until`
    and `max_gen_toks` of the task are kept; a warning says what is not.

    Log-likelihoods are the model's own, whatever the strategy is. Contexts that are too long lose their beginning.

    The harness's cache (`--use_cache`) knows requests by their text alone: give each strategy and seed a file of its
    own, and do without it where a task repeats its requests.

    Args:
        source: what `ovdecode.load` takes, or a loaded model.
        strategy: a strategy or its spec string; None leaves it to the tasks.
        precision, threads, device: as in `ovdecode.load`.
        max_new_tokens: bound on generated tokens where a task gives none.
        seed: of all random choices. A request that is repeated gets another sample each time.
        max_length: the longest sequence in tokens, if the model's context is not to be used up.
        prefix_token_id: what a text without a context is scored after; by default BOS, or EOS for a model without one.
        batch_size, max_batch_size: the harness gives them to every model. Nothing depends on them: the engine batches
            by what fits.

    Raises:
        ConfigurationError: if the harness is not installed.

    Example:
        >>> model = OvdecodeLM("smollm2", "beam:num_beams=4")                     # doctest: +SKIP
        >>> lm_eval.simple_evaluate(model, tasks=["gsm8k"], limit=20)             # doctest: +SKIP
    """

    cache_hook: Any

    def __init__(
        self,
        source: str | Model = "smollm2",
        strategy: Strategy | str | None = None,
        precision: str = "fast",
        threads: int | None = None,
        device: str | None = None,
        max_new_tokens: int = 256,
        seed: int = 0,
        max_length: int | None = None,
        prefix_token_id: int | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        from ovdecode.loading import load
        from ovdecode.spec import parse

        require_harness()
        super().__init__()
        self.named = cast(Strategy, parse(strategy)) if isinstance(strategy, str) else strategy
        options: Any = {"precision": precision, "threads": threads, "device": device or "CPU"}
        self.model = source if isinstance(source, Model) else load(source, **options)
        self.max_new_tokens, self.seed = max_new_tokens, seed
        context = self.model.runner.context_length or LONGEST
        self.max_length = context if max_length is None else min(max_length, context)
        self._prefix = prefix_token_id
        self._said = set[str]()

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """The text that is generated after each context.

        Raises:
            ConfigurationError: for generation settings that can't be honoured.
            Exception: what went wrong with the first request that failed.
        """
        seen = Counter[tuple[str, str]]()
        tasks = []
        for context, settings in (request.args for request in requests):
            options, left_out = task_options(settings, self.named, self.max_new_tokens, self.model.vocabulary.spelling)
            if left_out:
                self._say(f"`{self.named}` decodes, as it was named; what the task asks for is left out: {left_out}")
            room = self.max_length - cast(int, options["max_new_tokens"])
            if room < 1:
                raise ConfigurationError(
                    f"`max_gen_toks` must leave room for a prompt in the context of {self.max_length} tokens, got "
                    f"{options['max_new_tokens']}; give the task fewer"
                )
            tokens = self._shortened(self.tok_encode(context), room)
            repeated = context, repr(settings)
            tasks.append(Task(self.model, tokens, **options, seed=self.seed, sample=seen[repeated]))
            seen[repeated] += 1
        texts = [""] * len(tasks)
        with _progress("generate_until", len(tasks), disable_tqdm) as advance:
            for generation in run(tasks):
                if generation.error is not None:
                    raise generation.error
                texts[generation.index] = generation.text
                self.cache_hook.add_partial("generate_until", requests[generation.index].args, generation.text)
                advance()
        return texts

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of each text, in windows of the model's context where it is longer."""
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        windows, owners = [], []
        for index, (text,) in enumerate(request.args for request in requests):
            tokens = self.tok_encode(text)
            for window in get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, 1):
                windows.append(("", *make_disjoint_window(window)))
                owners.append(index)
        totals = [0.0] * len(requests)
        for index, (logprob, _) in zip(owners, self._loglikelihood_tokens(windows, disable_tqdm), strict=True):
            totals[index] += logprob
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def _loglikelihood_tokens(
        self, requests: Items[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """The log-likelihood of each continuation, and whether it is the greedy one.

        `loglikelihood` of the harness comes here with text as tokens: it encodes context and continuation together and
        counts spaces at the end of a context as the continuation's, for every model alike.
        """
        pairs = []
        for _, context, continuation in requests:
            room = self.max_length + 1 - len(continuation)
            if room < 1:
                raise PromptError(
                    f"a continuation must fit the context of {self.max_length} tokens, but it has {len(continuation)}"
                )
            pairs.append((self._shortened(context, room), continuation))
        found = [(0.0, False)] * len(pairs)
        with _progress("loglikelihood", len(pairs), disable_tqdm) as advance:
            for index, logprob, greedy in score(self.model, pairs):
                found[index] = logprob, greedy
                if requests[index][0]:
                    self.cache_hook.add_partial("loglikelihood", requests[index][0], found[index])
                advance()
        return found

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **options: Any) -> list[int]:
        """The token ids of a text; a BOS token that is written out in it is not added again."""
        plain = self.model.vocabulary.spelling.encode(string)
        if add_special_tokens is False:
            return plain
        whole = self.model.encode(string)
        begin = whole[: len(whole) - len(plain)]
        return plain if plain[: len(begin)] == begin else whole

    @property
    def eot_token_id(self) -> int:
        """A token that ends a text."""
        if not self.model.vocabulary.eos_token_ids:
            raise ConfigurationError("`prefix_token_id` must be given for a model without a BOS or EOS token, got None")
        return min(self.model.vocabulary.eos_token_ids)

    @cached_property
    def prefix_token_id(self) -> int:
        """What a text without a context is scored after."""
        from ovdecode.models.chat import special_literals

        if self._prefix is not None:
            return self._prefix
        spelling, folder = self.model.vocabulary.spelling, getattr(self.model.tokenizer, "folder", None)
        beginning = self.model.encode("")
        if not beginning and folder is not None:
            beginning = spelling.encode(special_literals(folder.path).get("bos_token", ""))
        return beginning[0] if len(beginning) == 1 else self.eot_token_id

    @property
    def tokenizer_name(self) -> str:
        """What the harness keeps requests apart by."""
        return f"ovdecode__{self.model.name}"

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as text; without a generation prompt, its last message is left open."""
        from ovdecode.models.chat import find_chat_template, no_template, render_chat

        folder = getattr(self.model.tokenizer, "folder", None)
        if folder is None:
            raise ModelError(f"`apply_chat_template` must be left out for {self.model!r}, which has no chat template")
        template = find_chat_template(folder.path)
        if template is None:
            raise no_template(folder.path)
        text = render_chat(template, folder.path, chat_history, add_generation_prompt)
        if add_generation_prompt:
            return text
        content = chat_history[-1]["content"].rstrip()
        return text[: text.rindex(content) + len(content)]

    def get_model_info(self) -> dict[str, str]:
        """What the harness writes into its results."""
        runner = self.model.runner
        return {
            "ovdecode_model": self.model.name,
            "ovdecode_runner": runner.name,
            "ovdecode_precision": runner.precision,
            "ovdecode_strategy": "" if self.named is None else str(self.named),
        }

    def _shortened(self, tokens: list[int], room: int) -> list[int]:
        """The last tokens of a context, as many as there is room for; of an empty one, the prefix."""
        if len(tokens) > room:
            self._say(f"contexts of more than {room} tokens lose their beginning")
        return tokens[-room:] or [self.prefix_token_id]

    def _say(self, message: str) -> None:
        """Warn, once."""
        if message not in self._said:
            self._said.add(message)
            log.warning("%s", message)


def require_harness() -> None:
    """Say what to install, if the harness is not.

    Raises:
        ConfigurationError: if it is not.
    """
    if find_spec("lm_eval") is None:
        raise ConfigurationError(
            "the model `ovdecode` of lm-evaluation-harness needs the package `lm-eval`, which is not installed. Run: "
            "pip install 'ovdecode[lm-eval]'"
        )


@contextmanager
def _progress(what: str, count: int, disable: bool) -> Iterator[Any]:
    from tqdm import tqdm

    with tqdm(total=count, desc=f"Running {what} requests", disable=disable) as bar:
        yield bar.update


if not TYPE_CHECKING and find_spec("lm_eval") is not None:
    import lm_eval.models  # noqa: F401  the harness registers its own models only while none is registered
    from lm_eval.api.registry import register_model

    register_model("ovdecode")(OvdecodeLM)
