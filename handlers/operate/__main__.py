"""The operators' tool: find out why messages failed, correct it, redrive exactly what should be redriven, on record.

Data goes to stdout, everything else to stderr. Exit status 0: done; 1: something failed or is left; 2: wrong use.
"""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import Any, Final

import click

from handlers.core.errors import JoinguardError
from handlers.core.redrive.selection import AmbiguousIdError
from handlers.operate.advice import next_step_after
from handlers.operate.commands.actions import actions
from handlers.operate.commands.backups import backups
from handlers.operate.commands.close import close
from handlers.operate.commands.coverage import coverage
from handlers.operate.commands.drop import drop
from handlers.operate.commands.edit import edit
from handlers.operate.commands.enforce import enforce
from handlers.operate.commands.evidence import evidence
from handlers.operate.commands.explain import explain
from handlers.operate.commands.export import export
from handlers.operate.commands.list import list_messages
from handlers.operate.commands.lock import lock
from handlers.operate.commands.outcome import outcome
from handlers.operate.commands.outcomes import outcomes
from handlers.operate.commands.pause import pause
from handlers.operate.commands.pauses import pauses
from handlers.operate.commands.plan import plan
from handlers.operate.commands.proof import proof
from handlers.operate.commands.pseudonym import pseudonym
from handlers.operate.commands.redrive import redrive
from handlers.operate.commands.rehearse import rehearse
from handlers.operate.commands.resolve import resolve
from handlers.operate.commands.restore import restore
from handlers.operate.commands.resume import resume
from handlers.operate.commands.show import show
from handlers.operate.commands.snapshot import snapshot
from handlers.operate.commands.sweep import sweep
from handlers.operate.commands.verify import verify
from handlers.operate.context import Context, OrganizationContext
from handlers.operate.errors import INTERRUPTED, OperateError
from handlers.operate.hints import as_typed
from handlers.operate.output import Group, clean, cleaned, stderr

#: What writing to a full, closed or lost stdout ends with.
_OUTPUT_ERRORS: Final = frozenset({errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EPIPE})


class Commands(Group):
    """Commands that report a failure as one line with the next step, and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; report its failure without a traceback."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            stderr.print("interrupted")
            raise click.exceptions.Exit(INTERRUPTED) from None
        except (OperateError, AmbiguousIdError) as error:
            raise cleaned(click.ClickException(as_typed(str(error)))) from error
        except JoinguardError as error:
            message = f"{str(error).rstrip('.')}. {next_step_after(error)}"
            raise cleaned(click.ClickException(as_typed(message))) from error


@dataclass(frozen=True)
class _Connection:
    """The options that say which installation, with which credentials. Nothing is called before a command needs it."""

    stack: str
    profile: str | None
    region: str | None
    poll: int

    def __call__(self) -> Context:
        """Find the installation; raise OperateError if credentials, Region or stack are wrong."""
        # boto3 takes longer to import than everything else, and help does not need it.
        from handlers.operate.installation import open_context  # noqa: PLC0415 - see above

        return open_context(self.stack, self.profile, self.region, self.poll)

    def organization(self) -> OrganizationContext:
        """Reach the organization, for commands that need no installation; raise OperateError as above."""
        from handlers.operate.installation import open_organization  # noqa: PLC0415 - see above

        return open_organization(self.profile, self.region)

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.now(UTC)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="joinguard")
@click.option("--stack", default="joinguard", show_default=True, help="The CloudFormation stack of the installation.")
@click.option("--profile", help="A profile of your AWS configuration.")
@click.option("--region", help="The Region of the stack.")
@click.option(
    "--poll",
    type=click.IntRange(0, 20),
    default=1,
    show_default=True,
    help="Wait time of the last receive, in seconds. A long poll asks all of SQS's servers.",
)
@click.pass_context
def cli(ctx: click.Context, stack: str, profile: str | None, region: str | None, poll: int) -> None:
    """Find out why accounts do not carry their policies, and correct it.

    Start with `list`. Commands change nothing without --confirm and --reason, and every change is on record.
    """
    # Another program, such as a test, can bring a context of its own.
    ctx.obj = ctx.obj or _Connection(stack, profile, region, poll)


for command in (
    list_messages,
    show,
    redrive,
    drop,
    restore,
    edit,
    outcome,
    outcomes,
    coverage,
    enforce,
    sweep,
    close,
    rehearse,
    pause,
    resume,
    pauses,
    actions,
    backups,
    export,
    pseudonym,
    resolve,
    evidence,
    lock,
    plan,
    snapshot,
    explain,
    verify,
    proof,
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the console script `joinguard`, or `python -m handlers.operate`; the arguments are those of the process."""
    # SIGTERM and a closed terminal interrupt the command, which then releases its messages.
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.default_int_handler)
    # A traceback can repeat texts of others, which must not control the terminal.
    sys.excepthook = lambda *error: stderr.print("".join(traceback.format_exception(*error)))
    # A character that the terminal's encoding lacks must not end the output.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        _write_all(lambda: cli(arguments, prog_name="joinguard"))
    except OSError as error:
        # Python would write the rest again at its end, and report that as a traceback.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(f"Error: {_what(error)}")


def _what(error: OSError) -> str:
    if error.filename:
        return clean(f"{error.filename}: {error.strerror}")
    return f"cannot write to stdout: {error.strerror}" if error.errno in _OUTPUT_ERRORS else clean(str(error))


def _write_all(run: Callable[[], None]) -> None:
    """Run a command; raise OSError if stdout does not take all of its output."""
    # Python has no stdout if its file descriptor is closed.
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    try:
        run()
    finally:
        sys.stdout.flush()


if __name__ == "__main__":
    main()
