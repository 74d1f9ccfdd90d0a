"""The operator's tool on many messages, compared with a plain loop."""

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

#: Prints the peak memory of a process, in KiB, when it ends.
_PEAK: Final = """if True:
    import atexit, pathlib, sys
    peak = lambda: pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    atexit.register(lambda: print(peak(), file=sys.stderr))
"""
_TOOL: Final = f"{_PEAK}\n    import runpy; runpy.run_module('handlers.operate', run_name='__main__')"
#: A loop as people write it without the tool: it loses attributes, has no plan, no audit record and no count.
_LOOP: Final = f"""{_PEAK}
    import boto3
    sqs, (dead_letters, joins) = boto3.client("sqs"), sys.argv[1:]
    while messages := sqs.receive_message(QueueUrl=dead_letters, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            sqs.send_message(QueueUrl=joins, MessageBody=message["Body"])
            sqs.delete_message(QueueUrl=dead_letters, ReceiptHandle=message["ReceiptHandle"])
"""


def measure(few: int, many: int) -> dict[str, dict[str, float]]:
    """Time `list` and `redrive` on few and on many messages, and the plain loop."""
    with running() as aws:
        at = install(aws, package=build_local(), log=lambda _: None)
        sqs, functions = aws.client("sqs"), aws.client("lambda")
        [mapping] = functions.list_event_source_mappings()["EventSourceMappings"]
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        rows = {}
        for count in (few, many):
            fill(sqs, at, count)
            rows[f"list, {count:,} messages"] = timed(aws, count, _TOOL, "list", "--json")
        # No worker handles the joins, so redrive must not wait for the results of the first messages.
        redrive = (
            "redrive",
            "--all",
            "--rate",
            "0",
            "--breaker",
            str(many),
            "--wait",
            "0s",
            "--confirm",
            "--reason",
            "bench",
        )
        rows[f"redrive, {many:,} messages"] = timed(aws, many, _TOOL, *redrive)
        fill(sqs, at, many)
        rows[f"plain loop, {many:,} messages"] = timed(aws, many, _LOOP, at.dead_letter_queue_url, at.queue_url)
    return rows


def fill(sqs: SQSClient, at: Installation, count: int) -> None:
    """Empty both queues, then fill the dead-letter queue."""
    for url in (at.queue_url, at.dead_letter_queue_url):
        sqs.purge_queue(QueueUrl=url)
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


def timed(aws: StandIn, count: int, code: str, *arguments: str) -> dict[str, float]:
    """Run code in its own process; return seconds, messages a second and peak memory in MB."""
    environment = os.environ | {
        "AWS_ENDPOINT_URL": aws.endpoint,
        "AWS_ACCESS_KEY_ID": aws.access_key_id,
        "AWS_SECRET_ACCESS_KEY": aws.secret_access_key,
        "AWS_DEFAULT_REGION": aws.region,
        "XDG_CACHE_HOME": str(aws.log.parent),
    }
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "messages a second": count / seconds,
        "peak MB": int(done.stderr.splitlines()[-1]) / 1024,
    }
