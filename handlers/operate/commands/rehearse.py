"""`rehearse`."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import click

from handlers.core.evidence.rehearsals import Hop, Passed, RehearsalRecords
from handlers.operate.context import Context
from handlers.operate.options import DurationType, as_json, with_context
from handlers.operate.output import Command, hint, print_json, stderr
from handlers.operate.tables import print_table
from schemas.ids import EventId

_EVERY: Final = 1.0
_RUNBOOK: Final = "handlers/operate/RUNBOOK.md#no-rehearsals"
_WORDS: Final = {
    Hop.BUS: "put on the event bus",
    Hop.QUEUE: "in the joins queue",
    Hop.WORKER: "received by the worker",
    Hop.EVIDENCE: "evidence written",
    Hop.OUTCOME: "outcome written",
}


@click.command(cls=Command, examples=("joinguard rehearse", "joinguard rehearse --timeout 5m --json"))
@click.option(
    "--timeout",
    type=DurationType(),
    default="60s",
    show_default=True,
    help="How long to wait for the outcome: 90s, 5m, …",
)
@click.option(
    "--from-region",
    "region",
    metavar="REGION",
    help="Put it on the event bus of this Region, from which the forwarder forwards events.",
)
@as_json
@with_context
def rehearse(context: Context, *, timeout: timedelta, region: str | None, as_json: bool) -> int:
    """Send a rehearsal, and show when it passes each hop: bus, queue, worker, evidence, outcome.

    It travels the path of a join and changes no account, so it needs no --confirm. Exit status 1 if it does not come
    through in time.
    """
    begun = context.clock.now()
    event_id = context.bus.put_rehearsal(region)
    records = RehearsalRecords(context.outcomes, context.archive, context.pseudonyms.digest)
    passed = _follow(context, records, event_id, begun, timeout)
    if as_json:
        print_json(_fields(event_id, passed))
    else:
        _print(event_id, passed)
    if passed.lost_at is None:
        return 0
    hint(_lost(context, event_id, passed), "red")
    return 1


def _follow(
    context: Context, records: RehearsalRecords, event_id: EventId, begun: datetime, timeout: timedelta
) -> Passed:
    """Wait until a rehearsal came through, was given up, or the time is over; say when it passes a hop."""
    shown: set[Hop] = set()
    passed = Passed()
    with stderr.status("waiting for the rehearsal"):
        while True:
            found = context.patiently(lambda: records.passed(event_id, begun))
            # The bus has whole seconds; what this process saw is more precise.
            passed = replace(found, at={**found.at, Hop.BUS: begun})
            for hop in [each for each in Hop if each in passed.at and each not in shown]:
                shown.add(hop)
                stderr.print(f"{passed.at[hop]:%H:%M:%S.%f}"[:-3] + f"Z {_WORDS[hop]}")
            if passed.lost_at is None or passed.fault or context.clock.now() - begun >= timeout:
                return passed
            context.clock.sleep(_EVERY)


def _fields(event_id: EventId, passed: Passed) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "came_through": passed.lost_at is None,
        "passed": {hop.value: at.isoformat() for hop, at in passed.at.items()},
        "seconds": {hop.value: round(seconds, 3) for hop, seconds in passed.seconds().items()},
        "lost_at": passed.lost_at.value if passed.lost_at else None,
        "code": passed.fault.code if passed.fault else None,
    }


def _print(event_id: EventId, passed: Passed) -> None:
    seconds = passed.seconds()
    rows = [
        (
            _WORDS[hop],
            f"{passed.at[hop]:%Y-%m-%d %H:%M:%S}Z" if hop in passed.at else "not yet",
            f"{seconds[hop]:.1f} s" if hop in seconds else "",
        )
        for hop in Hop
    ]
    print_table(f"Rehearsal {event_id}", ["hop", "time", "after"], rows)


def _lost(context: Context, event_id: EventId, passed: Passed) -> str:
    """Return where a rehearsal is, as far as its records and the queue show it, and the next step."""
    match passed.lost_at:
        case Hop.QUEUE if (waiting := context.patiently(lambda: context.queues.visible("joins"))) > 0:
            lost = (
                f"no worker has received it, and the joins queue has about {waiting:,} visible messages: the worker is "
                "off or busy. `make status` checks its event source mapping"
            )
        case Hop.QUEUE:
            lost = (
                "it has not reached the worker, and the joins queue has no visible message: the rule did not match it "
                "or could not deliver it, or the worker just received it. `make status` checks rule, target and queue"
            )
        case _:
            why = f" ({passed.fault.code}: {passed.fault.message})" if passed.fault else ""
            what = "evidence" if passed.lost_at is Hop.EVIDENCE else "outcome"
            lost = (
                f"the worker received it and has not written the {what}{why}. `make status` checks role, table and "
                f"bucket, and `make logs ARGS=--find={event_id}` shows the worker's log"
            )
    return f"The rehearsal did not come through: {lost}. The runbook is {_RUNBOOK}"
