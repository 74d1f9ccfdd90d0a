"""The machine's clock, and an alarm that rings before an invocation ends."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NoReturn


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class TimeIsUpError(BaseException):
    """The time is over. No Exception, so that nothing takes it for a call that failed and goes on."""


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Raise TimeIsUpError in the block when the time is over, also in a call that waits for an answer.

    Python delivers signals to the main thread, which is where Lambda calls the function; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: object) -> NoReturn:
        raise TimeIsUpError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
