"""The operator's tool while calls fail and its process is killed: no message is lost, and a second run finishes."""

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
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from click.testing import CliRunner

from handlers.aws.dynamodb_pauses import DynamoPauses
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
    from collections.abc import Iterator, Sequence

    from infra.local.installation import Installation
    from infra.local.standin import StandIn
    from schemas.pause import Pause
    from tests.e2e.conftest import Done

MESSAGES: Final = 12
#: The stand-in has one server, so short polls are complete. No worker handles the joins, so do not wait for results.
REDRIVE: Final = (
    *("--stack", STACK, "--poll", "0", "redrive", "--all", "--rate", "0", "--breaker", "1000", "--wait", "0s"),
    *("--confirm", "--reason", "x"),
)


@dataclass(repr=False)
class Tool:
    """The tool, with faults in its calls to AWS, and without a worker."""

    aws: StandIn
    at: Installation
    chaos: Chaos
    #: The receipt handles that SQS returned since `fill`, including those in answers that were lost.
    receipts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sqs = self.aws.client("sqs")
        self.watch = Watch(self.aws, self.at)
        self.chaos.on_response = self._record

    def _record(self, name: str, request: bytes, answer: bytes) -> None:
        if name == "SQS.ReceiveMessage":
            assert json.loads(request)["VisibilityTimeout"] == 900
            self.receipts += [each["ReceiptHandle"] for each in json.loads(answer).get("Messages", [])]

    def fill(self) -> Counter[str]:
        """Empty all queues and send new dead letters; return the number of each body."""
        self.watch.clear()
        self.receipts.clear()
        event = handshake_accepted(self.at.account_ids[0], self.at.organization_id, self.at.management_account_id)
        odd = [event | {"odd": "\u2603", "n": number} for number in range(MESSAGES)]
        bodies = [f"{json.dumps(each, ensure_ascii=False)}\t" for each in odd]
        attributes: Any = {"ERROR_CODE": {"DataType": "String", "StringValue": "INVALID_EVENT"}}
        for body in bodies:
            self.sqs.send_message(
                QueueUrl=self.at.dead_letter_queue_url, MessageBody=body, MessageAttributes=attributes
            )
        return Counter(bodies)

    def break_at(self, operation: str, *breaks: Break | None) -> None:
        """Break the next calls of an operation in this order; None lets a call succeed."""
        left = list(breaks)
        self.chaos.calls.clear()
        self.chaos.plan = lambda _number, name: left.pop(0) if name == operation and left else None

    def redrive(self) -> Done:
        """Redrive everything in this process."""
        return self.run(REDRIVE)

    def run(self, command: Sequence[str]) -> Done:
        """Run a command in this process."""
        done = CliRunner().invoke(cli, command, env=self._credentials(), prog_name="joinguard", catch_exceptions=False)
        return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)

    def start(self, command: Sequence[str] = REDRIVE) -> subprocess.Popen[str]:
        """Start a command in its own process, which can be killed."""
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "handlers.operate", *command],
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
        """Receive and delete all messages of the joins queue; return the number of each body."""
        found = Counter[str]()
        while messages := self.sqs.receive_message(
            QueueUrl=self.at.queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                found[message["Body"]] += 1
                assert message["MessageAttributes"]["REDRIVES"]["StringValue"] == "1"
                self.sqs.delete_message(QueueUrl=self.at.queue_url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def dead_letters(self, which: str = "") -> int:
        """Return the number of dead letters that are visible, or with `NotVisible` in flight."""
        found = self.sqs.get_queue_attributes(QueueUrl=self.at.dead_letter_queue_url, AttributeNames=["All"])
        return int(found["Attributes"][f"ApproximateNumberOfMessages{which}"])

    def expire_visibility(self) -> None:
        """Make all received messages visible, as SQS does after the visibility timeout."""
        for receipt_handle in self.receipts:
            # The receipt is invalid if the message was deleted, or received again.
            with suppress(self.sqs.exceptions.ReceiptHandleIsInvalid):
                self.sqs.change_message_visibility(
                    QueueUrl=self.at.dead_letter_queue_url, ReceiptHandle=receipt_handle, VisibilityTimeout=0
                )
        assert self.dead_letters("NotVisible") == 0

    def pauses(self) -> DynamoPauses:
        return DynamoPauses(self.aws.client("dynamodb"), self.table())

    def table(self) -> str:
        found = self.aws.client("cloudformation").describe_stack_resource(
            StackName=STACK, LogicalResourceId="Reconciliation"
        )
        return str(found["StackResourceDetail"]["PhysicalResourceId"])

    def forget_pauses(self) -> None:
        self.aws.client("dynamodb").delete_item(TableName=self.table(), Key={"name": {"S": "Pauses"}})

    def audit_records(self) -> list[AuditRecord]:
        s3 = self.aws.client("s3")
        found = s3.list_objects_v2(Bucket=self.at.evidence_bucket, Prefix="acts/").get("Contents", [])
        bodies = [s3.get_object(Bucket=self.at.evidence_bucket, Key=each["Key"])["Body"].read() for each in found]
        return sorted((AuditRecord.model_validate_json(body) for body in bodies), key=lambda each: each.recorded_at)


@pytest.fixture(scope="module")
def tool() -> Iterator[Tool]:
    with running() as aws, running_chaos(aws.endpoint, aws.endpoint) as chaos:
        at = install(aws, package=build_local(), log=lambda _: None)
        functions = aws.client("lambda")
        for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
            functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        yield Tool(aws, at, chaos)


def test_a_redrive_makes_the_calls_that_these_tests_break(tool: Tool) -> None:
    bodies = tool.fill()
    tool.break_at("none")

    done = tool.redrive()

    assert done.returncode == 0, done.stderr
    reading = ("Form.", "KMS.", "SQS.Get", "SQS.Receive", "Organizations.", "DynamoDB.")
    changes = [name for name in tool.chaos.calls if not name.startswith(reading)]
    batch = ["SQS.SendMessageBatch", "SQS.DeleteMessageBatch"]
    assert changes == ["S3.PUT", *batch, *batch, "S3.PUT"]
    assert tool.joins() == bodies
    assert tool.dead_letters() == 0


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
def test_a_killed_process_loses_nothing_and_a_second_run_finishes(
    tool: Tool, operation: str, number: int, what: Break
) -> None:
    bodies = tool.fill()
    tool.break_at(operation, *[None] * (number - 1), what)

    with tool.start() as killed:
        _, stderr = killed.communicate(timeout=HANGS_AFTER)
    assert killed.returncode == -signal.SIGKILL, stderr
    sent = tool.joins()
    left = tool.dead_letters() + tool.dead_letters("NotVisible")
    tool.expire_visibility()
    tool.break_at("none")
    second = tool.redrive()

    assert second.returncode == 0, second.stderr
    assert MESSAGES <= sum(sent.values()) + left <= MESSAGES + 10, "no more than a batch is in both queues"
    assert max(sent.values(), default=1) == 1
    total = sent + tool.joins()
    assert set(total) == set(bodies)
    assert max(total.values()) <= 2
    assert tool.dead_letters() == tool.dead_letters("NotVisible") == 0


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
def test_a_call_that_fails_once_is_retried(tool: Tool, operation: str, what: Break) -> None:
    bodies = tool.fill()
    tool.break_at(operation, what)

    done = tool.redrive()

    # The stand-in rejects a second deletion of a message; AWS accepts it.
    deleted_twice = (operation, what) == ("SQS.DeleteMessageBatch", Break.CUT_AFTER)
    assert done.returncode == (1 if deleted_twice else 0), done.stderr
    assert ("10 of them not deleted" in done.stderr) is deleted_twice
    sent = tool.joins()
    assert set(sent) == set(bodies)
    # A batch is sent again if the answer was lost. The event id makes the second message a no-op.
    sent_twice = operation == "SQS.SendMessageBatch" and what in {Break.CUT_AFTER, Break.GARBAGE}
    assert sum(sent.values()) == MESSAGES + (10 if sent_twice else 0)
    assert tool.dead_letters() == tool.dead_letters("NotVisible") == 0


def test_messages_in_a_lost_answer_are_counted_and_are_visible_again_later(tool: Tool) -> None:
    """They are in flight until their visibility timeout ends."""
    bodies = tool.fill()
    tool.break_at("SQS.ReceiveMessage", Break.CUT_AFTER)

    first = tool.redrive()
    tool.expire_visibility()
    second = tool.redrive()

    assert "about 10 messages are in flight elsewhere" in first.stderr
    assert (first.returncode, second.returncode) == (1, 0)
    assert tool.joins() == bodies


def test_two_operators_at_once_send_each_message_once(tool: Tool) -> None:
    """Messages in flight for one are hidden from the other."""
    bodies = tool.fill()
    tool.break_at("none")

    with tool.start() as first, tool.start() as second:
        errors = [process.communicate(timeout=HANGS_AFTER)[1] for process in (first, second)]

    assert tool.joins() == bodies
    assert tool.dead_letters() == tool.dead_letters("NotVisible") == 0
    sent = [int(found) for stderr in errors for found in re.findall(r"([0-9]+) sent and deleted", stderr)]
    assert sum(sent) == MESSAGES


@pytest.mark.parametrize(
    ("operation", "sent"),
    [("S3.PUT", 0), ("SQS.ReceiveMessage", 0), ("SQS.SendMessageBatch", 0), ("SQS.DeleteMessageBatch", 10)],
)
def test_a_denied_call_ends_the_command_with_one_clear_line_and_releases_everything(
    tool: Tool, operation: str, sent: int
) -> None:
    tool.fill()
    tool.break_at(operation, *[Break.DENIED] * 20)
    before = len(tool.audit_records())

    done = tool.redrive()

    assert done.returncode == 1
    assert "AccessDenied" in done.stderr
    assert "Traceback" not in done.stderr
    assert sum(tool.joins().values()) == sent
    assert tool.dead_letters() == MESSAGES, "released at once"
    phases = [(each.phase, each.ended) for each in tool.audit_records()[before:]]
    began = operation in {"SQS.SendMessageBatch", "SQS.DeleteMessageBatch"}
    assert phases == ([("intended", None), ("done", "interrupted")] if began else [])


# Pauses

PAUSE: Final = (
    *("--stack", STACK, "pause", "--organization", "--until", "4h", "--owner", "network team"),
    *("--confirm", "--reason", "x"),
)


def resume(id_: str) -> tuple[str, ...]:
    return ("--stack", STACK, "resume", id_, "--confirm", "--reason", "x")


def in_force(tool: Tool) -> list[Pause]:
    """Return the pauses in force; each must be on record."""
    known = tool.pauses().read()
    found = list(known.in_force(datetime.now(UTC)))
    on_record = {each.act_id for each in tool.audit_records() if (each.action, each.phase) == ("pause", "intended")}
    assert {each.act_id for each in known.readable} <= on_record
    assert not known.unreadable
    return found


def changes(tool: Tool) -> list[str]:
    reading = ("Form.", "KMS.", "S3.GET", "Organizations.", "DynamoDB.GetItem")
    return [name for name in tool.chaos.calls if not name.startswith(reading)]


def test_pausing_and_resuming_make_the_calls_that_these_tests_break(tool: Tool) -> None:
    tool.forget_pauses()
    tool.break_at("none")

    assert tool.run(PAUSE).returncode == 0
    assert changes(tool) == ["S3.PUT", "DynamoDB.PutItem", "S3.PUT"]
    [pause] = in_force(tool)
    tool.break_at("none")
    assert tool.run(resume(pause.id)).returncode == 0
    assert changes(tool) == ["S3.PUT", "DynamoDB.PutItem", "S3.PUT"]
    assert in_force(tool) == []


KILLS: Final = [
    ("S3.PUT", 1, Break.KILL_BEFORE),
    ("S3.PUT", 1, Break.KILL_AFTER),
    ("DynamoDB.PutItem", 1, Break.KILL_BEFORE),
    ("DynamoDB.PutItem", 1, Break.KILL_AFTER),
    ("S3.PUT", 2, Break.KILL_BEFORE),
    ("S3.PUT", 2, Break.KILL_AFTER),
]


@pytest.mark.parametrize(("operation", "number", "what"), KILLS)
def test_a_killed_pause_is_on_record_or_not_made_and_a_second_run_makes_one(
    tool: Tool, operation: str, number: int, what: Break
) -> None:
    tool.forget_pauses()
    tool.break_at(operation, *[None] * (number - 1), what)

    with tool.start(PAUSE) as killed:
        _, stderr = killed.communicate(timeout=HANGS_AFTER)
    assert killed.returncode == -signal.SIGKILL, stderr
    written = (operation == "S3.PUT" and number == 2) or (operation, what) == ("DynamoDB.PutItem", Break.KILL_AFTER)
    assert len(in_force(tool)) == int(written)
    tool.break_at("none")
    second = tool.run(PAUSE)

    assert second.returncode == 0, second.stderr
    [pause] = in_force(tool)
    done = [each for each in tool.audit_records() if (each.act_id, each.phase) == (pause.act_id, "done")]
    assert [each.ended for each in done] == ["completed"]
    assert tool.run(("--stack", STACK, "pauses")).returncode == 0, "each is as its audit record says"


@pytest.mark.parametrize(("operation", "number", "what"), KILLS)
def test_a_killed_resume_can_be_run_again(tool: Tool, operation: str, number: int, what: Break) -> None:
    tool.forget_pauses()
    tool.break_at("none")
    assert tool.run(PAUSE).returncode == 0
    [pause] = in_force(tool)
    tool.break_at(operation, *[None] * (number - 1), what)

    with tool.start(resume(pause.id)) as killed:
        _, stderr = killed.communicate(timeout=HANGS_AFTER)
    assert killed.returncode == -signal.SIGKILL, stderr
    tool.break_at("none")
    second = tool.run(resume(pause.id))

    assert second.returncode == 0, second.stderr
    assert in_force(tool) == []
    [known] = tool.pauses().read().readable
    assert known.ended
    assert known.ended.act_id in {each.act_id for each in tool.audit_records() if each.action == "resume"}


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        ("DynamoDB.GetItem", Break.CUT_BEFORE),
        ("DynamoDB.GetItem", Break.GARBAGE),
        ("DynamoDB.PutItem", Break.CUT_BEFORE),
        ("DynamoDB.PutItem", Break.CUT_AFTER),
        ("DynamoDB.PutItem", Break.GARBAGE),
        ("DynamoDB.PutItem", Break.THROTTLE),
        ("DynamoDB.PutItem", Break.SERVER_ERROR),
        ("S3.PUT", Break.CUT_AFTER),
    ],
)
def test_a_pause_whose_call_fails_once_is_made_once(tool: Tool, operation: str, what: Break) -> None:
    tool.forget_pauses()
    tool.break_at(operation, what)

    done = tool.run(PAUSE)

    assert done.returncode == 0, done.stderr
    assert len(in_force(tool)) == len(tool.pauses().read().readable) == 1


@pytest.mark.parametrize(
    ("operation", "phases"),
    [
        ("DynamoDB.GetItem", []),
        ("S3.PUT", []),
        ("DynamoDB.PutItem", [("intended", None), ("done", "interrupted")]),
    ],
)
def test_a_pause_that_is_denied_is_not_made_and_says_so_in_one_line(
    tool: Tool, operation: str, phases: list[tuple[str, str | None]]
) -> None:
    tool.forget_pauses()
    tool.break_at(operation, *[Break.DENIED] * 20)
    before = len(tool.audit_records())

    done = tool.run(PAUSE)

    assert done.returncode == 1
    assert "AccessDenied" in done.stderr
    assert "Traceback" not in done.stderr
    assert in_force(tool) == []
    assert [(each.phase, each.ended) for each in tool.audit_records()[before:]] == phases
