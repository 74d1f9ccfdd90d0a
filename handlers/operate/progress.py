"""Progress of long work, on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.departed import with_departures
from handlers.core.redrive.in_flight import InFlight
from handlers.operate.context import Context
from handlers.operate.output import hint, plain, stderr
from handlers.operate.sweep_output import progress_of
from schemas.sweep import SweepState

_UPDATE_EVERY: Final = 500
#: Seconds between two lines of progress where there is no terminal.
_LINE_EVERY: Final = 10


def receive_all(in_flight: InFlight, what: str) -> Iterator[DeadLetter]:
    """Receive and yield all messages; report how many there are, and how many other processes have in flight."""
    lines = _Lines()
    lines.print(what)
    with stderr.status(what) as status:
        for number, each in enumerate(in_flight.receive_all(), 1):
            lines.print(f"{what}: {number:,} so far")
            if number % _UPDATE_EVERY == 0:
                status.update(f"{what}: {number:,} so far")
            yield each
    if in_flight.late:
        stderr.print(
            f"{in_flight.late:,} more arrived meanwhile and are left out; run the command again", style="yellow"
        )
    if in_flight.elsewhere:
        hint(f"{elsewhere(in_flight.elsewhere)}; `actions` shows who began what", "yellow")


def receive_marked(context: Context, in_flight: InFlight) -> Iterator[DeadLetter]:
    """Receive and yield all messages, as above, each with the time when its account left, if it did."""
    return with_departures(receive_all(in_flight, "receiving both queues"), context.outcomes, context.patiently)


def elsewhere(messages: int) -> str:
    """Return what it means that about this number of messages are in flight elsewhere."""
    number = "1 message is" if messages == 1 else f"{messages:,} messages are"
    return (
        f"about {number} in flight elsewhere (another operator, or a command that was killed) and visible again within "
        "15 minutes"
    )


@dataclass
class _Lines:
    """Lines of progress for a stderr that is not a terminal, where rich draws nothing before the end."""

    _printed_at: float | None = field(default=None, init=False)

    def print(self, line: str) -> None:
        """Print the first line at once, and later ones at intervals; on a terminal, print nothing."""
        now = monotonic()
        if not stderr.is_terminal and (self._printed_at is None or now - self._printed_at >= _LINE_EVERY):
            self._printed_at = now
            stderr.print(line)


@contextmanager
def reading() -> Iterator[Callable[[str, int], None]]:
    """Show what is being read; yields a function that takes the name of a part, and how much of it is read."""
    lines = _Lines()
    with stderr.status("reading the organization") as status:

        def show(part: str, number: int) -> None:
            line = f"reading {part}{f': {number:,} so far' if number else ''}"
            lines.print(line)
            status.update(plain(line))

        yield show


@contextmanager
def counting(doing: str) -> Iterator[Callable[[str, int], None]]:
    """Show what is being done; yields a function that takes the name of a part, and how much of it is done."""
    lines = _Lines()
    lines.print(doing)
    with stderr.status(doing) as status:

        def show(part: str, number: int) -> None:
            line = f"{doing} {part}: {number:,} so far"
            lines.print(line)
            status.update(plain(line))

        yield show


@contextmanager
def writing() -> Iterator[Callable[[str], None]]:
    """Show which file is being made; yields a function that takes its name."""
    lines = _Lines()
    with stderr.status("writing") as status:

        def show(name: str) -> None:
            lines.print(f"writing {name}")
            status.update(plain(f"writing {name}"))

        yield show


@contextmanager
def sweeping() -> Iterator[Callable[[SweepState | None], None]]:
    """Show how far a sweep is; yields a function that takes its state."""
    lines = _Lines()
    with stderr.status("sweeping") as status:

        def show(state: SweepState | None) -> None:
            line = f"sweeping: {progress_of(state.current)}" if state and state.current else "sweeping"
            lines.print(line)
            status.update(plain(line))

        yield show


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar; yields a function that advances it by a number of messages."""
    lines = _Lines()
    done = 0

    def advance(messages: int) -> None:
        nonlocal done
        done += messages
        bar.advance(task, messages)
        if done < total:
            lines.print(f"{what}: {done:,} of {total:,}")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr) as bar:
        task = bar.add_task(what, total=total)
        yield advance


@contextmanager
def move_progress() -> Iterator[Callable[[int, int | None], None]]:
    """Show the progress of SQS's own move; yields a function that takes the messages moved and to be moved."""
    with Progress(TextColumn("moving"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=stderr) as bar:
        task = bar.add_task("moving", total=None)
        yield lambda moved, total: bar.update(task, completed=moved, total=total)
