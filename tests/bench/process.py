"""Measure this process: `cold`, `bare`, or `warm N`. Prints one line of JSON."""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any

CLIENTS = ("organizations", "dynamodb", "s3", "sqs", "kms")


class Context:
    """The parts of Lambda's context object that the function uses."""

    aws_request_id = "bench"
    function_name = "bench"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 60_000


def peak_megabytes() -> float:
    """Return the peak memory of this program; getrusage would include the process that it was forked from."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def bare() -> dict[str, float]:
    began = time.perf_counter()
    import boto3  # noqa: PLC0415 - this import is measured

    session = boto3.Session()
    for name in CLIENTS:
        session.client(name)  # type: ignore[call-overload]
    return {"milliseconds": (time.perf_counter() - began) * 1000}


def cold() -> dict[str, float]:
    began = time.perf_counter()
    from handlers import attach_policies  # noqa: F401, PLC0415 - this import is measured
    from handlers.bootstrap import enforcer  # noqa: PLC0415 - as above

    enforcer()
    return {"milliseconds": (time.perf_counter() - began) * 1000}


def warm(batches: int) -> dict[str, Any]:
    from handlers.attach_policies import lambda_handler  # noqa: PLC0415 - the other measurements must not import it

    handler: Any = lambda_handler

    accounts = iter(os.environ["ACCOUNTS"].split(","))
    event = json.loads(os.environ["EVENT"])

    def batch(size: int) -> dict[str, Any]:
        return {"Records": [record(next(accounts)) for _ in range(size)]}

    def record(account_id: str) -> dict[str, Any]:
        event["detail"]["eventID"] = str(uuid.uuid4())
        body = json.dumps(event).replace("222222222222", account_id)
        attributes = {"ApproximateReceiveCount": "1", "SentTimestamp": "1795521600000"}
        return {
            "messageId": str(uuid.uuid4()),
            "receiptHandle": "none",
            "body": body,
            "attributes": attributes,
            "messageAttributes": {},
        }

    out, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115, PTH123 - open until stdout is restored
    handler(batch(10), Context())
    peaks = [peak_megabytes()]
    cpu, began = time.process_time(), time.perf_counter()
    failed = 0
    for number in range(batches):
        failed += len(handler(batch(10), Context())["batchItemFailures"])
        if number % max(1, batches // 10) == 0:
            peaks.append(peak_megabytes())
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
    sys.stdout = out
    records = batches * 10
    return {
        "cpu_milliseconds": cpu / records * 1000,
        "milliseconds": seconds / records * 1000,
        "failed": failed,
        "megabytes": [round(each, 1) for each in [*peaks, peak_megabytes()]],
    }


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    print(json.dumps({"bare": bare, "cold": cold}[command]() if not rest else warm(int(rest[0]))))  # noqa: T201 - the output
