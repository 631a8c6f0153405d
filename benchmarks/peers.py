"""Are we ahead of the peers? Ours against openvino.genai, optimum-intel and llama.cpp, on the same model.

    python benchmarks/peers.py [--quick] [--threads 2] [--only greedy_1 memory ...] [--seconds 25]
        [--optimum other-environment/bin/python] [--gguf model.gguf] [--json results.json]

openvino.genai and optimum-intel read the same OpenVINO folder as we do. optimum-intel pins another transformers, so it
runs in an environment of its own, as a process that is driven line by line; llama.cpp takes part where llama-cpp-python
is installed and a GGUF file is named. All loops of a row run in turn, in shuffled rounds, on fresh random prompts each
time (so that nobody's prefix cache helps), with tokens that end a text ignored: everybody makes as many tokens. Where a
peer's beam search ends a text early nevertheless, its seconds are counted up to the same number. One line a group of
peers: the best of the group, and the median over rounds of ours against it in the same round.

Run it where nothing but the project and openvino.genai is installed: with torch beside it, transformers imports torch
when our tokenizer is made, and our start and memory show that.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import Table, arguments, paired_ratio, shuffled_rounds
from engines import Engine, Job, Method, Process, Setup, Unsupported, genai, llama_cpp, ours

from ovdecode.models import cache_folder, locate

SAMPLING: Method = {"temperature": 0.8, "top_k": 50, "top_p": 0.95}
BEAMS: Method = {"num_beams": 4}
SETTINGS: list[Method] = [
    {},
    {"temperature": 0.7},
    {"temperature": 1.2, "top_k": 20},
    {"top_p": 0.9},
    SAMPLING,
    {"temperature": 0.9, "top_p": 0.8},
    {"temperature": 1.1, "top_k": 100},
    {"min_p": 0.05},
]
METHODS: list[Method] = [
    {},
    {"top_p": 0.95},
    {"min_p": 0.1},
    {"typical_p": 0.9},
    {"mirostat": 3.0},
    BEAMS,
    {"penalty_alpha": 0.6, "top_k": 4},
    {"prompt_lookup": True},
]
PASSAGES = [
    "def area(width, height):\n    return width * height\n\ndef volume(width, height, depth):\n"
    "    return area(width, height) * depth\n\ndef surface(width, height, depth):\n"
    "    return 2 * (area(width, height) + area(width, depth) + area(height, depth))\n\n",
    "The committee met on Monday, the 3rd of May, in the main hall of the old library. Present were the chair, the "
    "treasurer and eleven members. The minutes of the last meeting were read and approved. The treasurer reported a "
    "balance of 4,120 pounds, of which 850 are set aside for the repair of the roof.\n\n",
    '{"name": "Alice", "age": 31, "city": "Leeds", "skills": ["welding", "chess", "Spanish"]}\n'
    '{"name": "Bruno", "age": 45, "city": "Porto", "skills": ["sailing", "violin", "French"]}\n'
    '{"name": "Chika", "age": 27, "city": "Osaka", "skills": ["pottery", "tennis", "German"]}\n\n',
    "Wash the lentils. Chop two onions and fry them in a little oil until they are soft. Add the lentils, a litre of "
    "water, a bay leaf and a teaspoon of salt. Let everything simmer for forty minutes, and stir it now and then. "
    "Serve it with bread and a slice of lemon.\n\n",
]


@dataclass
class Bench:
    """What the rows share: the engines, and the table.

    Attributes:
        groups: name of a peer to its engines, of which the best counts.
        notes: why something was not measured.
    """

    options: argparse.Namespace
    setup: Setup
    vocab: int
    our: dict[str, Engine]
    groups: dict[str, dict[str, Engine]]
    table: Table
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    notes: list[str] = field(default_factory=list)

    def prompts(self, count: int, length: int = 64) -> list[list[int]]:
        """Random tokens, (count, length)."""
        tokens: list[list[int]] = self.rng.integers(100, self.vocab, (count, length)).tolist()
        return tokens

    def new(self, tokens: int = 128) -> int:
        """How many tokens to make of a prompt."""
        return min(tokens, 16) if self.options.quick else tokens

    def measure(self, loops: Mapping[str, Callable[[], float]], warm_ups: int = 0) -> dict[str, list[float]]:
        """Seconds by name and round."""
        rounds = 1 if self.options.quick else 9
        return shuffled_rounds(loops, rounds, warm_ups, self.options.seconds)

    def race(
        self,
        row: str,
        job: Callable[[int], Job],
        asked: dict[str, float],
        peers: dict[str, list[str]],
        tokens: bool = True,
    ) -> None:
        """Run one kind of job through everybody, in turn, and add the lines of the table.

        Args:
            job: a new job of this many new tokens a prompt.
            asked: peer to the ratio that ours must reach.
            peers: the engines to run, by peer.
            tokens: show tokens a second; or the milliseconds of the whole job.
        """
        new, short = (self.new(), 4) if tokens else (1, 1)
        able: dict[str, list[str]] = {}
        loops: dict[str, Callable[[], float]] = {}

        def run(name: str, engine: Engine) -> float:
            fresh = job(new)
            begin = time.perf_counter()
            made = engine(fresh)
            seconds = time.perf_counter() - begin
            asked, tokens = new * len(fresh.prompts), sum(map(len, made))
            if not (asked if name == "ours" else asked / 2) <= tokens <= asked:
                raise SystemExit(f"{row}: {name} must make {new} tokens of each prompt, but made {tokens} of {asked}")
            return seconds * asked / tokens

        for peer, engines in {"ovdecode": {"ours": self.our["fast"]}, **self.groups}.items():
            for name, engine in engines.items():
                if peer == "ovdecode" or name in peers.get(peer, []):
                    try:
                        engine(job(short))  # warms up, too
                    except Unsupported as error:
                        self.notes.append(f"{row}: {name} is left out: {error}")
                    else:
                        able.setdefault(peer, []).append(name)
                        loops[name] = partial(run, name, engine)
        seconds = self.measure(loops)
        total = len(job(new).prompts) * new if tokens else None
        for peer in [*able][1:]:
            best = min(able[peer], key=lambda name: statistics.median(seconds[name]))
            self.compare(row, seconds["ours"], best, seconds[best], asked.get(peer), total)

    def compare(
        self, row: str, our: list[float], name: str, their: list[float], asked: float | None, tokens: int | None
    ) -> None:
        """Add a line: seconds of both, shown as tokens a second or as milliseconds."""
        values = [statistics.median(seconds) for seconds in (our, their)]
        shown = [tokens / value if tokens else 1e3 * value for value in values]
        self.line(row, "tokens/s" if tokens else "ms", shown[0], name, shown[1], paired_ratio(their, our), asked)

    def line(self, row: str, unit: str, our: float, peer: str, their: float, ratio: float, asked: float | None) -> None:
        """Add a line; above the ratio that is asked, ours is ahead."""
        verdict = "-" if asked is None else "yes" if ratio >= asked else "no"
        self.table.add(row, unit, our, peer, their, ratio, "-" if asked is None else asked, verdict)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        from transformers import AutoTokenizer

        ids: list[int] = AutoTokenizer.from_pretrained(self.setup.folder)(text)["input_ids"]
        return ids


def same(bench: Bench, count: int, method: Method, length: int = 64) -> Callable[[int], Job]:
    """Jobs of one method on random prompts."""
    return lambda new: Job(bench.prompts(count, length), [method] * count, new)


ONE = {"genai": ["genai sdpa", "genai paged", "genai batching"], "optimum": ["optimum"], "llama.cpp": ["llama.cpp"]}
MANY = {"genai": ["genai batching"], "optimum": ["optimum"]}


def greedy_1(bench: Bench) -> None:
    bench.race("greedy, 1 prompt", same(bench, 1, {}), {"genai": 1.0}, ONE)


def sampling_1(bench: Bench) -> None:
    bench.race("sampling, 1 prompt", same(bench, 1, SAMPLING), {"genai": 1.0}, ONE)


def greedy_32(bench: Bench) -> None:
    bench.race("greedy, 32 prompts", same(bench, 32, {}), {"genai": 1.0, "optimum": 1.15}, MANY)


def sampling_32(bench: Bench) -> None:
    bench.race("sampling, 32 prompts", same(bench, 32, SAMPLING), {"genai": 1.0, "optimum": 2.0}, MANY)


def beams(bench: Bench) -> None:
    bench.race("4 beams, 8 prompts", same(bench, 8, BEAMS), {"genai": 2.5, "optimum": 1.1}, MANY)


def settings(bench: Bench) -> None:
    def job(methods: list[Method], new: int) -> Job:
        return Job(bench.prompts(4 * len(methods)), [method for method in methods for _ in range(4)], new)

    bench.race("8 settings x 4 prompts", partial(job, SETTINGS), {"genai": 1.0}, MANY)
    bench.race("7 settings, 4 beams, x 4 prompts", partial(job, [*SETTINGS[:-1], BEAMS]), {"genai": 1.5}, MANY)


def methods(bench: Bench) -> None:
    """Eight methods at once, against those that a peer has: each (method, prompt) alone, and each method's batch."""
    count, new = (2, 8) if bench.options.quick else (8, 32)
    prompts = bench.prompts(count)

    def together(new: int = new) -> float:
        begin = time.perf_counter()
        bench.our["fast"](Job(prompts * len(METHODS), [method for method in METHODS for _ in prompts], new))
        return time.perf_counter() - begin

    def apart(engines: list[Engine], jobs: list[Job]) -> float:
        begin = time.perf_counter()
        for engine, job in zip(engines, jobs, strict=True):
            engine(job)
        return time.perf_counter() - begin

    together(2)  # warms up; so does finding out what a peer has
    for peer, engines in bench.groups.items():
        if peer not in ("genai", "optimum"):
            continue
        has: list[tuple[Method, Engine]] = []
        for method in METHODS:
            for engine in (each for name, each in engines.items() if name != "genai sdpa"):
                try:
                    engine(Job(prompts[:1], [method], 2))
                except Unsupported:
                    continue
                has.append((method, engine))
                break
        alone = [(engine, Job([prompt], [method], new)) for method, engine in has for prompt in prompts]
        batched = [(engine, Job(prompts, [method] * count, new)) for method, engine in has]
        loops: dict[str, Callable[[], float]] = {
            "ours": together,
            "alone": partial(apart, [engine for engine, _ in alone], [job for _, job in alone]),
            "batched": partial(apart, [engine for engine, _ in batched], [job for _, job in batched]),
        }
        seconds = bench.measure(loops)
        our_tokens, their_tokens = count * new * len(METHODS), count * new * len(has)
        for way, asked in (("alone", 5.0 if peer == "optimum" else None), ("batched", None)):
            bench.line(
                f"8 methods x {count} prompts; its {len(has)} {way}",
                "tokens/s",
                our_tokens / statistics.median(seconds["ours"]),
                peer,
                their_tokens / statistics.median(seconds[way]),
                paired_ratio(seconds[way], seconds["ours"]) * our_tokens / their_tokens,
                asked,
            )


