"""Run a redrive with its progress on the screen, and keep its results for the audit record."""

from collections.abc import Sequence
from datetime import timedelta

from handlers.core.evidence.audit import AuditedAction
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.reasons import Explanation
from handlers.core.redrive.redrive import Redrive
from handlers.operate.advice import sentence
from handlers.operate.output import stderr
from handlers.operate.progress import progress


def notify(explanation: Explanation) -> None:
    """Print why a redrive waits."""
    stderr.print(sentence(explanation))


def run(engine: Redrive, dead_letters: Sequence[DeadLetter], audited: AuditedAction, wait: timedelta) -> None:
    """Send messages, then wait until they are decided."""
    try:
        with progress("redriving", len(dead_letters)) as advance:
            engine.run(dead_letters, advance)
        engine.in_flight.release_all_but(())
        if not engine.stopped:
            _wait(engine, wait)
    except KeyboardInterrupt:
        stderr.print(f"interrupted: {engine.sent:,} sent; the others stay in their queues. Run the command again")
        raise
    finally:
        audited.results, audited.result_of = engine.results, engine.final_results
        audited.ended = "stopped" if engine.stopped else "completed"


def _wait(engine: Redrive, wait: timedelta) -> None:
    """Wait until the sent messages are decided; an interrupt ends the waiting and not the command."""
    if not wait or not engine.tracker.undecided:
        return
    try:
        with progress("deciding", engine.tracker.undecided) as advance:
            engine.wait_for_all(wait, advance)
    except KeyboardInterrupt:
        stderr.print("no longer waiting")
