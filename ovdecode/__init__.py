"""ovdecode: a decoding laboratory for OpenVINO.

    import ovdecode as od

    model = od.load("smollm2")
    print(model.generate("Once upon a time", od.Sampling(temperature=0.8, top_p=0.95), seed=1))

Every plugin is an attribute of this package under its class name (`od.Sampling`, `od.TopP`, `od.MaxTime`). Nothing
heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovdecode.candidates import Candidates as Candidates
    from ovdecode.engine import Engine as Engine
    from ovdecode.engine import Piece as Piece
    from ovdecode.engine import Task as Task
    from ovdecode.fold import Fold as Fold
    from ovdecode.forward import Answer as Answer
    from ovdecode.forward import Forward as Forward
    from ovdecode.generation import Cost as Cost
    from ovdecode.generation import Generation as Generation
    from ovdecode.guidance import Guidance as Guidance
    from ovdecode.loading import load as load
    from ovdecode.metric import SetMetric as SetMetric
    from ovdecode.metric import TextMetric as TextMetric
    from ovdecode.model import Model as Model
    from ovdecode.model import run as run
    from ovdecode.plugin import require as require
    from ovdecode.processor import LogitsProcessor as LogitsProcessor
    from ovdecode.processor import trace as trace
    from ovdecode.proposer import Proposer as Proposer
    from ovdecode.random import Random as Random
    from ovdecode.registry import register as register
    from ovdecode.runners.table import TableRunner as TableRunner
    from ovdecode.sequence import Sequence as Sequence
    from ovdecode.spec import parse as parse
    from ovdecode.stopping import StoppingCriterion as StoppingCriterion
    from ovdecode.stopping import StopReason as StopReason
    from ovdecode.strategies.generation_config import from_generation_config as from_generation_config
    from ovdecode.strategy import Hypothesis as Hypothesis
    from ovdecode.strategy import Outcome as Outcome
    from ovdecode.strategy import Stepwise as Stepwise
    from ovdecode.strategy import Strategy as Strategy
    from ovdecode.strategy import gather as gather
    from ovdecode.utility import Utility as Utility
    from ovdecode.vocabulary import Vocabulary as Vocabulary

_HOME = {
    "Answer": "forward",
    "Candidates": "candidates",
    "Cost": "generation",
    "Engine": "engine",
    "Fold": "fold",
    "Forward": "forward",
    "Generation": "generation",
    "Guidance": "guidance",
    "Hypothesis": "strategy",
    "LogitsProcessor": "processor",
    "Model": "model",
    "Outcome": "strategy",
    "Piece": "engine",
    "Proposer": "proposer",
    "Random": "random",
    "Sequence": "sequence",
    "SetMetric": "metric",
    "Stepwise": "strategy",
    "StopReason": "stopping",
    "StoppingCriterion": "stopping",
    "Strategy": "strategy",
    "TableRunner": "runners.table",
    "Task": "engine",
    "TextMetric": "metric",
    "Utility": "utility",
    "Vocabulary": "vocabulary",
    "from_generation_config": "strategies.generation_config",
    "gather": "strategy",
    "load": "loading",
    "parse": "spec",
    "register": "registry",
    "require": "plugin",
    "run": "model",
    "trace": "processor",
}

_MODULES = ("errors", "experiment", "models", "testing")
"""What is used under a name of its own: `ovdecode.experiment.Experiment`."""

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        found = import_module(f"ovdecode.{name}")
    elif name in _HOME:
        found = getattr(import_module(f"ovdecode.{_HOME[name]}"), name)
    else:
        found = _plugin(name)
    globals()[name] = found  # the next access is as quick as any other
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_MODULES, *_plugins()})


def _plugins() -> dict[str, EntryPoint]:
    """The announced plugins by the names of their classes."""
    from ovdecode.registry import GROUPS

    return {entry.value.rpartition(":")[2]: entry for group in GROUPS.values() for entry in entry_points(group=group)}


def _plugin(name: str) -> Any:
    """The plugin whose class has this name."""
    from difflib import get_close_matches

    plugins = _plugins()
    if name in plugins:
        return plugins[name].load()
    longer = [each for each in _HOME if name and each.endswith(name)]  # a base class without its first word
    near = longer or get_close_matches(name, [*plugins, *_HOME], 1)
    hint = f"; did you mean `{near[0]}`" if near else ""
    raise AttributeError(f"module `ovdecode` has no attribute `{name}`{hint}")