def lookup(bench: Bench) -> None:
    """Prompt lookup against greedy decoding, and against genai's, where the text before is said once more."""
    texts = [bench.encode(passage) for passage in PASSAGES]
    prompts = [2 * text + text[:4] for text in texts]
    found: dict[tuple[str, str], list[list[list[int]]]] = {}

    def run(name: str, precision: str, engine: Engine, method: Method) -> float:
        begin = time.perf_counter()
        found[name, precision] = [engine(Job([prompt], [method], bench.new())) for prompt in prompts]
        return time.perf_counter() - begin

    draft: Method = {"prompt_lookup": True}
    bench.our.setdefault("invariant", ours(bench.setup, "invariant"))
    for precision in ("fast", "invariant"):
        engine = bench.our[precision]
        loops = {
            "greedy": partial(run, "greedy", precision, engine, {}),
            "ours": partial(run, "ours", precision, engine, draft),
        }
        peer = bench.groups.get("genai", {}).get("genai lookup")
        if precision == "fast" and peer is not None:
            loops["genai lookup"] = partial(run, "genai lookup", precision, peer, draft)
        seconds = bench.measure(loops, warm_ups=1)
        if precision == "invariant" and found["ours", precision] != found["greedy", precision]:
            raise SystemExit("in `invariant`, prompt lookup must give the tokens of greedy decoding, but it does not")
        tokens = len(prompts) * bench.new()
        row = f"prompt lookup, {precision}"
        bench.compare(row, seconds["ours"], "our greedy", seconds["greedy"], 2.0, tokens)
        if "genai lookup" in seconds:
            bench.compare(row, seconds["ours"], "genai lookup", seconds["genai lookup"], None, tokens)


