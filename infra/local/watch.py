"""See what became of events in an installation: the eyes of the demo and of the tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr

from handlers.aws.dynamodb_rows import outcome
from infra.local.waiting import HANGS_AFTER, until
from schemas.evidence import Evidence
from schemas.outcome import OutcomeStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.local.installation import Installation
    from infra.local.standin import StandIn
    from schemas.outcome import Outcome


class Watch:
    """An installation seen from outside: its queues, its records, its organization."""

    def __init__(self, aws: StandIn, installation: Installation) -> None:
        self._sqs = aws.client("sqs")
        self._s3 = aws.client("s3")
        self._organizations = aws.client("organizations")
        self._table = aws.resource("dynamodb").Table(installation.outcomes_table)
        self._at = installation

    def put(self, event: Mapping[str, Any] | str) -> None:
        """Put an event on the queue as EventBridge does."""
        body = event if isinstance(event, str) else json.dumps(event)
        self._sqs.send_message(QueueUrl=self._at.queue_url, MessageBody=body)

    def until_quiet(self) -> None:
        """Wait until the queue holds nothing, neither waiting nor in flight nor hidden."""
        until(lambda: not self._count(self._at.queue_url), "the queue to be empty")

    def outcome(self, event_id: str) -> Outcome | None:
        """Return an event's outcome row, where it has one."""
        found = self._table.scan(ConsistentRead=True, FilterExpression=Attr("event_id").eq(event_id))["Items"]
        return outcome(found[0]) if found else None

    def evidence(self, event_id: str) -> list[Evidence]:
        """Return an event's evidence, oldest attempt first."""
        row = self.outcome(event_id)
        if row is None:
            return []
        # Not by the event's id: where that holds twelve digits, the key holds a digest of it.
        at = (
            row.evidence_key.rsplit("/", 2)[0] if row.evidence_key else f"evidence/{row.event_time:%Y/%m/%d}/{event_id}"
        )
        folder = f"{at}/"
        listed = self._s3.list_objects_v2(Bucket=self._at.evidence_bucket, Prefix=folder).get("Contents", [])
        found = [Evidence.model_validate_json(self._read(each["Key"])) for each in listed]
        return sorted(found, key=lambda each: each.attempt)

    def attached(self, account_id: str) -> set[str]:
        """Return which of the required policies the account carries."""
        found = self._organizations.list_policies_for_target(TargetId=account_id, Filter="SERVICE_CONTROL_POLICY")
        return {policy["Id"] for policy in found["Policies"]} & set(self._at.policy_ids)

    def dead_letters(self) -> list[dict[str, Any]]:
        """Return the dead letters, in the SDK's shape; they stay where they are, as visible as they were."""
        url, letters = self._at.dead_letter_queue_url, list[dict[str, Any]]()
        while messages := self._sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=HANGS_AFTER
        ).get("Messages"):
            letters += messages
        for letter in letters:
            self._sqs.change_message_visibility(
                QueueUrl=url, ReceiptHandle=letter["ReceiptHandle"], VisibilityTimeout=0
            )
        return letters

    def put_back(self, letter: Mapping[str, Any], *, body: str | None = None) -> None:
        """Send a letter to the queue again, its attributes kept and its redrives counted; only then delete it."""
        attributes = {name: dict(value) for name, value in letter["MessageAttributes"].items()}
        attributes["REDRIVES"]["StringValue"] = str(int(attributes["REDRIVES"]["StringValue"]) + 1)
        self._sqs.send_message(
            QueueUrl=self._at.queue_url, MessageBody=body or letter["Body"], MessageAttributes=attributes
        )
        self.forget(letter)

    def forget(self, letter: Mapping[str, Any]) -> None:
        """Delete a letter."""
        self._sqs.delete_message(QueueUrl=self._at.dead_letter_queue_url, ReceiptHandle=letter["ReceiptHandle"])

    def clear(self) -> None:
        """Empty the queues, whatever is in flight, and the outcomes; evidence is locked and stays."""
        for url in (self._at.queue_url, self._at.dead_letter_queue_url, self._at.undelivered_queue_url):
            self._sqs.purge_queue(QueueUrl=url)
        for row in self._table.scan(ConsistentRead=True)["Items"]:
            self._table.delete_item(Key={name: row[name] for name in ("account_id", "event_id")})

    def dead(self) -> int:
        """Count the dead letters."""
        return self._count(self._at.dead_letter_queue_url)

    def failing(self) -> list[str]:
        """Return the ids of the events that the sparse index calls failing."""
        found = [
            self._table.query(
                IndexName="failing",
                KeyConditionExpression="failing = :status",
                ExpressionAttributeValues={":status": status.value},
            )["Items"]
            for status in (OutcomeStatus.FAILED, OutcomeStatus.RETRYING)
        ]
        return [str(item["event_id"]) for items in found for item in items]

    def _count(self, queue_url: str) -> int:
        names = [f"ApproximateNumberOfMessages{which}" for which in ("", "NotVisible", "Delayed")]
        found = self._sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def _read(self, key: str) -> bytes:
        body: bytes = self._s3.get_object(Bucket=self._at.evidence_bucket, Key=key)["Body"].read()
        return body
