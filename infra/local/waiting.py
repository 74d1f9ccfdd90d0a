"""Wait for the thing itself, however slow the machine is."""

import time
from collections.abc import Callable
from typing import Final

#: Seconds after which something hangs. The slowest machine needs a fraction of it, and nobody waits for it but in vain.
HANGS_AFTER: Final = 900
_PAUSE: Final = 0.05


def until(true: Callable[[], object], what: str) -> None:
    """Look until it is true; raise TimeoutError, saying what was waited for, where it hangs."""
    gives_up_at = time.monotonic() + HANGS_AFTER
    while not true():
        if time.monotonic() > gives_up_at:
            raise TimeoutError(f"waited {HANGS_AFTER} s in vain for this: {what}")
        time.sleep(_PAUSE)
