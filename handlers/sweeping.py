"""Run an invocation of the sweep: its log line, its metrics, its answer."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from aws_lambda_powertools import Logger, Metrics, single_metric
from aws_lambda_powertools.metrics import MetricUnit

from handlers.core.errors import RetryableError
from handlers.core.reconcile.sweep import Step, Sweeper, Swept
from handlers.core.redaction import described
from schemas.events import OPERATOR
from schemas.sweep import SweepReport

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

NAMESPACE: Final = "Joinguard"
#: The end of an invocation is reserved for storing how far the sweep is: a call that has begun may take 7 s.
MARGIN: Final = timedelta(seconds=20)

logger = Logger()
metrics = Metrics(namespace=NAMESPACE)


class SweepFailedError(Exception):
    """The sweep cannot go on; its message holds no account id."""


def sweep(event: dict[str, Any], context: "LambdaContext", app: Sweeper) -> dict[str, Any]:
    """Do the sweep's next steps, and return how far it is.

    Raises SweepFailedError if something has to be corrected: Lambda counts it as an error, and the next tick tries
    again.
    """
    logger.append_keys(function_request_id=context.aws_request_id)
    now = app.dependencies.clock.now()
    deadline = now + timedelta(milliseconds=context.get_remaining_time_in_millis()) - MARGIN
    try:
        swept = app.run(deadline, at_once=event.get("source") == OPERATOR)
    except RetryableError as error:
        raise _failed(f"{error.fault.code}: {error.fault.message}") from None
    except Exception as error:  # noqa: BLE001 - a traceback may hold account ids
        raise _failed(described(error)) from None
    try:
        _report(swept)
        _measure(swept, app)
    finally:
        metrics.flush_metrics()
    if swept.fault:
        raise _failed(f"{swept.fault.code}: {swept.fault.message}")
    return {"state": swept.step.value, "sweep": swept.last.sweep_id if swept.last else None}


def _failed(text: str) -> SweepFailedError:
    logger.error("the sweep failed", extra={"error": text})
    return SweepFailedError(text)


def _report(swept: Swept) -> None:
    line: dict[str, Any] = {"state": swept.step.value, "evidence_conflict": swept.conflict}
    if swept.step is Step.COMPLETE and swept.last:
        line |= swept.last.model_dump(mode="json", exclude_none=True, exclude={"schema_version", "organization_id"})
    write = logger.warning if swept.last and swept.last.halted and swept.step is Step.COMPLETE else logger.info
    if swept.conflict:
        write = logger.error
    write("swept", extra={name: value for name, value in line.items() if value is not None})


def _measure(swept: Swept, app: Sweeper) -> None:
    """Write the metrics: what the last complete sweep found at every tick, what this one did only once."""
    last, since = swept.last, swept.since
    if begun := last.decided_at if last else since:
        age = app.dependencies.clock.now() - begun
        _add("SecondsSinceSweep", MetricUnit.Seconds, age.total_seconds())
        # A quotient can have twelve digits in a row, which look like an account id.
        _add("IntervalsSinceSweep", MetricUnit.NoUnit, round(age / max(app.every, swept.takes), 3))
    if last:
        for name, value in _gauges(last).items():
            _add(name, MetricUnit.Count, value)
        for cause, value in last.gaps.items():
            with single_metric(name="Gaps", unit=MetricUnit.Count, value=value, namespace=NAMESPACE) as metric:
                metric.add_dimension(name="service", value=logger.service)
                metric.add_dimension(name="cause", value=cause)
    if last and swept.step is Step.COMPLETE:
        _add("SweepsCompleted", MetricUnit.Count, 1)
        _add("SweepSeconds", MetricUnit.Seconds, (last.decided_at - last.begun_at).total_seconds())
        _add("SweepRequests", MetricUnit.Count, last.requested)
        _add("MissedEvents", MetricUnit.Count, last.missed_events)
        _add("Departed", MetricUnit.Count, last.departed)
    _add("EvidenceDiffers", MetricUnit.Count, int(swept.conflict is not None))


def _gauges(last: SweepReport) -> dict[str, float]:
    return {
        "Members": last.members,
        "Covered": last.covered,
        "AccountsWithGaps": last.with_gaps,
        "RequestedAgain": last.requested_again,
        "Unclear": last.unclear,
        "Drifted": last.drifted,
        "OrganizationFaults": len(last.faults),
        "SweepHalted": int(last.halted is not None),
    }


def _add(name: str, unit: MetricUnit, value: float) -> None:
    metrics.add_metric(name=name, unit=unit, value=value)
