"""Beam search for sequences that contain given phrases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ovdecode.candidates import Candidates
from ovdecode.errors import LogitsError
from ovdecode.fold import Fold
from ovdecode.plugin import require
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.beams import BeamStrategy, Search
from ovdecode.strategies.extensions import Extensions, length_bound, next_tokens
from ovdecode.strategies.phrases import Progress, encoded, progress_with, read_phrases
from ovdecode.strategy import Decoding, Hypothesis, Outcome


@register("constrained_beam")
@dataclass(frozen=True)
class ConstrainedBeamSearch(BeamStrategy):
    """Beam search whose every result contains all given phrases, in any order.

    Law: the candidates of a round are the best extensions of all beams, the best extension of each beam, and
    each beam's extensions by a token that begins or goes on with a phrase it still lacks. They are sorted into
    banks by how many phrase tokens they have, and the places of the beam are given out in turns, best of each
    bank first, from the highest bank down; places in this order count as ranks in beam search. A sequence that
    the stop ends before it has all phrases is dropped. So if the stop leaves room for the phrases one after
    another, and processors allow them, they are met.
    Source: Post and Vilar 2018, "Fast Lexically Constrained Decoding with Dynamic Beam Allocation for Neural
    Machine Translation" (arXiv:1804.06609). Here phrases may overlap, and what has been begun is read off the
    sequence's end, where the authors keep one phrase in progress.

    `info` has `phrases_met`, how many phrases the best result contains.

    Args:
        phrases: text, token ids, or several of both. Text stands for the tokens that the tokenizer gives it alone:
            begin it with a space where a word begins. The same text in other tokens does not count.
        strict: whether it is an error if no sequence contains all phrases. If not, the best of those that have
            most phrase tokens is returned in that case.

    Example:
        >>> import ovdecode as od
        >>> model = od.Model(od.TableRunner({(): [5.0, 0.0, 4.0]}))
        >>> model.generate([0], od.ConstrainedBeamSearch(phrases="bc"), max_new_tokens=4).text
        'aabc'
    """

    aliases = ("force_words", "force_words_ids", "lexically_constrained")

    phrases: str | Iterable[str | Iterable[int]] = field(kw_only=True)
    strict: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        phrases = read_phrases(self.phrases)
        known = bool(phrases) and all(phrases)
        require(self, "phrases", known, 'one or more texts or lists of token ids, such as [" Paris",[12,5]]')
        object.__setattr__(self, "phrases", phrases)

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Gather candidates, sort them into banks, give out the places."""
        if stop(prompt):
            return prompt
        phrases = encoded(self.phrases, prompt.vocabulary.spelling)
        progress = progress_with(phrases)
        search, incomplete = Search(self, prompt, stop), list[Hypothesis]()
        while beams := search.running:
            rows = yield [beam.sequence for beam in beams]
            helpful = [progress(beam.sequence).helpful(phrases) for beam in beams]
            tokens = [
                next_tokens(self, logits, beam.sequence, search.width, wanted)
                for logits, beam, wanted in zip(rows, beams, helpful, strict=True)
            ]
            possible = list[Hypothesis]()
            for candidate in _gathered(beams, tokens, helpful, search.width):
                if all(progress(candidate.sequence).met) or not stop(candidate.sequence):
                    possible.append(candidate)
                else:
                    incomplete.append(candidate)
            incomplete.sort(key=lambda each: (-progress(each.sequence).bank, -each.score))
            del incomplete[1:]
            search.take(_in_turns(possible, progress))
        if search.finished.hypotheses:
            return search.finished.outcome(self, self.num_return_sequences, {"phrases_met": len(phrases)})
        if self.strict or not incomplete:
            bound = length_bound(stop, prompt)
            room = "" if bound is None else f" of at most {bound} tokens"
            raise LogitsError(
                f"`constrained_beam` found no sequence{room} that contains all of its {len(phrases)} phrases, which "
                f"have {sum(map(len, phrases))} tokens; allow more tokens, or processors that do not exclude them"
            )
        return Outcome(tuple(incomplete), {"phrases_met": sum(progress(incomplete[0].sequence).met)})


def _gathered(
    beams: list[Hypothesis], tokens: list[Candidates], helpful: list[set[int]], width: int
) -> Iterator[Hypothesis]:
    """The round's candidates, best first."""
    extensions, seen = Extensions.by(beams, tokens), set[int]()
    for rank, index in enumerate(extensions.ranked()):
        beam = int(extensions.origins[index])
        if rank < width or beam not in seen or extensions.ids[index] in helpful[beam]:
            seen.add(beam)
            yield extensions[index]


def _in_turns(candidates: list[Hypothesis], progress: Fold[Progress]) -> list[Hypothesis]:
    """The best of each bank, highest bank first, then the second best of each, and so on."""
    banks = dict[int, int]()
    turns = []
    for candidate in candidates:
        bank = progress(candidate.sequence).bank
        turn = banks[bank] = banks.get(bank, -1) + 1
        turns.append((turn, -bank))
    return [candidates[place] for place in sorted(range(len(candidates)), key=turns.__getitem__)]
