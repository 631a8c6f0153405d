"""Where results come from: versions and hardware."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any


def versions() -> dict[str, str]:
    """Versions of what decides results and their speed."""
    return {**{name: version(name) for name in ("ovdecode", "openvino", "numpy")}, "python": platform.python_version()}


def hardware() -> dict[str, Any]:
    """The machine: processor, usable cores, and system."""
    return {"processor": _processor(), "cores": usable_cores(), "system": platform.platform(), "host": platform.node()}


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """The processor's own name where the system tells it, or else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
