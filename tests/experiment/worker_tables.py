"""What the workers of these tests run first: every source is the table, and each load of it leaves a line behind."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment_tables import table_model

import ovdecode as od
import ovdecode.experiment.manifest
import ovdecode.loading
import ovdecode.models

LOADS = "OVDECODE_TEST_LOADS"
"""The environment variable that names a file in which each load of a model leaves a line: of whom, and how."""


def load(source: str, **options: Any) -> od.Model:
    with open(os.environ[LOADS], "a") as file:
        file.write(f"{os.getpid()} {options['threads']}\n")
    return table_model()


@od.register("deadly")
@dataclass(frozen=True)
class Deadly(od.Strategy):
    """Greedy decoding that ends its process on its second sample: `times` times, as a file counts them."""

    file: str
    times: int

    def decode(self, prompt: od.Sequence, stop: Any, rng: od.Random) -> Any:
        second = rng.split(0).uniform() == od.Random(0, prompt.tokens.tolist(), 1).split(0).uniform()
        yield prompt
        if second and len(deaths := Path(self.file).read_text()) < self.times:
            Path(self.file).write_text(deaths + "x")
            os.kill(os.getpid(), signal.SIGKILL)
        return prompt + 1


@od.register("loud")
@dataclass(frozen=True)
class Loud(od.Strategy):
    """Writes to standard output, and never to where it must not."""

    def decode(self, prompt: od.Sequence, stop: Any, rng: od.Random) -> Any:
        print('{"refused": "by a method that prints"}', flush=True)
        yield prompt
        return prompt + 1


@od.register("stuck")
@dataclass(frozen=True)
class Stuck(od.Strategy):
    """Never comes back to the engine, once it has written its process's number into a file."""

    file: str

    def decode(self, prompt: od.Sequence, stop: Any, rng: od.Random) -> Any:
        yield prompt
        with open(self.file, "a") as file:
            file.write(f"{os.getpid()}\n")
        while True:
            time.sleep(1)


if LOADS in os.environ and __name__ != "worker_tables":
    ovdecode.loading.load = load  # type: ignore[assignment]
    ovdecode.models.locate = lambda source: source  # type: ignore
    ovdecode.experiment.manifest.folder_digest = lambda folder: f"named {folder}"  # type: ignore
