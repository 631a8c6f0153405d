"""inspect_ai on ovdecode: its model provider `ovdecode`, found by entry point once the extra `inspect` is installed.

inspect eval task.py --model ovdecode/smollm2 -M strategy=beam:num_beams=4
"""

from __future__ import annotations

import logging
import secrets
from functools import partial
from importlib.util import find_spec
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

from ovdecode.clients.worker import Worker
from ovdecode.engine import Task
from ovdecode.errors import ConfigurationError, PromptError
from ovdecode.generation import Generation
from ovdecode.model import Model
from ovdecode.strategies.greedy import Greedy
from ovdecode.strategies.sampling import Sampling
from ovdecode.strategies.stopping.text import StopString
from ovdecode.strategy import Strategy

if TYPE_CHECKING or find_spec("inspect_ai") is None:
    ModelAPI = object
else:
    from inspect_ai.model import ModelAPI

log = logging.getLogger(__name__)

PENALTIES = ("frequency_penalty", "presence_penalty")
SAMPLING = ("temperature", "top_p", "top_k", *PENALTIES)
"""The settings of `GenerateConfig` that say how to choose a token."""
REFUSED = ("best_of", "logit_bias", "top_logprobs", "prompt_logprobs", "response_schema")
"""Those that change what comes out and are not honoured."""
REASONS: dict[str, Any] = {"max_new_tokens": "max_tokens", "max_length": "model_length"}
"""Names of criteria that inspect has a word for; any other is a stop."""


class Service:
    """A loaded model, and the thread that decodes with it.

    Args:
        model: what tasks name as their model.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.worker = model, Worker()


_services: WeakValueDictionary[tuple[Any, ...], Service] = WeakValueDictionary()
"""By what was loaded: providers that differ in their strategy share one, and with it the batch."""


class OvdecodeAPI(ModelAPI):
    """The model provider `ovdecode` of inspect_ai. Requests that are under way at the same time share one batch.

    The model's name is what `ovdecode.load` takes as a source. Messages go through the model's chat template.

    Without a strategy, `temperature`, `top_p`, `top_k`, `frequency_penalty` and `presence_penalty` say how to decode;
    with no `temperature`, `top_p` or `top_k`, or a temperature of 0, decoding is greedy. With a strategy, that decodes,
    and a warning says which of them it overrules. `num_choices` are samples of one prompt. With a `seed`, equal
    requests get equal answers; without one, each request draws its own and tells it in the output's metadata.

    The model is loaded with the first request: inspect also makes providers only to ask for their name.

    Args:
        model_name: what comes after `ovdecode/`.
        base_url: must be left out: the model runs in this process.
        api_key: not used.
        config: inspect's own.
        strategy: a strategy or its spec string. (The command line of inspect cuts text at commas; a list is joined.)
        precision, threads, device: as in `ovdecode.load`.
        chat: false for a model without a chat template: the texts of the messages are its prompt, one a paragraph.

    Raises:
        ConfigurationError: for what is not honoured.
    """

    model_name: str

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: Any = None,
        strategy: Strategy | str | list[str] | None = None,
        precision: str = "fast",
        threads: int | None = None,
        device: str = "CPU",
        chat: bool = True,
    ) -> None:
        from inspect_ai.model import GenerateConfig

        from ovdecode.spec import parse

        super().__init__(model_name, base_url, api_key, config=config or GenerateConfig())  # type: ignore[call-arg]
        if base_url is not None:
            raise ConfigurationError(f"`base_url` must be left out: the model runs in this process; got {base_url!r}")
        spec = ",".join(strategy) if isinstance(strategy, list) else strategy
        self.named = cast(Strategy, parse(spec)) if isinstance(spec, str) else spec
        self.chat = chat
        self._serve = partial(_serve, model_name, precision, threads, device)
        self._service: Service | None = None
        self._said = set[str]()

    async def generate(self, input: list[Any], tools: list[Any], tool_choice: Any, config: Any) -> Any:
        """The model's reply to a conversation, as often as `num_choices` says."""
        from inspect_ai.model import ModelOutput, ModelUsage

        if tools:
            raise ConfigurationError("`tools` must be left out: models of this provider can't call any")
        service, began = self._loaded(), perf_counter()
        prompt = self._prompt(service.model, input)
        strategy = self._strategy(config)
        seed = secrets.randbits(32) if config.seed is None else config.seed
        stop = StopString(config.stop_seqs) if config.stop_seqs else None
        bound = config.max_tokens or self.max_tokens()
        tasks = [
            Task(service.model, prompt, strategy, bound, stop, seed=seed, sample=sample)
            for sample in range(config.num_choices or 1)
        ]
        generations = await _decode(service.worker, tasks)
        for generation in generations:
            if generation.error is not None:
                raise generation.error
        made = sum(len(generation.tokens) for generation in generations)
        return ModelOutput(
            model=self.model_name,
            choices=[self._choice(generation, bool(config.logprobs)) for generation in generations],
            usage=ModelUsage(input_tokens=len(prompt), output_tokens=made, total_tokens=len(prompt) + made),
            time=perf_counter() - began,
            metadata={
                "strategy": str(strategy),
                "seed": seed,
                "runner": generations[0].runner,
                "precision": generations[0].precision,
            },
        )

    def close(self) -> None:
        """Let go of the model; what no other provider uses ends and is freed."""
        self._service = None

    def max_tokens(self) -> int:
        """Bound on generated tokens where none is given."""
        return 2048

    def max_connections(self) -> int:
        """How many requests are sent at once: what the engine runs at once."""
        return 64

    def collapse_user_messages(self) -> bool:
        """Chat templates expect turns that alternate."""
        return True

    async def count_text_tokens(self, text: str) -> int:
        """How many tokens a text is."""
        return len(await self.tokenize(text))

    async def tokenize(self, text: str) -> list[int]:
        """The token ids of a text."""
        return self._loaded().model.vocabulary.spelling.encode(text)

    def _loaded(self) -> Service:
        self._service = self._service or self._serve()
        return self._service

    def _prompt(self, model: Model, messages: list[Any]) -> list[int]:
        for message in messages:
            kinds = {part.type for part in message.content} if isinstance(message.content, list) else set()
            if kinds - {"text", "reasoning"}:
                raise PromptError(f"`content` of a message must be text, got {', '.join(sorted(kinds))}")
        if not self.chat:
            return model.encode("\n\n".join(message.text for message in messages))
        return model.apply_chat_template([{"role": message.role, "content": message.text} for message in messages])

    def _strategy(self, config: Any) -> Strategy:
        """What is to decode: the strategy that was named, or what the settings ask for."""
        for name in REFUSED:
            if getattr(config, name) not in (None, 0):
                raise ConfigurationError(
                    f"`{name}` must be left out, got {getattr(config, name)!r:.80}; the strategy may have a processor "
                    "for it"
                )
        given = {name: getattr(config, name) for name in SAMPLING if getattr(config, name) is not None}
        if self.named is not None:
            if given:
                self._say(f"`{self.named}` decodes, as it was named; what the settings ask for is left out: {given}")
            return self.named
        penalties = {name: value for name in PENALTIES if (value := given.pop(name, None))}
        if not given or given.get("temperature") == 0:
            return Greedy(processors=Sampling(**penalties).chain)
        return Sampling(**given, **penalties)

    def _choice(self, generation: Generation, logprobs: bool) -> Any:
        from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, Logprobs

        reason = generation.stop_reason
        return ChatCompletionChoice(
            message=ChatMessageAssistant(content=generation.text, model=self.model_name, source="generate"),
            stop_reason="unknown" if reason is None else REASONS.get(reason.name, "stop"),
            logprobs=Logprobs(content=_logprobs(generation)) if logprobs else None,
        )

    def _say(self, message: str) -> None:
        """Warn, once."""
        if message not in self._said:
            self._said.add(message)
            log.warning("%s", message)


