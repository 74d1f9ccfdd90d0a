"""The sweep as operators see it: what is kept of it, and how it is begun and followed."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Thread
from typing import TYPE_CHECKING, Final, Protocol

from handlers.core.reconcile.sweep import Step
from schemas.sweep import SweepMode, SweepState

if TYPE_CHECKING:
    from handlers.operate.context import Context

#: Seconds between two looks at a sweep that runs.
_LOOK_EVERY: Final = 2.0


class SweepStates(Protocol):
    """What the sweep keeps between its invocations."""

    def read(self) -> SweepState | None:
        """Return the state; None if the sweep has never run. Raises RetryableError if it cannot be read."""


class SweepFunction(Protocol):
    """The function that sweeps."""

    def run(self) -> Step:
        """Begin a sweep, or go on with one, and return when the invocation ends: after 15 minutes at most.

        Raises RetryableError if it cannot be invoked, and PermanentError if it fails.
        """


@dataclass(frozen=True)
class InstalledSweep:
    """The sweep of an installation."""

    states: SweepStates
    function: SweepFunction
    mode: SweepMode
    #: From the beginning of one sweep to the beginning of the next.
    every: timedelta


def complete_sweep(
    context: "Context", sweep: InstalledSweep, show: Callable[[SweepState | None], None], *, until: datetime
) -> SweepState | None:
    """Begin a sweep, or follow the one that runs, until it is complete; return what is kept of it then.

    `show` is called with the state while it runs. Returns None if the sweep is not complete at a moment. Raises
    JoinguardError if the function fails.
    """

    def read() -> SweepState | None:
        return context.patiently(sweep.states.read)

    before = _last(read())
    while context.clock.now() < until:
        invocation = _in_a_thread(sweep.function.run)
        while not invocation.done():
            show(read())
            wait([invocation], _LOOK_EVERY)
            if context.clock.now() >= until and not invocation.done():
                return None
        step, state = invocation.result(), read()
        # Another invocation may have completed the sweep.
        if step is Step.COMPLETE or _last(state) != before:
            return state
        show(state)
        context.clock.sleep(_LOOK_EVERY)
    return None


def _last(state: SweepState | None) -> str | None:
    return state.last.sweep_id if state and state.last else None


def _in_a_thread(call: Callable[[], Step]) -> Future[Step]:
    """Make a call in a thread, for which an interrupt does not wait."""
    future = Future[Step]()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again where the result is needed
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future
