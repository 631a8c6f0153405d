"""The engine: drives any number of live strategies over any number of models."""

from ovdecode.engine.engine import Engine, Piece
from ovdecode.engine.job import Job
from ovdecode.engine.task import Task

__all__ = ["Engine", "Job", "Piece", "Task"]
