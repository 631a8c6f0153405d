"""A worker that is a process: what it is told comes line by line through its standard input, and goes so out."""

from __future__ import annotations

import json
import os
import signal
import sys
from threading import Lock

from ovdecode.errors import describe
from ovdecode.experiment.executors.station import Plain, Station


def main() -> None:
    """Read a description and then cells, write records, and end when nobody is there any more to tell anything."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this decides when it ends
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a method prints must not be read as a record
    lock = Lock()

    def tell(values: Plain) -> None:
        with lock:
            replies.write(json.dumps(values).encode() + b"\n")
            replies.flush()

    try:
        station = Station(json.loads(sys.stdin.buffer.readline()))
        for line in sys.stdin.buffer:
            station.submit(json.loads(line), tell)
    except Exception as error:
        tell({"refused": describe(error)})
    os._exit(0)  # at once, in the midst of an inference or of a method that never returns
