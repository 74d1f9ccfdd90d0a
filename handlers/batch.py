"""Handle a batch of messages of a queue: logs, metrics, and which messages SQS has to deliver again."""

import base64
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aws_lambda_powertools import Logger, Metrics, single_metric
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

from handlers.core.errors import RetryableError, fault
from handlers.core.evidence.rehearsals import Hop
from handlers.core.joins.ports import Message
from handlers.core.joins.worker import Handled, Worker
from handlers.core.redaction import redact
from handlers.core.timing import Budget
from handlers.time_limit import TimeLimitError, time_limit
from schemas.attribute import trace_header
from schemas.events import DEPARTURES
from schemas.outcome import AttachmentResult, OutcomeStatus

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from aws_lambda_powertools.utilities.typing import LambdaContext

NAMESPACE: Final = "Joinguard"
#: Seconds reserved at the end of an invocation for its response; a record that is not handled by then is retried.
MARGIN: Final = 2.0
#: Seconds that each record gets at least, so that its message can be postponed.
MIN_SECONDS: Final = 0.25

# The service in logs and metrics is the function's name, which the template sets in POWERTOOLS_SERVICE_NAME.
logger = Logger()
metrics = Metrics(namespace=NAMESPACE)
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def handle_batch(event: dict[str, Any], context: "LambdaContext", app: Worker) -> "PartialItemFailureResponse":
    """Handle a batch of messages; return those that SQS has to deliver again."""
    # Not `inject_lambda_context`, which adds the function's ARN, and so an account id, to every line.
    logger.append_keys(function_request_id=context.aws_request_id)
    # A message with few receives left goes first, so that the others do not use up the time for it.
    records = sorted(event["Records"], key=_receives, reverse=True)
    budget = Budget(
        app.dependencies.clock,
        milliseconds=context.get_remaining_time_in_millis(),
        records=len(records),
    )
    try:
        return process_partial_response(
            event={"Records": records},
            record_handler=partial(handle_in_time, context, app, budget),
            processor=processor,
            context=context,
        )
    finally:
        metrics.flush_metrics()


def handle_in_time(context: "LambdaContext", app: Worker, budget: Budget, record: "SQSRecord") -> None:
    """Handle one record, and stop before the invocation ends, so that the results of the other records are reported.

    Raises RetryableError if SQS has to deliver the record again.
    """
    try:
        with time_limit(max(MIN_SECONDS, context.get_remaining_time_in_millis() / 1000 - MARGIN)):
            handle_record(app, budget, record)
    except TimeLimitError:
        logger.error("out of time", extra={"message_id": record.message_id})  # noqa: TRY400 - a traceback may hold account ids
        _measure_retry(record)
        raise RetryableError(fault("OUT_OF_TIME", "the invocation ends soon; the record is tried again")) from None
    except RetryableError:
        _measure_retry(record)
        raise


def handle_record(app: Worker, budget: Budget, record: "SQSRecord") -> None:
    """Handle one record and log one line; raise RetryableError if SQS has to deliver the record again."""
    message_id = record.message_id
    try:
        handled = app.handle(_message(record), budget)
    except Exception as error:  # noqa: BLE001 - one bad record must not fail the batch or leak through a traceback
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}"
        text = f"{type(error).__name__}: {redact(str(error))}"
        logger.error("not handled", extra={"message_id": message_id, "error": text, "where": where})  # noqa: TRY400 - a traceback may hold account ids
        raise RetryableError(fault("UNEXPECTED", text)) from None
    _report(handled, message_id)
    if handled.status is OutcomeStatus.RETRYING:
        raise RetryableError(handled.fault or fault("RETRYING", "the record is tried again"))


def _receives(record: dict[str, Any]) -> int:
    return int(record["attributes"]["ApproximateReceiveCount"])


def _message(record: "SQSRecord") -> Message:
    sent = int(record.attributes.sent_timestamp) / 1000
    return Message(
        body=record.body,
        message_id=record.message_id,
        receipt_handle=record.receipt_handle,
        receives=int(record.attributes.approximate_receive_count),
        sent_at=datetime.fromtimestamp(sent, UTC),
        attributes={name: _attribute(value) for name, value in (record.get("messageAttributes") or {}).items()},
        trace_header=trace_header(record.attributes.aws_trace_header),
    )


def _attribute(value: dict[str, Any]) -> dict[str, Any]:
    """Convert an attribute from Lambda's spelling to the SDK's."""
    if value.get("binaryValue") is not None:
        return {"DataType": value["dataType"], "BinaryValue": base64.b64decode(value["binaryValue"])}
    return {"DataType": value["dataType"], "StringValue": value.get("stringValue") or ""}


