"""Where cells are decoded: in this process, in processes of this machine, or on a Dask cluster.

The results are the same everywhere; in the precisions `invariant` and `exact` they are so bit for bit.
"""

from ovdecode.experiment.executors.contract import Executor, Work
from ovdecode.experiment.executors.dask import Dask
from ovdecode.experiment.executors.in_process import InProcess
from ovdecode.experiment.executors.local import LocalProcesses

__all__ = ["Dask", "Executor", "InProcess", "LocalProcesses", "Work"]
