"""Send messages back to the joins queue, with progress on the screen, and wait for their outcomes."""

from collections.abc import Sequence
from datetime import timedelta

from handlers.core.evidence.audit import AuditedAction
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.explanations import Explanation
from handlers.core.redrive.in_flight import InFlight
from handlers.core.redrive.redrive import Redrive
from handlers.core.redrive.tracker import OutcomeTracker
from handlers.operate.advice import sentence
from handlers.operate.context import Context
from handlers.operate.output import stderr
from handlers.operate.progress import progress


def send_back(  # noqa: PLR0913 - the options of a redrive
    context: Context,
    in_flight: InFlight,
    dead_letters: Sequence[DeadLetter],
    audited: AuditedAction,
    *,
    rate: float | None,
    breaker: int,
    wait: timedelta,
    what: str = "redriving",
) -> Redrive:
    """Send messages, wait for their outcomes, add the results to the audit record; return the redrive at its end.

    `what` is the name of the work beside its progress.
    """
    tracker = OutcomeTracker(context.outcomes)
    redrive = Redrive(in_flight, tracker, context.clock, context.patiently, rate=rate, breaker=breaker, notify=notify)
    send_and_wait(redrive, dead_letters, wait, audited, what=what)
    return redrive


def send_and_wait(
    redrive: Redrive, messages: Sequence[DeadLetter], wait: timedelta, audited: AuditedAction, *, what: str
) -> None:
    """Send messages and wait for their outcomes, with progress; add the results to the audit record in any case."""
    try:
        with progress(what, len(messages)) as advance:
            redrive.run(messages, advance)
        redrive.in_flight.release_all_but(())
        if not redrive.stopped:
            _wait(redrive, wait)
    except KeyboardInterrupt:
        stderr.print(f"{redrive.sent:,} of {len(messages):,} sent. Run the command again to send the others")
        raise
    finally:
        audited.results, audited.result_of = redrive.results, redrive.final_results
        audited.ended = "stopped" if redrive.stopped else "completed"


def notify(explanation: Explanation) -> None:
    """Print why a redrive waits."""
    stderr.print(sentence(explanation))


def _wait(redrive: Redrive, wait: timedelta) -> None:
    """Wait for the outcomes of the sent messages; an interrupt ends the waiting and not the command."""
    if not wait or not redrive.tracker.undecided:
        return
    try:
        with progress("waiting for outcomes", redrive.tracker.undecided) as advance:
            redrive.wait_for_all(wait, advance)
    except KeyboardInterrupt:
        stderr.print("no longer waiting")
