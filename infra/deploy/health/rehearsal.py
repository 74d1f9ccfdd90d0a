"""Check the rehearsals: when the last one passed each hop, and where the missing ones are lost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from handlers.aws.dynamodb_rows import plain, readable
from handlers.core.evidence.rehearsals import Passed
from infra.deploy.health.check import RESTORE, Check
from schemas.keys import REHEARSAL_ROW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.deploy.health.deployed import Deployed
    from schemas.outcome import Outcome

#: As the alarm NoRehearsals.
_TOO_OLD: Final = timedelta(minutes=45)
_RUNBOOK: Final = "handlers/operate/RUNBOOK.md#no-rehearsals"
_PERIOD: Final = 300


@dataclass(frozen=True)
class Clients:
    """The clients with which the last rehearsal is found, or where it was lost."""

    scheduler: Any
    dynamodb: Any
    cloudwatch: Any


def last(clients: Clients, stack: Deployed, name: str) -> Iterator[Check]:
    """Show when the last rehearsal came through; if that is too long ago, name the hop where they are lost."""
    now = datetime.now(UTC)
    row = _row(clients.dynamodb, stack.id("Outcomes"))
    if row is None:
        found = "no row of one can be read; the first begins within 15 minutes after a deployment"
        yield _lost(found, _where(clients, stack, name, now))
        return
    passed, age = Passed.of(row), now - row.received_at
    when = f"{row.received_at:%Y-%m-%d %H:%M:%S}Z, {max(0, round(age.total_seconds() / 60))} min ago"
    if age > _TOO_OLD:
        yield _lost(f"the last one reached the worker at {when}", _where(clients, stack, name, now))
    elif passed.lost_at:
        why = f" ({passed.fault.code})" if passed.fault else ""
        found = f"the last one reached the worker at {when}; its {passed.lost_at} was not written{why}"
        yield Check("rehearsal", found, "wrong", _RUNBOOK)
    else:
        hops = ", ".join(f"{hop} {seconds:.1f} s" for hop, seconds in passed.seconds().items())
        yield Check("rehearsal", f"{when}: {hops}", "ok", always_shown=True)


def _row(dynamodb: Any, table: str) -> Outcome | None:
    account_id, event_id = REHEARSAL_ROW
    keys = [{"account_id": {"S": account_id}, "event_id": {"S": event_id}}]
    answer = dynamodb.batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}})
    return next((readable(plain(each)) for each in answer["Responses"].get(table, [])), None)


def _lost(found: str, where: tuple[str, str]) -> Check:
    lost, step = where
    return Check("rehearsal", f"{found}: {lost}", "wrong", step)


def _where(clients: Clients, stack: Deployed, name: str, now: datetime) -> tuple[str, str]:
    """Return the hop where rehearsals are lost, as far as AWS's metrics show it, and the next step."""
    state = clients.scheduler.get_schedule(Name=stack.short_id(name))["State"]
    if state != "ENABLED":
        return f"lost at the schedule, which is {state}", RESTORE
    counts = _counts(clients.cloudwatch, stack, now)
    minutes = round(_TOO_OLD.total_seconds() / 60)
    if not counts["matched"]:
        return f"lost before the rule, which matched no event in {minutes} minutes", _RUNBOOK
    if counts["failed"]:
        return "lost at the rule's target, which it could not invoke", "handlers/operate/RUNBOOK.md#rule-fails"
    if not counts["sent"]:
        return f"lost before the joins queue, which received nothing of {counts['matched']:.0f} events", _RUNBOOK
    if not counts["invoked"]:
        return f"lost before the worker, which was not invoked; {counts['sent']:.0f} messages were sent", _RUNBOOK
    return f"lost in the worker, which was invoked {counts['invoked']:.0f} times and wrote no records of them", _RUNBOOK


def _counts(cloudwatch: Any, stack: Deployed, now: datetime) -> dict[str, float]:
    """Return what passed each part of the path in the time in which a rehearsal should have come through."""
    rule = {"Name": "RuleName", "Value": stack.short_id("MemberAccountInitialization")}
    metrics = {
        "matched": ("AWS/Events", "MatchedEvents", rule),
        "failed": ("AWS/Events", "FailedInvocations", rule),
        "sent": ("AWS/SQS", "NumberOfMessagesSent", {"Name": "QueueName", "Value": stack.short_id("Joins")}),
        "invoked": ("AWS/Lambda", "Invocations", {"Name": "FunctionName", "Value": stack.short_id("AttachPolicies")}),
    }
    queries = [
        {
            "Id": key,
            "MetricStat": {
                "Metric": {"Namespace": namespace, "MetricName": metric, "Dimensions": [dimension]},
                "Period": _PERIOD,
                "Stat": "Sum",
            },
        }
        for key, (namespace, metric, dimension) in metrics.items()
    ]
    answer = cloudwatch.get_metric_data(MetricDataQueries=queries, StartTime=now - _TOO_OLD, EndTime=now)
    return dict.fromkeys(metrics, 0.0) | {each["Id"]: sum(each["Values"]) for each in answer["MetricDataResults"]}