def _report(handled: Handled, message_id: str) -> None:
    line = {
        "message_id": message_id,
        "event_id": handled.event_id,
        "event_name": handled.event_name,
        "event_time_from": handled.event_time_from,
        "account": handled.account,
        "attempt": handled.attempt,
        "status": handled.status.value,
        "policies": {policy.policy_id: policy.result.value for policy in handled.policies} or None,
        "code": handled.fault.code if handled.fault else None,
        "why": handled.fault.message if handled.fault else None,
        "again_in_seconds": handled.again_in,
        "evidence_key": handled.evidence_key,
        "evidence_conflicts": handled.conflicts or None,
        "row_replaced": handled.row_replaced or None,
        "seconds_to_guardrail": handled.seconds_to_guardrail,
        "seconds_by_hop": {hop.value: seconds for hop, seconds in (handled.hops or {}).items()} or None,
    }
    troubled = handled.status in {OutcomeStatus.FAILED, OutcomeStatus.RETRYING} or _is_lost(handled)
    write = logger.warning if troubled else logger.info
    if handled.conflicts or handled.row_replaced:
        write = logger.error
    write("handled", extra={name: value for name, value in line.items() if value is not None})
    _measure(handled)


def _is_lost(handled: Handled) -> bool:
    return handled.rehearsal and handled.hops is None


def _measure_retry(record: "SQSRecord") -> None:
    """Write how many times SQS has delivered a message that it has to deliver again."""
    receives = int(record.attributes.approximate_receive_count)
    metrics.add_metric(name="ReceivesOfRetriedMessages", unit=MetricUnit.Count, value=receives)


def _measure(handled: Handled) -> None:
    """Write the metrics of the template's alarms and dashboard."""
    if handled.rehearsal:
        _measure_rehearsal(handled.hops)
        return
    for name, count in _counts(handled).items():
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=count)
    if handled.seconds_to_guardrail is not None:
        metrics.add_metric(name="TimeToGuardrail", unit=MetricUnit.Seconds, value=handled.seconds_to_guardrail)
    if handled.status is OutcomeStatus.FAILED and handled.fault:
        with single_metric(name="DeadLetters", unit=MetricUnit.Count, value=1, namespace=NAMESPACE) as metric:
            metric.add_dimension(name="service", value=logger.service)
            metric.add_dimension(name="code", value=handled.fault.code)


def _counts(handled: Handled) -> dict[str, int]:
    """Return what is counted of a message; some of it also if it is 0."""
    counts = {handled.status.value.capitalize(): 1, "OrganizationsRetries": handled.retried_calls}
    # Somebody else may have written to the records. Each of these raises an alarm.
    counts |= {"EvidenceDiffers": len(handled.conflicts), "RowsReplaced": int(handled.row_replaced)}
    if handled.attempt is not None:
        results = [policy.result for policy in handled.policies]
        counts["PoliciesAttached"] = results.count(AttachmentResult.ATTACHED)
        counts["PoliciesRemoved"] = results.count(AttachmentResult.REMOVED)
        counts["AttachmentsFailed"] = results.count(AttachmentResult.FAILED)
        # An alarm compares these two: a decision without evidence is an error.
        counts["EvidenceWritten"] = 1 if handled.evidence_key else 0
        counts["Decided"] = 0 if handled.status is OutcomeStatus.RETRYING else 1
    found = {name: count for name, count in counts.items() if count}
    if handled.attempt is None:
        return found
    # Published at zero, too: without data, nobody can tell silence from a worker that does not count.
    codes = [policy.fault.code for policy in handled.policies if policy.fault]
    return found | {
        "Departures": int(handled.status is OutcomeStatus.CLOSED and handled.event_name in DEPARTURES),
        "Restores": handled.restored,
        "RestoresStopped": codes.count("RESTORES_STOPPED"),
        "GuardrailsChanged": int(handled.fault is not None and handled.fault.code == "GUARDRAILS_CHANGED"),
    }


def _measure_rehearsal(hops: Mapping[Hop, float] | None) -> None:
    """Write whether a rehearsal came through, and how long each hop took."""
    metrics.add_metric(name="Rehearsals", unit=MetricUnit.Count, value=0 if hops is None else 1)
    if hops is None:
        return
    seconds = {
        "RehearsalToQueue": hops[Hop.QUEUE],
        "RehearsalToWorker": hops[Hop.WORKER],
        "RehearsalToOutcome": hops[Hop.EVIDENCE] + hops[Hop.OUTCOME],
    }
    for name, value in seconds.items():
        metrics.add_metric(name=name, unit=MetricUnit.Seconds, value=value)