def first_token(bench: Bench) -> None:
    length = 500 if bench.options.quick else 2_000
    row = f"first token of a prompt of {length}"
    bench.race(row, same(bench, 1, {}, length), {"genai": 1.0}, ONE, tokens=False)


def _fresh(bench: Bench, python: str, engine: str, job: Job) -> dict[str, Any]:
    with Process(python, engine, bench.setup) as process:
        return process.answer(job)


def _processes(bench: Bench) -> dict[str, tuple[str, str]]:
    """Who can run in a process of its own: name to Python and engine."""
    found = {name: (sys.executable, name) for name in ("ours", "genai", "genai sdpa")}
    if bench.options.optimum:
        found["optimum"] = (bench.options.optimum, "optimum")
    return {name: value for name, value in found.items() if name.split()[0] in ("ours", *bench.groups)}


def memory(bench: Bench) -> None:
    """The most memory of a process that decodes 32 prompts."""
    job = Job(bench.prompts(32), [{}] * 32, bench.new())
    peak = {name: _fresh(bench, *value, job)["peak_bytes"] / 2**20 for name, value in _processes(bench).items()}
    for name in [*peak][1:]:
        asked = 1.0 if name.startswith("genai") else None
        bench.line("peak memory, 32 sequences", "MiB", peak["ours"], name, peak[name], peak[name] / peak["ours"], asked)


