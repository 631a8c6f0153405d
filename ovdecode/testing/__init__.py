"""The laws of decoding as checks, for every plugin: ours and anyone's.

    from ovdecode.testing import check_strategy

    check_strategy(MyMethod(width=3))

A check runs every law that applies; its `AssertionError` begins with the name of the broken law. Each law is
a function of its own too. `distribution` is the exact distribution of what a strategy decodes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovdecode.testing.cases import table_model as table_model
    from ovdecode.testing.configuration import law_configuration as law_configuration
    from ovdecode.testing.distributions import law_distribution as law_distribution
    from ovdecode.testing.enumeration import distribution as distribution
    from ovdecode.testing.leftovers import law_nothing_left as law_nothing_left
    from ovdecode.testing.metrics import check_metric as check_metric
    from ovdecode.testing.metrics import law_metric_isolation as law_metric_isolation
    from ovdecode.testing.metrics import law_metric_purity as law_metric_purity
    from ovdecode.testing.metrics import sample_results as sample_results
    from ovdecode.testing.processors import check_processor as check_processor
    from ovdecode.testing.processors import law_processor_chain as law_processor_chain
    from ovdecode.testing.processors import law_processor_determinism as law_processor_determinism
    from ovdecode.testing.processors import law_processor_isolation as law_processor_isolation
    from ovdecode.testing.processors import law_processor_narrowing as law_processor_narrowing
    from ovdecode.testing.processors import law_processor_purity as law_processor_purity
    from ovdecode.testing.processors import law_processor_representation as law_processor_representation
    from ovdecode.testing.runners import check_runner as check_runner
    from ovdecode.testing.stopping import check_stopping as check_stopping
    from ovdecode.testing.stopping import law_stopping_bound as law_stopping_bound
    from ovdecode.testing.stopping import law_stopping_combination as law_stopping_combination
    from ovdecode.testing.stopping import law_stopping_isolation as law_stopping_isolation
    from ovdecode.testing.stopping import law_stopping_purity as law_stopping_purity
    from ovdecode.testing.stopping import law_stopping_reason as law_stopping_reason
    from ovdecode.testing.stopping import law_stopping_text as law_stopping_text
    from ovdecode.testing.strategies import check_strategy as check_strategy
    from ovdecode.testing.strategies import law_determinism as law_determinism
    from ovdecode.testing.strategies import law_isolation as law_isolation
    from ovdecode.testing.strategies import law_purity as law_purity
    from ovdecode.testing.strategies import law_stopping as law_stopping

_HOME = {
    "check_metric": "metrics",
    "check_processor": "processors",
    "check_runner": "runners",
    "check_stopping": "stopping",
    "check_strategy": "strategies",
    "distribution": "enumeration",
    "law_configuration": "configuration",
    "law_determinism": "strategies",
    "law_distribution": "distributions",
    "law_isolation": "strategies",
    "law_metric_isolation": "metrics",
    "law_metric_purity": "metrics",
    "law_nothing_left": "leftovers",
    "law_processor_chain": "processors",
    "law_processor_determinism": "processors",
    "law_processor_isolation": "processors",
    "law_processor_narrowing": "processors",
    "law_processor_purity": "processors",
    "law_processor_representation": "processors",
    "law_purity": "strategies",
    "law_stopping": "strategies",
    "law_stopping_bound": "stopping",
    "law_stopping_combination": "stopping",
    "law_stopping_isolation": "stopping",
    "law_stopping_purity": "stopping",
    "law_stopping_reason": "stopping",
    "law_stopping_text": "stopping",
    "sample_results": "metrics",
    "table_model": "cases",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module `ovdecode.testing` has no attribute `{name}`")
    return getattr(import_module(f"ovdecode.testing.{_HOME[name]}"), name)
