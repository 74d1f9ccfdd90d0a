"""`make local`: run the whole pipeline on loopback until a signal, or until the terminal is closed."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from infra.deploy.sources import BuildError
from infra.deploy.stack import DeployError
from infra.local.complete import NOT_CHECKED, IncompleteError
from infra.local.environment import isolate_from_user
from infra.local.installation import RUNNING, Installation, build_local, install
from infra.local.organizations import Organizations, Rules, serving
from infra.local.standin import StandInError, running
from infra.local.terminal import TerminalWatch

#: Errors of starting and running the embedded AWS; each message says what to do.
START_ERRORS: Final = (BuildError, DeployError, IncompleteError, StandInError, TimeoutError)
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def exit_on_signals() -> None:
    """Raise SystemExit on the first SIGINT, SIGTERM or SIGHUP, so that everything that was started is stopped."""

    def stop(*_: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        sys.exit(0)

    for number in _SIGNALS:
        signal.signal(number, stop)


def log(text: str) -> None:
    """Print progress on stderr; stdout is for the line of JSON."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a command's progress


def main() -> int:
    """Start the pipeline, print the line of JSON, and keep running; return exit status 1 after an error."""
    exit_on_signals()
    # Before anything else, because a terminal that is already closed looks like a file.
    terminal = TerminalWatch()
    # The only AWS setting of the user that counts.
    endpoint = os.environ.get("AWS_ENDPOINT_URL_ORGANIZATIONS")
    isolate_from_user()
    state = RUNNING / f"{os.getpid()}.json"
    try:
        with fault_injection(os.environ.get("FAULTS")) as (double, register):
            package = build_local()
            log(f"built {package.name}")
            with running(double or endpoint) as aws:
                installation = install(aws, package=package, log=log)
                register(installation)
                log("a local run cannot show:")
                for each in NOT_CHECKED:
                    log(f"  - {each}")
                log("ready; send join events to queue_url; stop with Ctrl-C")
                print(installation.line(), flush=True)  # noqa: T201 - the command's output
                RUNNING.mkdir(parents=True, exist_ok=True)
                state.write_text(installation.line())
                while not terminal.is_closed():
                    aws.check()
                return 0
    except (*START_ERRORS, ValueError) as error:
        log(f"error: {error}")
    finally:
        state.unlink(missing_ok=True)
    return 1


@contextmanager
def fault_injection(faults: str | None) -> Iterator[tuple[str | None, Callable[[Installation], None]]]:
    """Run the double of Organizations within the block if there are rules for it, such as `faults=0.2,seed=7`.

    Yields the double's endpoint, or None without rules, and a function that registers an installation's policies and
    accounts with the double.
    """
    if not faults:
        yield None, lambda _: None
        return
    organizations = Organizations(Rules.parse(faults))

    def register(installation: Installation) -> None:
        organizations.policies.update(installation.policy_ids)
        organizations.join(*installation.account_ids)
        log(f"Organizations is a double with {organizations.rules}")

    with serving(organizations) as endpoint:
        yield endpoint, register


if __name__ == "__main__":
    sys.exit(main())
