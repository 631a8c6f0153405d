"""Experiments: models, methods and prompts in; results that survive a crash, and what to make of them, out.

from ovdecode.experiment import Experiment, run

grid = {"name": "sampling", "temperature": [0.5, 0.8, 1.1]}
store = run(Experiment(["greedy", grid], prompts=["Once upon a time"], samples=4), "my.store")
"""

from __future__ import annotations

from ovdecode.experiment.cells import Cell
from ovdecode.experiment.executors import Dask, InProcess, LocalProcesses
from ovdecode.experiment.plan import Experiment
from ovdecode.experiment.prompts import Prompt, Prompts
from ovdecode.experiment.record import Record
from ovdecode.experiment.run import run
from ovdecode.experiment.scores import Scores
from ovdecode.experiment.store import Store
from ovdecode.experiment.table import Summary, summarise, summary

__all__ = [
    "Cell", "Dask", "Experiment", "InProcess", "LocalProcesses", "Prompt", "Prompts", "Record", "Scores", "Store",
    "Summary", "run", "summarise", "summary",
]  # fmt: skip
