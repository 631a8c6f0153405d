"""Exact search, depth first."""

from __future__ import annotations

from dataclasses import dataclass

from ovdecode.registry import register
from ovdecode.strategies.optimal import OptimalSearch, Stack


@register("exact_search")
@dataclass(frozen=True)
class ExactSearch(OptimalSearch):
    """The sequence with the best score of all, found depth first and proved by bounds.

    Law: if `proved` is 1.0, no sequence that the stop ends has a better score than those returned. The score
    is log p / length ** length_penalty, where p is the probability that sampling from the processed logits
    gives the sequence. Of equals, the one found first is kept.
    Source: Stahlberg and Byrne 2019, "On NMT Search Errors and Model Errors: Cat Got Your Tongue?"
    (arXiv:1908.10090): depth-first search that follows the best branch first and leaves out what cannot beat
    the best sequence found. They begin with beam search's result as the bound; here the first dive, which is
    greedy decoding, gives the first one.

    It needs little memory: branches of one path at a time (with `batch_size` 1). `a_star` asks about fewer
    sequences and keeps more of them.

    Example:
        >>> import ovdecode as od
        >>> rows = {(0,): [-9, 5, 5.1, -9], (1,): [-9, -9, -9, 9], (): [0, 0, 0, 0]}
        >>> generation = od.Model(od.TableRunner(rows)).generate([0], od.ExactSearch(batch_size=1), max_new_tokens=2)
        >>> generation.tokens, dict(generation.info)
        ((1, 3), {'nodes': 3, 'proved': 1.0})
    """

    aliases = ("branch_and_bound",)

    def frontier(self) -> Stack:
        """Last in, first out."""
        return Stack()
