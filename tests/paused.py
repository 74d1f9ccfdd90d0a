"""Processes of a function that stop before each call until a test decides how the call ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from greenlet import greenlet

from handlers.core.errors import PermanentError, RetryableError, fault
from tests.fakes import FakeClock, Killed, Steps

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from handlers.core.joins.worker import Handled

T = TypeVar("T")

#: The calls that change what an account carries: if the answer is lost, it is not known whether they did.
CHANGES: Final = ("attach", "detach")


class Paused(Steps):
    """Every call waits until the scenario decides how it ends."""

    #: What a denied call raises.
    denial: type[PermanentError] = PermanentError

    def take(self, name: str, effect: Callable[[], T]) -> T:
        scenario = greenlet.getcurrent().parent
        # Calls outside a worker succeed.
        ending = scenario.switch(name) if scenario else "succeeds"
        if ending == "killed before":
            raise Killed
        if ending == "fails":
            raise RetryableError(fault("Cut", "no connection"), soon=True)
        if ending == "is denied" and name in {"read", *CHANGES}:
            raise self.denial(fault("AccessDeniedException", "not allowed"))
        result = effect()
        if ending == "killed after":
            raise Killed
        if ending == "loses its answer":
            raise RetryableError(fault("Cut", "no answer"), soon=True, ambiguous=name in CHANGES)
        return result


ENDINGS: Final = ("succeeds", "killed before", "killed after", "fails", "is denied", "loses its answer")
WEIGHTS: Final = (40, 2, 2, 2, 1, 3)


@dataclass
class SkewedClock:
    """A worker's own clock."""

    base: FakeClock
    skew: timedelta

    def now(self) -> datetime:
        return self.base.now() + self.skew

    def sleep(self, seconds: float) -> None:
        self.base.sleep(seconds)


@dataclass
class Process:
    """One process of a function; its greenlet runs while it handles a message."""

    running: greenlet | None = field(default=None, init=False)
    #: The call that it is about to make.
    at: str = field(default="", init=False)
    delivery: str = field(default="", init=False)

    def begin(self, work: Callable[[], Handled], delivery: str) -> None:
        """Handle a message until the first call."""
        self.delivery = delivery

        def until_killed() -> Handled | None:
            try:
                return work()
            except Killed:
                return None

        self.running = greenlet(until_killed)
        self.at = str(self.running.switch())

    def step(self, ending: str) -> Handled | None:
        """Let the next call end in this way; return the result if the process has finished and was not killed."""
        assert self.running
        result: Any = self.running.switch(ending)
        if not self.running.dead:
            self.at = str(result)
            return None
        self.running = None
        handled: Handled | None = result
        return handled
