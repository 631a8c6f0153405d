"""From cells to what an engine decodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from ovdecode.experiment.cells import Cell
from ovdecode.experiment.plan import Experiment
from ovdecode.experiment.prompts import Prompt
from ovdecode.spec import parse

if TYPE_CHECKING:
    from ovdecode.engine import Task
    from ovdecode.model import Model
    from ovdecode.strategy import Strategy


class Tasks:
    """Makes the tasks of an experiment's cells.

    Args:
        experiment: what its cells have in common.
        models: gives the model of a source.
    """

    def __init__(self, experiment: Experiment, models: Callable[[str], Model]) -> None:
        self._experiment, self._models = experiment, models
        self._methods = {spec: cast("Strategy", parse(spec)) for spec in experiment.strategies}

    def __call__(self, cell: Cell, prompt: Prompt) -> Task:
        """The task of a cell."""
        from ovdecode.engine import Task

        plan = self._experiment
        return Task(
            self._models(cell.model),
            prompt.content,
            self._methods[cell.strategy],
            plan.max_new_tokens,
            plan.stop,
            plan.ignore_eos,
            plan.seed,
            cell.sample,
        )
