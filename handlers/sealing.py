"""Run an invocation of what seals evidence: its log line, its metrics, its answer."""

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from handlers.core.errors import JoinguardError
from handlers.core.evidence.sealing import Sealed, Sealer
from handlers.core.redaction import described

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

#: The end of an invocation is reserved for a batch that has begun.
MARGIN: Final = timedelta(minutes=2)

logger = Logger()
metrics = Metrics(namespace="Joinguard")


class SealFailedError(Exception):
    """The log cannot be continued; its message holds no account id."""


def seal(context: "LambdaContext", app: Sealer) -> dict[str, Any]:
    """Continue the log, and return how far it is.

    Raises SealFailedError if something has to be corrected: Lambda counts it as an error, and the next invocation tries
    again.
    """
    logger.append_keys(function_request_id=context.aws_request_id)
    left, done = timedelta(milliseconds=context.get_remaining_time_in_millis()), Sealed()
    error: str | None = None
    try:
        app.run(app.dependencies.clock.now() + max(left - MARGIN, left / 2), done)
    except JoinguardError as failure:
        error = str(failure)
    except Exception as failure:  # noqa: BLE001 - a traceback may hold account ids
        error = described(failure)
    _report(done, error)
    _measure(done)
    if error:
        raise SealFailedError(error)
    return {"size": done.size, "batches": done.batches, "objects": done.objects}


def _report(done: Sealed, error: str | None) -> None:
    faults = {"copy_fault": done.copy_fault, "topic_fault": done.topic_fault}
    line = asdict(done) | {name: each and each.model_dump(exclude_none=True) for name, each in faults.items()}
    line["error"] = error
    warns = any(faults.values()) or done.waiting or done.restored
    is_altered = done.deletions or done.foreign or done.different
    write = logger.error if error or is_altered else logger.warning if warns else logger.info
    message = "the evidence was not sealed" if error else "sealed"
    write(message, extra={name: value for name, value in line.items() if value is not None})


def _measure(done: Sealed) -> None:
    try:
        for name, value in {
            "CheckpointsSigned": done.checkpoints,
            "ObjectsSealed": done.objects,
            "UnannouncedObjects": done.unannounced,
            "DeletedObjects": done.deletions,
            # No part of Joinguard wrote the copies of other checkpoints either.
            "ForeignObjects": done.foreign + done.different,
            "CheckpointsNotCopied": None if done.behind is None else done.behind + done.unpublished,
        }.items():
            if value is None:
                # A 0 would end the alarm of copies that are behind.
                continue
            metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
    finally:
        metrics.flush_metrics()