def _serve(source: str, precision: str, threads: int | None, device: str) -> Service:
    from ovdecode.loading import load

    key = source, precision, threads, device
    service = _services.get(key)
    if service is None:
        options: Any = {"precision": precision, "threads": threads, "device": device}
        service = _services[key] = Service(load(source, **options))
    return service


async def _decode(worker: Worker, tasks: list[Task]) -> list[Generation]:
    """The generations of some tasks, in order; if whoever waits is cancelled, so are they.

    Each is waited for in a thread, which works on any event loop that inspect may run on.
    """
    from anyio import CapacityLimiter, to_thread

    futures = [worker.submit(task) for task in tasks]
    try:
        limiter = CapacityLimiter(1)  # of its own: others that wait take none of its threads
        return await to_thread.run_sync(
            lambda: [future.result() for future in futures], abandon_on_cancel=True, limiter=limiter
        )
    finally:
        for future in futures:
            future.cancel()


def _logprobs(generation: Generation) -> list[Any]:
    from inspect_ai.model import Logprob

    spell = generation.task.model.vocabulary.spelling.token_bytes
    spelled = [spell(token) for token in generation.tokens]
    return [
        Logprob(token=piece.decode("utf-8", "replace"), logprob=logprob, bytes=list(piece))
        for piece, logprob in zip(spelled, generation.token_logprobs, strict=True)
    ]


if not TYPE_CHECKING and find_spec("inspect_ai") is not None:
    from inspect_ai.model import modelapi

    modelapi("ovdecode")(OvdecodeAPI)
