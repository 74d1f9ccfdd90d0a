"""`make local`: the whole pipeline on loopback, until SIGINT or SIGTERM."""

import signal
import sys
from typing import Final

from infra.deploy.build import BuildError
from infra.deploy.stack import DeployError
from infra.local.complete import NOT_CHECKED, IncompleteError
from infra.local.installation import build_local, install
from infra.local.standin import StandInError, running

#: What can keep the embedded AWS from coming up; each says what to do.
TROUBLES: Final = (BuildError, DeployError, IncompleteError, StandInError)


def stop_cleanly() -> None:
    """End by SystemExit on the first SIGINT or SIGTERM, so that everything started is stopped too."""

    def stop(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        sys.exit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def tell(text: str) -> None:
    """Talk on stderr; stdout is for the one line of JSON."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a command talks to people


def main() -> int:
    """Start, print where everything is, stay up; exit status 1 where it did not come or stay up."""
    stop_cleanly()
    try:
        package = build_local()
        tell(f"built {package.name}")
        with running() as aws:
            installation = install(aws, package=package, told=tell)
            tell("what this cannot show:")
            for each in NOT_CHECKED:
                tell(f"  - {each}")
            tell("up; put join events on queue_url; stop with Ctrl-C")
            print(installation.line(), flush=True)  # noqa: T201 - the product of this command
            aws.wait()
    except TROUBLES as error:
        tell(f"error: {error}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
