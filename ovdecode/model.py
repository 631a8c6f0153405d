"""A model to decode with: a runner, a vocabulary and a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Items
from typing import TYPE_CHECKING, Any

from ovdecode.engine import Engine, Piece, Task
from ovdecode.errors import ConfigurationError, PromptError
from ovdecode.generation import Generation
from ovdecode.runners.base import ModelRunner
from ovdecode.strategy import Strategy
from ovdecode.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ovdecode.models.tokenizer import Tokenizer


class Model:
    """What tasks name as their model. `ovdecode.load` makes one of a real model.

    Args:
        runner: answers requests about sequences.
        eos_token_ids: the tokens that end a text.
        tokenizer: turns text into ids and back; without one, prompts are token ids, and token 0 is shown as "a".
        name: shown in tables.
        load_sibling: loads the model that a strategy names as a draft or an amateur, as this one was loaded.
    """

    def __init__(
        self,
        runner: ModelRunner,
        eos_token_ids: Items[int] = (),
        tokenizer: Tokenizer | None = None,
        name: str = "table",
        load_sibling: Callable[[str], Model] | None = None,
    ) -> None:
        self.runner, self.tokenizer, self.name = runner, tokenizer, name
        self._load_sibling, self._siblings = load_sibling, dict[str, Model]()
        self._truncated = dict[int, Model]()
        self.vocabulary = Vocabulary(runner.vocab_size, eos_token_ids, tokenizer)

    def generate(self, prompt: Any, strategy: Strategy | str = "greedy", **options: Any) -> Generation:
        """Decode one prompt and return the result.

        Args:
            prompt: text, token ids, or messages.
            strategy: a strategy or its spec string.
            options: the other fields of `Task`.

        Raises:
            Exception: whatever went wrong in decoding.
        """
        (generation,) = Engine().run([Task(self, prompt, strategy, **options)])
        if generation.error is not None:
            raise generation.error
        return generation

    def stream(self, prompt: Any, strategy: Strategy | str = "greedy", **options: Any) -> Iterator[str]:
        """Decode one prompt and yield its text in pieces, as soon as the strategy commits to them.

        Takes what `generate` takes. Methods that decide at the end (beam search) yield one piece.
        """
        for event in Engine().events([Task(self, prompt, strategy, **options)]):
            if isinstance(event, Piece):
                yield event.text
            elif event.error is not None:
                raise event.error
            elif not event.task.method.commits:
                yield event.text

    def sibling(self, source: str) -> Model:
        """The model that a strategy names by its source: loaded once, on the same device and in the same precision.

        Raises:
            ConfigurationError: if this model was not loaded from a source itself.
        """
        if source not in self._siblings:
            if self._load_sibling is None:
                raise ConfigurationError(
                    f"`model` must be a Model beside one that was not loaded by `ovdecode.load`, got {source!r}"
                )
            self._siblings[source] = self._load_sibling(source)
        return self._siblings[source]

    def truncated(self, layer: int) -> Model:
        """This model without the layers above one of them: its final norm and LM head read what that layer leaves.

        It shares the weights on disk and in the graph, is compiled once, at its first use, and has a cache of its own.
        It is a faster and worse model of the same vocabulary: a draft model, an amateur, or a subject of study.

        Args:
            layer: the last that stays, from 1 to the number of layers, which is this model itself.

        Raises:
            ConfigurationError: if there is no such layer, or the runner can't leave any out.
            ModelError: if the architecture has no plain residual stream.

        Example:
            >>> import ovdecode as od
            >>> model = od.Model(od.TableRunner([[0, 9], [9, 0]], layers={1: [[9, 0], [9, 0]]}))
            >>> model.generate([0], max_new_tokens=3).text, model.truncated(1).generate([0], max_new_tokens=3).text
            ('bab', 'aaa')
        """
        if layer == self.runner.num_layers:
            return self
        if layer not in self._truncated:
            runner = self.runner.truncated(layer)
            eos = sorted(self.vocabulary.eos_token_ids)
            self._truncated[layer] = Model(runner, eos, self.tokenizer, f"{self.name}, {layer} layers")
        return self._truncated[layer]

    def encode(self, text: str) -> list[int]:
        """The token ids of a text as a prompt: with the BOS token, where the tokenizer adds one, and never an EOS."""
        return self.vocabulary.encode(text)

    def apply_chat_template(self, messages: Items[Any]) -> list[int]:
        """The token ids of a conversation, ready for the model's reply.

        Raises:
            PromptError: if the model has no tokenizer, so no chat template.
        """
        if self.tokenizer is None:
            raise PromptError("`prompt` must be text or token ids for a model without a tokenizer, got messages")
        return self.tokenizer.apply_chat_template(messages)

    def __repr__(self) -> str:
        return f"Model({self.name}, {self.runner.name}, {self.runner.precision})"


def run(tasks: Iterable[Task], *, max_live: int = 64, max_tokens: int = 512) -> Iterator[Generation]:
    """Decode tasks in one shared batch; each result is yielded when it is there, a failed one with its error.

    Args:
        tasks: may be of different models; see `Task`.
        max_live: how many run at once.
        max_tokens: bound on tokens in one inference.

    Raises:
        ConfigurationError: for one task alone, or anything else that is no iterable.
    """
    if not isinstance(tasks, Iterable):
        raise ConfigurationError(f"`tasks` must be an iterable of tasks, got {tasks!r:.80}; write od.run([task])")
    return Engine(max_live=max_live, max_tokens=max_tokens).run(tasks)
