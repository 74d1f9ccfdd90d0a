"""The Lambda handler, created from the function's environment, handles a batch."""

from __future__ import annotations

import io
import json
import logging
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from handlers.attach_policies import lambda_handler
from handlers.aws.dynamodb_ledger import DynamoLedger
from handlers.batch import logger, metrics
from handlers.bootstrap import enforcer
from handlers.core.joins.yielding import YieldingPace
from infra.local.events import handshake_accepted
from schemas.events import Join
from schemas.intake import read_event
from schemas.outcome import OutcomeStatus
from tests.integration.conftest import BUCKET, RESOURCES, TABLE, client

if TYPE_CHECKING:
    from collections.abc import Iterator

POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "x:Y", "Resource": "*"}]}
CONTEXT: Any = SimpleNamespace(
    aws_request_id="request-1", get_remaining_time_in_millis=lambda: 60_000, function_name="attach-policies"
)


class Function:
    """A function whose organization has one account and one policy that the account must carry."""

    def __init__(self) -> None:
        organizations, sqs = client("organizations"), client("sqs")
        organization = organizations.create_organization(FeatureSet="ALL")["Organization"]
        self.organization_id, self.management = organization["Id"], organization["MasterAccountId"]
        self.account = organizations.create_account(Email="a@example.com", AccountName="a")["CreateAccountStatus"][
            "AccountId"
        ]
        policy = organizations.create_policy(
            Content=json.dumps(POLICY), Description="x", Name="x", Type="SERVICE_CONTROL_POLICY"
        )
        self.policy_id = policy["Policy"]["PolicySummary"]["Id"]
        self.queue_url, self.dead_letter_queue_url = (
            sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("joins", "dead")
        )
        pace = RESOURCES["Pace"]["Properties"]
        names = ("BillingMode", "AttributeDefinitions", "KeySchema")
        client("dynamodb").create_table(TableName="pace", **{name: pace[name] for name in names})
        self.key_id = client("kms").create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"][
            "KeyId"
        ]

    def environment(self) -> dict[str, str]:
        return {
            "POLICY_IDS": self.policy_id,
            "OUTCOMES_TABLE": TABLE,
            "EVIDENCE_BUCKET": BUCKET,
            "QUEUE_URL": self.queue_url,
            "DEAD_LETTER_QUEUE_URL": self.dead_letter_queue_url,
            "PSEUDONYM_KEY_ID": self.key_id,
            "ORGANIZATION_ID": self.organization_id,
            "MANAGEMENT_ACCOUNT_ID": self.management,
            "PACE_TABLE": "pace",
            "RECONCILIATION_TABLE": "reconciliation",
        }

    def join(self, account_id: str) -> dict[str, Any]:
        return handshake_accepted(account_id, self.organization_id, self.management)


@pytest.fixture
def function(table: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Function]:
    assert (table.name, bucket) == (TABLE, BUCKET)
    made = Function()
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    enforcer.cache_clear()
    yield made
    enforcer.cache_clear()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Return what the function logs; powertools' handler does not follow pytest's stdout."""
    text = io.StringIO()
    [handler] = logger.handlers
    assert isinstance(handler, logging.StreamHandler)
    before = handler.setStream(text)
    metrics.clear_metrics()
    yield text
    handler.setStream(before)


def record(number: int, body: str, *, receives: int) -> dict[str, Any]:
    return {
        "messageId": f"message-{number}",
        "receiptHandle": "receipt",
        "body": body,
        "attributes": {"ApproximateReceiveCount": str(receives), "SentTimestamp": str(round(time.time() * 1000))},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
    }


def test_the_handler_enforces_joins_refuses_others_and_returns_what_is_to_be_retried(
    function: Function, table: Any, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another worker holds the lease of the third message. The message with the most receives is handled first."""
    elsewhere = json.dumps(function.join("999999999999"))
    now = datetime.now(UTC)
    another_worker = DynamoLedger(client("dynamodb"), TABLE)
    event = read_event(elsewhere)
    assert isinstance(event, Join)
    another_worker.begin(event, now=now, lease_until=now + timedelta(minutes=1))
    records = [
        record(1, json.dumps(function.join(function.account)), receives=1),
        record(2, "{broken", receives=3),
        record(3, elsewhere, receives=2),
    ]

    answer = lambda_handler({"Records": records}, CONTEXT)

    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-3"}]}
    attached = client("organizations").list_policies_for_target(
        TargetId=function.account, Filter="SERVICE_CONTROL_POLICY"
    )
    assert function.policy_id in {each["Id"] for each in attached["Policies"]}
    statuses = {row["account_id"]: row["status"] for row in table.scan()["Items"]}
    assert statuses == {function.account: OutcomeStatus.ENFORCED, "999999999999": OutcomeStatus.RETRYING}
    [dead_letter] = client("sqs").receive_message(QueueUrl=function.dead_letter_queue_url)["Messages"]
    assert dead_letter["Body"] == "{broken"
    assert len(client("s3").list_objects_v2(Bucket=BUCKET, Prefix="evidence/")["Contents"]) == 1
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["message_id"] for line in lines] == ["message-2", "message-3", "message-1"]
    assert {line["function_request_id"] for line in lines} == {"request-1"}
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (measured["Enforced"], measured["Failed"], measured["Retrying"]) == ([1.0], [1.0], [1.0])


def test_a_message_stays_invisible_in_the_queue_that_it_came_from(function: Function, log: io.StringIO) -> None:
    """SQS knows a receipt handle only in the queue that returned it."""
    sqs = client("sqs")
    repairs_queue_url = sqs.create_queue(QueueName="repairs")["QueueUrl"]
    # Organizations does not find the account yet.
    body = json.dumps(function.join("999999999999"))

    for name, queue_url in (("repairs", repairs_queue_url), ("joins", function.queue_url)):
        sqs.send_message(QueueUrl=queue_url, MessageBody=body)
        [message] = sqs.receive_message(QueueUrl=queue_url)["Messages"]
        received = {"receiptHandle": message["ReceiptHandle"], "eventSourceARN": f"arn:aws:sqs:us-east-1:1:{name}"}
        log.truncate(0)
        lambda_handler({"Records": [record(1, body, receives=1) | received]}, CONTEXT)

        assert json.loads(log.getvalue().splitlines()[-1].lstrip("\0"))["again_in_seconds"] > 0


@pytest.mark.usefixtures("function")
def test_only_the_worker_of_another_queue_than_that_of_live_joins_lets_others_go_first() -> None:
    paces = [enforcer(f"arn:aws:sqs:us-east-1:1:{name}").dependencies.pace for name in ("joins", "repairs")]

    assert [isinstance(each, YieldingPace) for each in paces] == [False, True]
