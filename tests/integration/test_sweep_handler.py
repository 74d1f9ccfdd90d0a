"""The sweep's function, created from its environment, finds an account without its policy."""

from __future__ import annotations

import io
import json
import logging
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from moto.organizations.models import organizations_backends

from handlers.bootstrap import sweeper
from handlers.settings import SettingsError
from handlers.sweep import lambda_handler
from handlers.sweeping import SweepFailedError, logger, metrics
from schemas.sweep import SweepEvidence
from tests.integration.conftest import BUCKET, RESOURCES, TABLE, client
from tests.integration.test_lambda_handler import Function

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEDULED = {"source": "joinguard.schedule"}
OPERATOR = {"source": "joinguard.operator"}
CONTEXT: Any = SimpleNamespace(aws_request_id="request-1", get_remaining_time_in_millis=lambda: 900_000)


class SweepFunction(Function):
    """The organization of the worker's function, with the sweep's queue and table."""

    def __init__(self) -> None:
        super().__init__()
        organizations = client("organizations")
        root = organizations.list_roots()["Roots"][0]["Id"]
        organizations.enable_policy_type(RootId=root, PolicyType="SERVICE_CONTROL_POLICY")
        # Here, accounts join in the moment in which they are created, so that their events could still be on their way.
        for backends in organizations_backends.values():
            for each in backends["aws"].accounts:
                each.create_time -= timedelta(days=1)
        self.repairs_queue_url = client("sqs").create_queue(QueueName="repairs")["QueueUrl"]
        properties = RESOURCES["Reconciliation"]["Properties"]
        names = ("BillingMode", "AttributeDefinitions", "KeySchema")
        client("dynamodb").create_table(TableName="reconciliation", **{name: properties[name] for name in names})

    def environment(self) -> dict[str, str]:
        return {
            "POLICY_IDS": self.policy_id,
            "OUTCOMES_TABLE": TABLE,
            "EVIDENCE_BUCKET": BUCKET,
            "RECONCILIATION_TABLE": "reconciliation",
            "REPAIRS_QUEUE_URL": self.repairs_queue_url,
            "PSEUDONYM_KEY_ID": self.key_id,
            "ORGANIZATION_ID": self.organization_id,
            "MANAGEMENT_ACCOUNT_ID": self.management,
            "ACCOUNT_ID": self.management,
            "SWEEP": "enforce",
        }

    def requests(self) -> list[dict[str, Any]]:
        received = client("sqs").receive_message(QueueUrl=self.repairs_queue_url, MaxNumberOfMessages=10)
        return [json.loads(each["Body"]) for each in received.get("Messages", [])]


@pytest.fixture
def function(table: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SweepFunction]:
    assert (table.name, bucket) == (TABLE, BUCKET)
    made = SweepFunction()
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    sweeper.cache_clear()
    yield made
    sweeper.cache_clear()


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


def published(text: str) -> dict[str, float]:
    """Return the metrics of EMF lines by name; of those with more dimensions, by name and cause."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        fields = json.loads(line)
        for each in fields["_aws"]["CloudWatchMetrics"]:
            cause = f" {fields['cause']}" if "cause" in fields else ""
            found |= {f"{metric['Name']}{cause}": fields[metric["Name"]][0] for metric in each["Metrics"]}
    return found


def test_an_account_without_its_policy_is_requested_and_counted(
    function: SweepFunction, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = lambda_handler(SCHEDULED, CONTEXT)

    assert answer["state"] == "complete"
    [request] = function.requests()
    assert (request["source"], request["account_id"]) == ("joinguard.sweep", function.account)
    metrics_of = published(capsys.readouterr().out)
    assert {name: metrics_of[name] for name in ("Members", "Covered", "AccountsWithGaps", "SweepRequests")} == {
        "Members": 1,
        "Covered": 0,
        "AccountsWithGaps": 1,
        "SweepRequests": 1,
    }
    assert (metrics_of["Gaps NEVER_SEEN"], metrics_of["Gaps DRIFTED"], metrics_of["SweepHalted"]) == (1, 0, 0)
    [line] = [json.loads(each) for each in log.getvalue().splitlines()]
    assert (line["state"], line["with_gaps"]) == ("complete", 1)
    assert function.account not in log.getvalue() + json.dumps(metrics_of)


def test_the_evidence_of_the_sweep_is_in_the_bucket(function: SweepFunction, log: io.StringIO) -> None:  # noqa: ARG001 - quiet
    answer = lambda_handler(SCHEDULED, CONTEXT)

    s3 = client("s3")
    [found] = s3.list_objects_v2(Bucket=BUCKET, Prefix="sweeps/")["Contents"]
    evidence = SweepEvidence.model_validate_json(s3.get_object(Bucket=BUCKET, Key=found["Key"])["Body"].read())
    assert found["Key"].endswith(f"/{answer['sweep']}.json")
    assert (evidence.report.members, len(evidence.appeared), len(evidence.gaps)) == (1, 1, 1)
    assert function.account not in evidence.model_dump_json() + found["Key"]


def test_between_sweeps_the_metrics_of_the_last_one_are_published(
    function: SweepFunction,
    log: io.StringIO,  # noqa: ARG001 - quiet
    capsys: pytest.CaptureFixture[str],
) -> None:
    lambda_handler(SCHEDULED, CONTEXT)
    function.requests()
    capsys.readouterr()

    assert lambda_handler(SCHEDULED, CONTEXT)["state"] == "idle"

    found = published(capsys.readouterr().out)
    assert (found["AccountsWithGaps"], found["Gaps NEVER_SEEN"]) == (1, 1)
    assert 0 <= found["SecondsSinceSweep"] < 60
    assert 0 <= found["IntervalsSinceSweep"] < 60 / 1800
    assert found["IntervalsSinceSweep"] == round(found["IntervalsSinceSweep"], 3), "more digits look like an account id"
    assert "SweepRequests" not in found


def test_an_operator_begins_a_sweep(function: SweepFunction, log: io.StringIO) -> None:  # noqa: ARG001 - quiet
    first = lambda_handler(SCHEDULED, CONTEXT)
    function.requests()

    second = lambda_handler(OPERATOR, CONTEXT)

    assert second["state"] == "complete"
    assert second["sweep"] != first["sweep"]


def test_a_missing_setting_is_an_error_that_names_it(function: SweepFunction, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - as above
    monkeypatch.delenv("REPAIRS_QUEUE_URL")

    with pytest.raises(SettingsError, match="REPAIRS_QUEUE_URL is empty or not set"):
        lambda_handler(SCHEDULED, CONTEXT)


def test_what_goes_wrong_is_an_error_without_account_ids(
    function: SweepFunction, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORGANIZATION_ID", "o-another0000")
    sweeper.cache_clear()

    with pytest.raises(SweepFailedError, match="WRONG_ORGANIZATION"):
        lambda_handler(SCHEDULED, CONTEXT)

    assert function.management not in log.getvalue()
    assert function.requests() == []
