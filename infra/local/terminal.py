"""Notice that the terminal of a long-running command was closed.

The kernel sends SIGHUP only to the leader of the terminal's session, which can be a `make` that waits for this process.
"""

import os
import select
from typing import Final

_INTERVAL_MS: Final = 500


class TerminalWatch:
    """The terminal that this process was started on; none if its streams are files or pipes."""

    def __init__(self) -> None:
        self._poll = select.poll()
        for fd in filter(os.isatty, range(3)):
            # A closed terminal is reported without a request for any event.
            self._poll.register(fd, 0)

    def is_closed(self) -> bool:
        """Return whether the terminal is closed; wait for that, at most half a second."""
        return bool(self._poll.poll(_INTERVAL_MS))
