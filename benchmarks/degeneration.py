"""Does likely text degenerate, and which methods write as people do? Table 1 of Holtzman et al. 2020, again.

    OVDECODE_DATA=path/to/data python benchmarks/degeneration.py [--quick] [--passages 32] [--store degeneration.store]

Table 1 of "The Curious Case of Neural Text Degeneration" (arXiv:1904.09751), with the paper's definitions, on the
default model, and newer methods beside it. Human text is WikiText-2: passages that begin with a paragraph; every method
goes on from the first 30 words, for at most 200 tokens, and what the people wrote there is the first row.

The paper has GPT-2 Large, 5,000 passages of WebText and a beam of 16; here are a smaller model, fewer passages and a
beam of 8. Self-BLEU and Zipf's coefficient depend on how many passages there are, so figures are to be held against the
first row of their own table, and what is compared between the tables is the order of the methods.

Perplexity is the model's own of all tokens together; for methods with a temperature it is that of the model at this
temperature, before truncation, as the paper's program notes it. Repetition is the share of texts that end in a loop.

Ctrl-C keeps what is finished; the same command goes on with it.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from itertools import combinations
from math import nan
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import Table, arguments
from scipy.stats import kendalltau

import ovdecode as od
from ovdecode.experiment import Experiment, Store, run
from ovdecode.experiment.progress import Progress
from ovdecode.metric import Result

CONTEXT, NEW, WORDS = 30, 200, 260
"""Words that are given, tokens that are generated, and words of a passage: more than enough for both."""


class Row(NamedTuple):
    """A line of the table."""

    perplexity: float
    self_bleu: float
    zipf: float
    repetition: float


COLUMNS = dict(zip(Row._fields, ("perplexity", "self-BLEU4", "Zipf", "repetition %"), strict=True))
HUMAN = "human"
PAPER = {  # table 1, without its column of human judgements
    HUMAN: Row(12.38, 0.31, 0.93, 0.28),
    "greedy": Row(1.50, 0.50, 1.00, 73.66),
    "beam": Row(1.48, 0.44, 0.94, 28.94),
    "stochastic beam": Row(19.20, 0.28, 0.91, 0.32),
    "pure sampling": Row(22.73, 0.28, 0.93, 0.22),
    "sampling t=0.9": Row(10.25, 0.35, 0.96, 0.66),
    "top-k=40": Row(6.88, 0.39, 0.96, 0.78),
    "top-k=640": Row(13.82, 0.32, 0.96, 0.28),
    "top-k=40 t=0.7": Row(3.48, 0.44, 1.00, 8.86),
    "nucleus p=0.95": Row(13.13, 0.32, 0.95, 0.36),
}
METHODS = {
    "greedy": "greedy",
    "beam": "beam:num_beams=8,length_penalty=0.0",
    "stochastic beam": "stochastic_beam:num_beams=2",  # its first sequence has the same law, whatever the width
    "pure sampling": "sampling",
    "sampling t=0.9": "sampling:temperature=0.9",
    "top-k=40": "sampling:top_k=40",
    "top-k=640": "sampling:top_k=640",
    "top-k=40 t=0.7": "sampling:temperature=0.7,top_k=40",
    "nucleus p=0.95": "sampling:top_p=0.95",
    "typical=0.95": "sampling:typical=0.95",
    "eta=0.0009": "sampling:eta=0.0009",
    "mirostat τ=5": "sampling:processors=(mirostat:tau=5.0)",
    "min-p=0.1": "sampling:min_p=0.1",
    "min-p=0.1 t=1.5": "sampling:processors=(temperature:temperature=1.5|min_p:p=0.1)",
    "top-nσ=1 t=1.5": "sampling:temperature=1.5,top_n_sigma=1.0",
    "p-less": "sampling:processors=(p_less)",
    "contrastive search": "contrastive_search:penalty_alpha=0.6,top_k=4",
}
TEMPERED = {"sampling t=0.9": 0.9, "top-k=40 t=0.7": 0.7}
"""The paper's methods whose perplexity is the model's at a temperature."""


def human_text(given: Path | None) -> Path:
    """The file of WikiText-2.

    Raises:
        SystemExit: it is not there.
    """
    folder = os.environ.get("OVDECODE_DATA")
    file = given or (Path(folder) / "wikitext2_test.txt" if folder else None)
    if file is None or not file.is_file():
        raise SystemExit(
            f"`--human` must name the test text of WikiText-2, but {file or 'nothing'} is no file; give its path, or "
            "set OVDECODE_DATA to the folder that holds wikitext2_test.txt (github.com/pytorch/examples has it as "
            "word_language_model/data/wikitext-2/test.txt)"
        )
    return file


def passages(file: Path, count: int) -> list[str]:
    """Passages that begin with a paragraph and have `WORDS` words; they do not overlap. Those come first that have the
    fewest words hidden as <unk> by the data set, which are left out; so fewer passages are a part of more."""
    words: list[str] = []
    starts: list[int] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.strip().startswith("="):
            starts.append(len(words))
            words += [*line.split(), "\n\n"]
    hidden = np.cumsum([0, *(word == "<unk>" for word in words)])
    chosen: list[int] = []
    possible = [start for start in starts if start + WORDS <= len(words)]
    for start in sorted(possible, key=lambda start: (hidden[start + WORDS] - hidden[start], start)):
        if len(chosen) < count and all(abs(start - other) >= WORDS for other in chosen):
            chosen.append(start)
    return [_plain(" ".join(words[start : start + WORDS])) for start in chosen]


def _plain(text: str) -> str:
    """Text as people write it, of text whose marks stand apart."""
    text = text.replace("<unk> ", "").replace(" \n\n ", "\n\n")
    text = re.sub(r" @([-,.])@ ", r"\1", text)
    text = re.sub(r'" ([^"\n]*) "', r'"\1"', text)
    text = re.sub(r"([(\[]) ", r"\1", text)
    return re.sub(r" ([.,;:!?)\]%]|'s|'t|n't|'re|'ve)", r"\1", text)


def split(passage: str) -> tuple[str, str]:
    """What is given of a passage, and how it goes on, from the space on."""
    end = [match.end() for match in re.finditer(r"\S+", passage)][CONTEXT - 1]
    return passage[:end], passage[end:]


def human_row(model: od.Model, texts: list[str]) -> Row:
    """What the metrics say of what people wrote."""
    results = []
    for given, rest in map(split, texts):
        tokens = tuple(model.vocabulary.spelling.encode(rest)[:NEW])
        results.append(Result(rest, tokens, prompt=given, model=model, prompt_tokens=tuple(model.encode(given))))
    repetition = 100 * float(np.mean(od.LoopRate().measure(results)))
    return Row(od.CorpusPerplexity(model=model)(results), od.SelfBleu()(results), od.Zipf()(results), repetition)


def rows_of(store: Store) -> dict[str, Row]:
    """What was measured of each method."""
    columns = [store.set_values(metric)[0] for metric in ("corpus_perplexity", "self_bleu", "zipf")]
    loops = 100 * np.nanmean(store.values("loop_rate")[0], axis=(0, 2))  # an empty text is none of either kind
    return {name: Row(*map(float, row)) for name, *row in zip(METHODS, *columns, loops, strict=True)}


def agreement(ours: dict[str, Row]) -> Table:
    """Of each column: how far the order of the paper's methods is the paper's, and what is nearest to human text."""
    table = Table(
        "do the orders agree?", ["column", "Kendall's tau", "pairs that differ", "nearest to human", "paper's"]
    )
    for column, title in COLUMNS.items():
        theirs = {name: getattr(row, column) for name, row in PAPER.items()}
        here = {name: getattr(ours[name], column) for name in PAPER}
        differ = [
            f"{one} {'<' if here[one] < here[other] else '>'} {other}"
            for one, other in combinations(PAPER, 2)
            if (here[one] - here[other]) * (theirs[one] - theirs[other]) < 0
        ]
        methods = [name for name in PAPER if name != HUMAN]
        nearest = [min(methods, key=lambda name: abs(of[name] - of[HUMAN])) for of in (here, theirs)]
        tau = float(kendalltau(list(here.values()), list(theirs.values())).statistic)
        table.add(title, tau, f"{len(differ)} of {len(PAPER) * (len(PAPER) - 1) // 2}: {'; '.join(differ)}", *nearest)
    return table


def tell(progress: Progress) -> None:
    """Show on a terminal how far it is."""
    if sys.stderr.isatty():
        print(f"\r{progress.state}: {progress.finished} of {progress.total}   ", end="", file=sys.stderr, flush=True)


def main() -> None:
    options = arguments(
        __doc__,
        human={"type": Path, "help": "the test text of WikiText-2 (default: in the folder that OVDECODE_DATA names)"},
        passages={"type": int, "default": 32, "help": "how many passages (default: 32; 8 with --quick)"},
        precision={"default": "invariant", "help": "fast, invariant (default) or exact"},
        store={"type": Path, "default": Path("degeneration.store"), "help": "where finished texts are kept"},
    )
    texts = passages(human_text(options.human), 8 if options.quick else options.passages)
    model = od.load("smollm2", precision=options.precision, threads=options.threads)
    everything = Experiment(
        list(METHODS.values()),
        prompts=[given for given, _ in map(split, texts)],
        max_new_tokens=NEW,
        metrics=["corpus_perplexity", "self_bleu", "zipf", "loop_rate", "length"],
        precision=options.precision,
        threads=options.threads,
    )
    store = run(everything, options.store, models={"smollm2": model}, progress=tell)
    ours = {HUMAN: human_row(model, texts), **rows_of(store)}
    lengths = {HUMAN: float(NEW), **dict(zip(METHODS, store.values("length")[0].mean(axis=(0, 2)), strict=True))}
    for name, temperature in TEMPERED.items():
        metric = f"corpus_perplexity:temperature={temperature}"
        some = replace(everything, strategies=[METHODS[name]], metrics=[metric])
        found = run(some, options.store, models={"smollm2": model}).set_values(metric)
        ours[name] = ours[name]._replace(perplexity=float(found[0, 0]))
    run(everything, options.store, models={"smollm2": model})  # the store tells of all again

    heads = [head for title in COLUMNS.values() for head in (title, "paper's")]
    table = Table(f"human text and {len(texts)} passages by each method", ["method", "tokens", *heads])
    for name, row in ours.items():
        theirs = PAPER.get(name, Row(nan, nan, nan, nan))
        figures = [figure for pair in zip(row, theirs, strict=True) for figure in pair]
        table.add(name, lengths[name], *("-" if np.isnan(figure) else figure for figure in figures))
    table.finish(options, model)
    orders = agreement(ours)
    if options.json:
        options.json = options.json.with_suffix(".orders.json")
    orders.finish(options, model)


if __name__ == "__main__":
    main()
