"""`make local` and `make demo`, as their users run them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import boto3
import pytest

from infra.deploy.build import ROOT
from infra.local.events import handshake_accepted
from infra.local.installation import Installation
from infra.local.standin import StandIn
from infra.local.watch import Watch
from schemas.outcome import OutcomeStatus
from tests.relay import relaying

KEYS = {
    "endpoint",
    "region",
    "access_key_id",
    "secret_access_key",
    "queue_url",
    "dead_letter_queue_url",
    "undelivered_queue_url",
    "outcomes_table",
    "evidence_bucket",
    "policy_ids",
    "account_ids",
    "organization_id",
    "management_account_id",
}


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_local_prints_one_line_stays_up_and_stops_cleanly(stop: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "infra.local"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        at = json.loads(process.stdout.readline())
        client = boto3.client(
            "sqs",
            endpoint_url=at["endpoint"],
            region_name=at["region"],
            aws_access_key_id=at["access_key_id"],
            aws_secret_access_key=at["secret_access_key"],
        )
        urls = [at["queue_url"], at["dead_letter_queue_url"], at["undelivered_queue_url"]]
        counts = [client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"] for url in urls]
        process.send_signal(stop)
        rest, _ = process.communicate(timeout=20)

    assert at.keys() == KEYS
    assert len(set(urls)) == 3
    assert {int(each["ApproximateNumberOfMessages"]) for each in counts} == {0}
    assert (process.returncode, rest) == (0, "")
    where = urlsplit(at["endpoint"])
    with pytest.raises(ConnectionRefusedError), socket.create_connection((where.hostname, where.port), timeout=2):
        pass


def test_failures_can_be_rehearsed() -> None:
    """Half of all calls to Organizations fail, and the join is enforced all the same."""
    with subprocess.Popen(
        [sys.executable, "-m", "infra.local"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"FAULTS": "faults=0.3,seed=3,attach_rate=50,read_rate=50"},
    ) as process:
        assert process.stdout is not None
        at = Installation(**json.loads(process.stdout.readline()))
        watch = Watch(StandIn(at.endpoint, ROOT, process), at)
        event = handshake_accepted(at.account_ids[0], at.organization_id, at.management_account_id)
        watch.put(event)
        watch.until_quiet()
        outcome = watch.outcome(event["detail"]["eventID"])
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)

    assert outcome is not None
    assert outcome.status is OutcomeStatus.ENFORCED
    assert "Organizations is a double" in said


def test_a_rehearsal_that_asks_for_an_unknown_rule_says_which_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.local"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"FAULTS": "fault=0.3"},
    )

    assert done.returncode == 1
    assert "'fault' is not a rule; there are attach_rate" in done.stderr


def test_the_demo_holds() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.local.demo"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every account carries its policies." in done.stdout
    assert "PolicyNotFoundException" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_demo_fails_where_the_story_is_not_so() -> None:
    with relaying() as relay:
        relay.refuse_all((400, "AccessDeniedException"))
        done = subprocess.run(
            [sys.executable, "-m", "infra.local.demo"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=os.environ | {"AWS_ENDPOINT_URL_ORGANIZATIONS": relay.endpoint},
        )

    assert done.returncode == 1
    assert "not so: an invited account joins: FAILED, not ENFORCED" in done.stdout
