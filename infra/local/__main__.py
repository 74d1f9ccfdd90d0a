"""`make local`: the whole pipeline on loopback, until SIGINT, SIGTERM or SIGHUP."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from infra.deploy.sources import BuildError
from infra.deploy.stack import DeployError
from infra.local.complete import NOT_CHECKED, IncompleteError
from infra.local.environment import stand_alone
from infra.local.installation import Installation, build_local, install
from infra.local.organizations import Organizations, Rules, serving
from infra.local.standin import StandInError, running

#: What can keep the embedded AWS from coming up; each says what to do.
TROUBLES: Final = (BuildError, DeployError, IncompleteError, StandInError, TimeoutError)
_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop_cleanly() -> None:
    """End by SystemExit on the first SIGINT, SIGTERM or SIGHUP, so that everything started is stopped too."""

    def stop(*_: object) -> None:
        for number in _ENDS:
            signal.signal(number, signal.SIG_IGN)
        sys.exit(0)

    for number in _ENDS:
        signal.signal(number, stop)


def tell(text: str) -> None:
    """Talk on stderr; stdout is for the one line of JSON."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a command talks to people


def main() -> int:
    """Start, print where everything is, stay up; exit status 1 where it did not come or stay up."""
    stop_cleanly()
    # The only setting of AWS's that is taken from the user.
    elsewhere = os.environ.get("AWS_ENDPOINT_URL_ORGANIZATIONS")
    stand_alone()
    try:
        package = build_local()
        tell(f"built {package.name}")
        with rehearsed(os.environ.get("FAULTS")) as (double, feed), running(double or elsewhere) as aws:
            installation = install(aws, package=package, told=tell)
            feed(installation)
            tell("what this cannot show:")
            for each in NOT_CHECKED:
                tell(f"  - {each}")
            tell("up; put join events on queue_url; stop with Ctrl-C")
            print(installation.line(), flush=True)  # noqa: T201 - the product of this command
            aws.wait()
    except (*TROUBLES, ValueError) as error:
        tell(f"error: {error}")
    return 1


@contextmanager
def rehearsed(faults: str | None) -> Iterator[tuple[str | None, Callable[[Installation], None]]]:
    """Put the double of Organizations before the function where faults are asked for, as `faults=0.2,seed=7`.

    Yields the double's endpoint, and what tells the double of an installation's policies and accounts.
    """
    if not faults:
        yield None, lambda _: None
        return
    organizations = Organizations(Rules.parse(faults))

    def feed(installation: Installation) -> None:
        organizations.policies.update(installation.policy_ids)
        organizations.join(*installation.account_ids)
        tell(f"Organizations is a double with {organizations.rules}")

    with serving(organizations) as endpoint:
        yield endpoint, feed


if __name__ == "__main__":
    sys.exit(main())
