"""A process of one of the functions, which WORKER names, without the Lambda service.

It reads one delivery per line of JSON on stdin. It handles the first one itself and each of the others in a forked
child process, so that a test can kill it at any time, and writes the child's exit status to stdout. It does not wait
when the function sleeps: it sets the clock forward instead.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from handlers.batch import handle_record
from handlers.bootstrap import enforcer, remover
from handlers.core.errors import RetryableError
from handlers.core.timing import Budget

WORKERS = {"enforcer": enforcer, "remover": remover}
worker = WORKERS[os.environ.get("WORKER", "enforcer")]


class ShiftedClock:
    """The system clock, set forward."""

    def __init__(self, seconds: float) -> None:
        self._ahead = timedelta(seconds=seconds)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def sleep(self, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)


def handle(delivery: dict[str, Any]) -> int:
    """Handle a record as the Lambda handler does; return 0 if it succeeds, 1 if it is to be retried."""
    app, clock = worker(), ShiftedClock(delivery["ahead"])
    app = replace(app, dependencies=replace(app.dependencies, clock=clock))
    budget = Budget(clock, milliseconds=delivery["milliseconds"], records=1)
    try:
        handle_record(app, budget, SQSRecord(delivery["record"]))
    except RetryableError:
        return 1
    return 0


def warm_up(delivery: dict[str, Any]) -> None:
    """Handle the first delivery before any fork, so that no child process has to read the service models again.

    The child processes start with unconnected clients and empty caches. Garbage collection is off, because it would
    make them copy the memory that they share with this process.
    """
    handle(delivery)
    worker.cache_clear()
    worker()
    gc.collect()
    gc.disable()
    gc.freeze()


def main() -> None:
    # botocore sleeps between its retries.
    time.sleep = lambda _seconds: None
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warm_up(json.loads(sys.stdin.readline()))
    answers.write(json.dumps({"warm": True}) + "\n")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(handle(json.loads(line)))
        answers.write(json.dumps({"pid": child}) + "\n")
        _, status = os.waitpid(child, 0)
        answers.write(json.dumps({"status": os.waitstatus_to_exitcode(status)}) + "\n")


if __name__ == "__main__":
    main()