def start(bench: Bench) -> None:
    """From the first line of a new process to its first token, the second time."""
    job = Job(bench.prompts(1, 16), [{}], 1)
    loops = {
        name: partial(lambda python, engine: float(_fresh(bench, python, engine, job)["since_start"]), *value)
        for name, value in _processes(bench).items()
    }
    seconds = bench.measure(loops, warm_ups=1)
    for name in [*seconds][1:]:
        asked = 1.0 if name.startswith("genai") else None
        bench.compare("second start", seconds["ours"], name, seconds[name], asked, None)


ROWS = [greedy_1, sampling_1, greedy_32, sampling_32, beams, settings, methods, lookup, first_token, memory, start]


def _peers(
    options: argparse.Namespace, setup: Setup, stack: ExitStack
) -> tuple[dict[str, dict[str, Engine]], list[str]]:
    """Who can be made, by peer and name, and notes on who can't."""
    makers: dict[str, dict[str, Callable[[], Engine]]] = {
        "genai": {f"genai {each}": partial(genai, setup, each) for each in ("sdpa", "paged", "batching", "lookup")}
    }

    def away() -> Engine:
        process = stack.enter_context(Process(options.optimum, "optimum", setup))
        return lambda job: list(process.answer(job)["tokens"])

    notes = []
    if options.optimum:
        makers["optimum"] = {"optimum": away}
    else:
        notes.append("optimum-intel is left out: name its Python with --optimum")
    if options.gguf:
        makers["llama.cpp"] = {"llama.cpp": partial(llama_cpp, Setup(str(options.gguf), "", setup.threads))}
    else:
        notes.append("llama.cpp is left out: name a file with --gguf")
    made: dict[str, dict[str, Engine]] = {}
    for peer, engines in makers.items():
        for name, make in engines.items():
            try:
                made.setdefault(peer, {})[name] = make()
            except Unsupported as error:
                notes.append(f"{name} is left out: {error}")
    return made, notes


def main() -> None:
    names = [row.__name__ for row in ROWS]
    options = arguments(
        __doc__,
        only={"nargs": "+", "choices": names, "default": names, "help": "some rows only"},
        optimum={"metavar": "PYTHON", "help": "the Python of an environment with optimum-intel"},
        seconds={"type": float, "default": 25.0, "help": "after how long a row begins no further round (default: 25)"},
        gguf={"type": Path, "help": "the model as a GGUF file, for llama.cpp"},
    )
    folder = locate("smollm2")
    cache = cache_folder() / "peers"
    cache.mkdir(parents=True, exist_ok=True)
    setup = Setup(str(folder.path), str(cache), options.threads)
    columns = ["row", "unit", "ours", "best peer", "theirs", "ratio", "asked", "reached"]
    with ExitStack() as stack:
        groups, notes = _peers(options, setup, stack)
        table = Table("ours and the peers; a ratio above 1 is in our favour", columns)
        bench = Bench(options, setup, folder.vocab_size or 0, {"fast": ours(setup)}, groups, table, notes=notes)
        for row in ROWS:
            if row.__name__ in options.only:
                row(bench)
    for note in dict.fromkeys(bench.notes):
        print(note)
    table.finish(options)


if __name__ == "__main__":
    main()
