"""The sweep of a pipeline in the embedded AWS, invoked by the Lambda API: its schedule is off there."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from handlers.aws.dynamodb_sweep import DynamoSweepStore
from infra.deploy.queues import messages_in
from infra.local.installation import configure
from infra.local.waiting import until
from schemas.keys import sweep_key
from schemas.sweep import SweepEvidence, SweepReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Pipeline

#: Seconds; the sweep leaves accounts alone that joined minutes ago, because their events may be on their way.
_LONG_AGO: Final = 86_400


class Sweeps:
    """The sweep of a pipeline whose accounts joined yesterday, as the function sees them."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.function = pipeline.resource("Sweeper")
        pipeline.relay.change_answers("ListAccounts", _joined_yesterday)

    def invoke(self, source: str = "joinguard.operator") -> dict[str, Any]:
        """Invoke the function and return its answer; for an error, Lambda's description of it."""
        answer = self.pipeline.client("lambda").invoke(
            FunctionName=self.function, Payload=json.dumps({"source": source})
        )
        found: dict[str, Any] = json.loads(answer["Payload"].read())
        return found

    def run(self) -> SweepReport:
        """Sweep now, and return the report."""
        answer = self.invoke()
        assert answer.get("state") == "complete", answer
        return self.report()

    def report(self) -> SweepReport:
        """Return the report of the last complete sweep."""
        state = self.store.read()
        assert state is not None
        assert state.last is not None
        return state.last

    @property
    def store(self) -> DynamoSweepStore:
        """What the sweep keeps."""
        return DynamoSweepStore(self.pipeline.client("dynamodb"), self.pipeline.resource("Reconciliation"))

    def evidence(self, report: SweepReport) -> SweepEvidence:
        """Return the evidence of a sweep."""
        s3, bucket = self.pipeline.client("s3"), self.pipeline.at.evidence_bucket
        body = s3.get_object(Bucket=bucket, Key=sweep_key(report))["Body"].read()
        return SweepEvidence.model_validate_json(body)

    def until_quiet(self) -> None:
        """Wait until the worker has handled all requests."""
        sqs, url = self.pipeline.client("sqs"), self.pipeline.resource("Repairs")
        until(lambda: not messages_in(sqs, url), "the queue of requests to be empty")

    def forget(self) -> None:
        """Delete everything that the sweep keeps, and its requests."""
        self.pipeline.client("sqs").purge_queue(QueueUrl=self.pipeline.resource("Repairs"))
        table = self.pipeline.aws.resource("dynamodb").Table(self.pipeline.resource("Reconciliation"))
        for row in table.scan(ConsistentRead=True)["Items"]:
            table.delete_item(Key={"name": row["name"]})


def _joined_yesterday(answer: Any) -> None:
    for each in answer["Accounts"]:
        each["JoinedTimestamp"] -= _LONG_AGO


@contextmanager
def enforcing(pipeline: Pipeline) -> Iterator[None]:
    """Let the stage's sweep request policies until the block ends."""
    configure(pipeline.aws, {"Sweep": "enforce"})
    try:
        yield
    finally:
        configure(pipeline.aws, {"Sweep": "report"})
