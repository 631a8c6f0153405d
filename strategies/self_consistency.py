"""The answer that most of several decodings come to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from decimal import Decimal

from ovdecode.plugin import require
from ovdecode.random import Random
from ovdecode.registry import register
from ovdecode.sequence import Sequence
from ovdecode.stopping import Stop
from ovdecode.strategies.sampling import Sampling
from ovdecode.strategies.several import decodings, finish, shown_text
from ovdecode.strategy import Decoding, Hypothesis, Outcome, Strategy

_NUMBER = re.compile(r"(?:(?<![0-9A-Za-z)])[-−])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?")
"""A number as texts have it: 7, −7, 1,000 or 2.50. In 5-3, the sign is a subtraction."""


@register("self_consistency")
@dataclass(frozen=True)
class SelfConsistency(Strategy):
    """Of n decodings by another strategy, one whose final answer most of them share.

    Law: decoding i is what the other strategy does with the i-th independent stream of random numbers. Each
    text votes for the answer that is found in it; a text without one does not vote. The result is the most
    probable text (by the model's own log-probability, before any processor) of the answer with the most
    votes; of answers with equally many, the one whose most probable text is more probable. Texts are ranked
    so throughout, answer by answer, those without an answer last; their score is the votes of their answer.
    Source: Wang et al. 2022, "Self-Consistency Improves Chain of Thought Reasoning in Language Models",
    arXiv:2203.11171, who sample 40 texts.

    The result's `info` has the `votes` of the answer, their `share` of all texts (the consistency of the
    paper), and how many different `answers` there were.

    Args:
        n: how many decodings; at least 1.
        strategy: what makes each of them.
        pattern: a regular expression with a group, such as `"answer is (\\w+)"`; the answer is what the group
            holds where the pattern is found last, without spaces around it. None for the last number of the
            text, as for the problems of GSM8K (Cobbe et al. 2021, arXiv:2110.14168); 1,000 and 1000.0 are
            then one answer.
        alternatives: every sequence that a decoding returns has a vote, not its best alone: for beam search,
            say, with n = 1.
        processors: applied before the processors of `strategy`.

    Example:
        >>> import ovdecode as od
        >>> coin = od.Model(od.TableRunner({(): [1.0, 0.0]}))
        >>> vote = od.SelfConsistency(n=9, pattern="([ab])$")
        >>> generation = coin.generate([0], vote, max_new_tokens=3)
        >>> generation.text[-1], generation.info["votes"], generation.info["answers"]
        ('a', 7, 2)
    """

    aliases = ("majority_vote",)

    n: int = 8
    strategy: Strategy = field(default=Sampling())
    pattern: str | None = None
    alternatives: bool = False

    def __post_init__(self) -> None:
        require(self, "n", self.n >= 1, "a whole number of at least 1")
        if self.pattern is not None:
            try:
                groups = re.compile(self.pattern).groups
            except re.error:
                groups = 0
            require(self, "pattern", groups > 0, "a regular expression with a group, such as 'answer is (.+)'")

    def decode(self, prompt: Sequence, stop: Stop, rng: Random) -> Decoding:
        """Run all, count the votes."""
        running = decodings(self.strategy, self.n, prompt, stop, rng, processors=self.processors)
        found = yield from finish(running, alternatives=self.alternatives)
        ranked = sorted((one for sequences in found for one in sequences), key=lambda one: -one.logprob)
        answers = [self.answer(shown_text(sequence, stop)) for sequence in ranked]
        votes = Counter(answer for answer in answers if answer is not None)
        # The first place of an answer is that of its most probable text: it breaks ties, and keeps answers together.
        order = sorted(range(len(ranked)), key=lambda place: (-votes[answers[place]], answers.index(answers[place])))
        hypotheses = tuple(Hypothesis(ranked[place], float(votes[answers[place]])) for place in order)
        most = votes[answers[order[0]]]
        return Outcome(hypotheses, {"votes": most, "share": most / len(ranked), "answers": len(votes)})

    def answer(self, text: str) -> Hashable | None:
        """What a text votes for; None if there is no answer in it."""
        if self.pattern is None:
            numbers = _NUMBER.findall(text)
            return Decimal(numbers[-1].replace(",", "").replace("−", "-")) if numbers else None
        *_, last = [None, *re.finditer(self.pattern, text)]
        answer = None if last is None else last.group(1)
        return None if answer is None else answer.strip()
