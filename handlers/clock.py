"""The system clock."""

import time
from datetime import UTC, datetime


class SystemClock:
    """The system clock, behind the port `Clock`."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
