"""The operator's tool over many letters, and a plain loop for comparison."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from infra.deploy.build import ROOT
from infra.local.events import handshake_accepted
from infra.local.installation import Installation, build_local, install
from infra.local.standin import StandIn, running

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: Runs the tool, then says how much memory it held at most, in KiB.
_CODE: Final = """if True:
    import atexit, pathlib, runpy, sys
    held = lambda: pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    atexit.register(lambda: print(held(), file=sys.stderr))
    runpy.run_module("handlers.operate", run_name="__main__")
"""


def handle_letters(count: int) -> dict[str, dict[str, float]]:
    """Time list and redrive over so many letters, and the ten lines that one would write otherwise."""
    with running() as aws:
        at = install(aws, package=build_local(), told=lambda _: None)
        sqs, functions = aws.client("sqs"), aws.client("lambda")
        [mapping] = functions.list_event_source_mappings()["EventSourceMappings"]
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        fill(sqs, at, count)
        listing, list_megabytes = operate(aws, "list", "--json")
        redriving, redrive_megabytes = operate(aws, "redrive", "--rate", "0", "--confirm", "--reason", "bench")
        fill(sqs, at, count)
        loop = plain_loop(sqs, at)
    return {
        "list": {"seconds": listing, "letters a second": count / listing, "MB": list_megabytes},
        "redrive": {"seconds": redriving, "letters a second": count / redriving, "MB": redrive_megabytes},
        "a plain loop": {"seconds": loop, "letters a second": count / loop, "MB": 0},
    }


def fill(sqs: SQSClient, at: Installation, count: int) -> None:
    """Put dead letters into the queue."""
    sqs.purge_queue(QueueUrl=at.queue_url)
    event = handshake_accepted(at.account_ids[0], at.organization_id, at.management_account_id)
    for begin in range(0, count, 10):
        entries: list[Any] = []
        for number in range(begin, begin + 10):
            event["detail"]["eventID"] = f"event-{number}"
            code = {"DataType": "String", "StringValue": f"Code{number % 7}"}
            entries.append(
                {"Id": str(number), "MessageBody": json.dumps(event), "MessageAttributes": {"ERROR_CODE": code}}
            )
        sqs.send_message_batch(QueueUrl=at.dead_letter_queue_url, Entries=entries)


def operate(aws: StandIn, *arguments: str) -> tuple[float, float]:
    """Run the tool; return seconds and megabytes."""
    environment = os.environ | {
        "AWS_ENDPOINT_URL": aws.endpoint,
        "AWS_ACCESS_KEY_ID": aws.access_key_id,
        "AWS_SECRET_ACCESS_KEY": aws.secret_access_key,
        "AWS_DEFAULT_REGION": aws.region,
    }
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", _CODE, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return time.perf_counter() - began, int(done.stderr.splitlines()[-1]) / 1024


def plain_loop(sqs: SQSClient, at: Installation) -> float:
    """Do it as one would by hand, attributes lost; return seconds."""
    began = time.perf_counter()
    while messages := sqs.receive_message(QueueUrl=at.dead_letter_queue_url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            sqs.send_message(QueueUrl=at.queue_url, MessageBody=message["Body"])
            sqs.delete_message(QueueUrl=at.dead_letter_queue_url, ReceiptHandle=message["ReceiptHandle"])
    return time.perf_counter() - began
