"""Run one of our modules as `python -m` does; an interrupt, also of its imports, ends it without a traceback."""

import runpy
import sys

from handlers.operate.errors import INTERRUPTED


def start(module: str, *arguments: str) -> None:
    """Run a module with these arguments; exit with status 130 after an interrupt."""
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    start(*sys.argv[1:])
