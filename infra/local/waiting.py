"""Wait for conditions instead of fixed times, so that slow machines pass too."""

import time
from collections.abc import Callable
from typing import Final

#: Seconds after which a wait counts as hanging. Even slow machines need only a fraction of it.
HANGS_AFTER: Final = 900
_PAUSE: Final = 0.05


def until(condition: Callable[[], object], what: str, *, hangs_after: float = HANGS_AFTER) -> None:
    """Poll until the condition is true; raise TimeoutError naming what was waited for."""
    deadline = time.monotonic() + hangs_after
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {hangs_after} s for {what}, which did not happen")
        time.sleep(_PAUSE)
