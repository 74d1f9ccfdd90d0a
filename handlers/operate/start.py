"""Start the console script: an interrupt while the tool loads ends it without a traceback."""

import sys

from handlers.operate.errors import INTERRUPTED


def main() -> None:
    """Load the tool and run it; exit with status 130 after an interrupt."""
    try:
        # Loading takes so long that somebody can interrupt it.
        from handlers.operate.__main__ import main as run  # noqa: PLC0415 - see above

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
