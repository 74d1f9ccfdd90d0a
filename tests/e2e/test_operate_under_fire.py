"""The operator's tool, killed at any call, and with every kind of failure: no letter is lost, and again finishes it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest
from click.testing import CliRunner

from handlers.operate.__main__ import cli
from infra.deploy.build import ROOT
from infra.local.events import handshake_accepted
from infra.local.installation import STACK, build_local, install
from infra.local.standin import running
from infra.local.waiting import HANGS_AFTER
from infra.local.watch import Watch
from schemas.audit import AuditRecord
from tests.chaos import Break, Chaos, running_chaos

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.local.installation import Installation
    from infra.local.standin import StandIn
    from tests.e2e.conftest import Done

LETTERS: Final = 12
#: The stand-in has one server, which knows at once what it has; nobody takes the joins, so nothing is waited for.
REDRIVE: Final = (
    *("--stack", STACK, "--poll", "0", "redrive", "--all", "--rate", "0", "--breaker", "1000", "--wait", "0s"),
    *("--confirm", "--reason", "x"),
)


@dataclass(repr=False)
class Fire:
    """The tool before a chaotic AWS; nobody takes the joins off their queue."""

    aws: StandIn
    at: Installation
    chaos: Chaos
    #: Of the letters that SQS has handed out since they were put there; the answer may have been lost.
    receipts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sqs = self.aws.client("sqs")
        self.watch = Watch(self.aws, self.at)
        self.chaos.on_response = self._hear

    def _hear(self, name: str, asked: bytes, answered: bytes) -> None:
        if name == "SQS.ReceiveMessage":
            assert json.loads(asked)["VisibilityTimeout"] == 900
            self.receipts += [each["ReceiptHandle"] for each in json.loads(answered).get("Messages", [])]

    def fill(self) -> Counter[str]:
        """Begin afresh; return the bodies of the dead letters, each as often as it is there."""
        self.watch.clear()
        self.receipts.clear()
        event = handshake_accepted(self.at.account_ids[0], self.at.organization_id, self.at.management_account_id)
        odd = [event | {"odd": "\u2603", "n": number} for number in range(LETTERS)]
        bodies = [f"{json.dumps(each, ensure_ascii=False)}\t" for each in odd]
        attributes: Any = {"ERROR_CODE": {"DataType": "String", "StringValue": "INVALID_EVENT"}}
        for body in bodies:
            self.sqs.send_message(
                QueueUrl=self.at.dead_letter_queue_url, MessageBody=body, MessageAttributes=attributes
            )
        return Counter(bodies)

    def break_at(self, operation: str, *breaks: Break | None) -> None:
        """Break the next calls of an operation so; None lets one through."""
        told = list(breaks)
        self.chaos.calls.clear()
        self.chaos.plan = lambda _number, name: told.pop(0) if name == operation and told else None

    def redrive(self) -> Done:
        """Redrive everything in this process."""
        done = CliRunner().invoke(cli, REDRIVE, env=self._credentials(), prog_name="joinguard", catch_exceptions=False)
        return subprocess.CompletedProcess(REDRIVE, done.exit_code, done.stdout, done.stderr)

    def started(self) -> subprocess.Popen[str]:
        """Start redriving everything in a process of its own, which can be killed."""
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "handlers.operate", *REDRIVE],
            cwd=ROOT,
            env=os.environ | self._credentials(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.chaos.kill = process.kill
        return process

    def _credentials(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.chaos.endpoint,
            "AWS_ACCESS_KEY_ID": self.aws.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.aws.secret_access_key,
            "AWS_DEFAULT_REGION": self.aws.region,
        }

    def joins(self) -> Counter[str]:
        """Take everything off the joins queue; return the bodies."""
        found = Counter[str]()
        while messages := self.sqs.receive_message(
            QueueUrl=self.at.queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                found[message["Body"]] += 1
                assert message["MessageAttributes"]["REDRIVES"]["StringValue"] == "1"
                self.sqs.delete_message(QueueUrl=self.at.queue_url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def lying(self, which: str = "") -> int:
        asked = self.sqs.get_queue_attributes(QueueUrl=self.at.dead_letter_queue_url, AttributeNames=["All"])
        return int(asked["Attributes"][f"ApproximateNumberOfMessages{which}"])

    def let_time_pass(self) -> None:
        """Let the time in flight of whatever was received be over."""
        for receipt_handle in self.receipts:
            # A letter that is gone, or was received again since, has no such receipt.
            with suppress(self.sqs.exceptions.ReceiptHandleIsInvalid):
                self.sqs.change_message_visibility(
                    QueueUrl=self.at.dead_letter_queue_url, ReceiptHandle=receipt_handle, VisibilityTimeout=0
                )
        assert self.lying("NotVisible") == 0

    def audit_records(self) -> list[AuditRecord]:
        s3 = self.aws.client("s3")
        found = s3.list_objects_v2(Bucket=self.at.evidence_bucket, Prefix="acts/").get("Contents", [])
        bodies = [s3.get_object(Bucket=self.at.evidence_bucket, Key=each["Key"])["Body"].read() for each in found]
        return sorted((AuditRecord.model_validate_json(body) for body in bodies), key=lambda act: act.recorded_at)


@pytest.fixture(scope="module")
def fire() -> Iterator[Fire]:
    with running() as aws, running_chaos(aws.endpoint, aws.endpoint) as chaos:
        at = install(aws, package=build_local(), log=lambda _: None)
        functions = aws.client("lambda")
        [mapping] = functions.list_event_source_mappings()["EventSourceMappings"]
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        yield Fire(aws, at, chaos)


def test_the_path_is_the_one_that_is_broken_here(fire: Fire) -> None:
    bodies = fire.fill()
    fire.break_at("none")

    done = fire.redrive()

    assert done.returncode == 0, done.stderr
    looking = ("Form.", "KMS.", "SQS.Get", "SQS.Receive", "Organizations.", "DynamoDB.")
    acting = [name for name in fire.chaos.calls if not name.startswith(looking)]
    sending = ["SQS.SendMessageBatch", "SQS.DeleteMessageBatch"]
    assert acting == ["S3.PUT", *sending, *sending, "S3.PUT"]
    assert fire.joins() == bodies
    assert fire.lying() == 0


@pytest.mark.parametrize(
    ("operation", "number", "what"),
    [
        ("SQS.ReceiveMessage", 2, Break.KILL_AFTER),
        ("S3.PUT", 1, Break.KILL_AFTER),
        ("SQS.SendMessageBatch", 1, Break.KILL_BEFORE),
        ("SQS.SendMessageBatch", 1, Break.KILL_AFTER),
        ("SQS.DeleteMessageBatch", 1, Break.KILL_AFTER),
        ("SQS.SendMessageBatch", 2, Break.KILL_AFTER),
        ("S3.PUT", 2, Break.KILL_BEFORE),
    ],
)
def test_a_process_that_is_killed_loses_nothing_and_again_finishes_it(
    fire: Fire, operation: str, number: int, what: Break
) -> None:
    bodies = fire.fill()
    fire.break_at(operation, *[None] * (number - 1), what)

    with fire.started() as killed:
        _, told = killed.communicate(timeout=HANGS_AFTER)
    assert killed.returncode == -signal.SIGKILL, told
    sent = fire.joins()
    lying = fire.lying() + fire.lying("NotVisible")
    fire.let_time_pass()
    fire.break_at("none")
    again = fire.redrive()

    assert again.returncode == 0, again.stderr
    assert LETTERS <= sum(sent.values()) + lying <= LETTERS + 10, "no more than a batch is in both queues"
    assert max(sent.values(), default=1) == 1
    together = sent + fire.joins()
    assert set(together) == set(bodies)
    assert max(together.values()) <= 2
    assert fire.lying() == fire.lying("NotVisible") == 0


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        ("SQS.ReceiveMessage", Break.CUT_BEFORE),
        ("SQS.SendMessageBatch", Break.CUT_AFTER),
        ("SQS.SendMessageBatch", Break.GARBAGE),
        ("SQS.SendMessageBatch", Break.THROTTLE),
        ("SQS.DeleteMessageBatch", Break.CUT_AFTER),
        ("SQS.DeleteMessageBatch", Break.SERVER_ERROR),
        ("S3.PUT", Break.CUT_AFTER),
        ("S3.PUT", Break.SERVER_ERROR),
    ],
)
def test_a_call_that_fails_once_is_made_again(fire: Fire, operation: str, what: Break) -> None:
    bodies = fire.fill()
    fire.break_at(operation, what)

    done = fire.redrive()

    # The stand-in refuses to delete again what it has deleted; AWS does not.
    twice = (operation, what) == ("SQS.DeleteMessageBatch", Break.CUT_AFTER)
    assert done.returncode == (1 if twice else 0), done.stderr
    assert ("10 of them not deleted" in done.stderr) is twice
    sent = fire.joins()
    assert set(sent) == set(bodies)
    # A batch whose answer was lost is sent again; the event id makes the second a no-op.
    again = operation == "SQS.SendMessageBatch" and what in {Break.CUT_AFTER, Break.GARBAGE}
    assert sum(sent.values()) == LETTERS + (10 if again else 0)
    assert fire.lying() == fire.lying("NotVisible") == 0


def test_letters_whose_answer_was_lost_are_told_and_come_again(fire: Fire) -> None:
    """SQS has handed them out, so they are hidden until their time in hand is over."""
    bodies = fire.fill()
    fire.break_at("SQS.ReceiveMessage", Break.CUT_AFTER)

    first = fire.redrive()
    fire.let_time_pass()
    second = fire.redrive()

    assert "10 more are in flight elsewhere" in first.stderr
    assert (first.returncode, second.returncode) == (1, 0)
    assert fire.joins() == bodies


def test_two_operators_at_once_send_each_letter_once(fire: Fire) -> None:
    """What one has in hand, the other does not see."""
    bodies = fire.fill()
    fire.break_at("none")

    with fire.started() as first, fire.started() as second:
        talks = [process.communicate(timeout=HANGS_AFTER)[1] for process in (first, second)]

    assert fire.joins() == bodies
    assert fire.lying() == fire.lying("NotVisible") == 0
    sent = [int(found) for talk in talks for found in re.findall(r"([0-9]+) sent and deleted", talk)]
    assert sum(sent) == LETTERS


@pytest.mark.parametrize(
    ("operation", "sent"),
    [("S3.PUT", 0), ("SQS.ReceiveMessage", 0), ("SQS.SendMessageBatch", 0), ("SQS.DeleteMessageBatch", 10)],
)
def test_a_refusal_stops_it_in_one_clear_line_with_everything_given_back(fire: Fire, operation: str, sent: int) -> None:
    fire.fill()
    fire.break_at(operation, *[Break.DENIED] * 20)
    before = len(fire.audit_records())

    done = fire.redrive()

    assert done.returncode == 1
    assert "AccessDenied" in done.stderr
    assert "Traceback" not in done.stderr
    assert sum(fire.joins().values()) == sent
    assert fire.lying() == LETTERS, "given back at once"
    phases = [(act.phase, act.ended) for act in fire.audit_records()[before:]]
    acted = operation in {"SQS.SendMessageBatch", "SQS.DeleteMessageBatch"}
    assert phases == ([("intended", None), ("done", "interrupted")] if acted else [])
