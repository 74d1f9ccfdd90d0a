"""The operator's tool: see why letters are dead, mend, put back exactly what should be put back, leave a trace.

Data goes to stdout, talk to stderr. Exit status 0: done; 1: something failed or is left; 2: wrong use.
"""

import signal
import sys
import traceback
from io import TextIOWrapper
from typing import Any

import click

from handlers.core.errors import JoinguardError
from handlers.core.evidence.audit import advice
from handlers.operate.acting import redrive
from handlers.operate.dropping import drop, restore
from handlers.operate.looking import list_letters, show_letter
from handlers.operate.mending import edit, enforce
from handlers.operate.outcomes import outcome_of, outcomes_of_many
from handlers.operate.terminal import Group, cleaned, talk
from handlers.operate.workbench import OperateError, open_workbench


class Commands(Group):
    """Commands whose failures are one clear line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; say what went wrong and what to do next, and no traceback."""
        try:
            return super().invoke(ctx)
        except OperateError as error:
            raise cleaned(click.ClickException(str(error))) from error
        except JoinguardError as error:
            raise cleaned(click.ClickException(f"{str(error).rstrip('.')}. {advice(error.fault.code)}")) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--stack", default="joinguard", show_default=True, help="The installation's stack.")
@click.option("--profile", help="One of your AWS profiles.")
@click.option("--region", help="The stack's Region.")
@click.option(
    "--poll",
    type=click.IntRange(0, 20),
    default=1,
    show_default=True,
    help="Seconds that SQS may take to look for letters on all its servers.",
)
@click.pass_context
def cli(ctx: click.Context, stack: str, profile: str | None, region: str | None, poll: int) -> None:
    """See why accounts have not got their policies, and put right what can be put right.

    Start with `list`. Nothing is changed without --confirm and --reason, and what is changed goes on record.
    """
    # Whoever runs this in their own process may bring an installation along.
    ctx.obj = ctx.obj or (lambda: open_workbench(stack, profile, region, poll))


for command in (list_letters, show_letter, redrive, drop, restore, edit, outcome_of, outcomes_of_many, enforce):
    cli.add_command(command)


def main() -> None:
    """Run the command line: the console script `joinguard`, and `python -m handlers.operate`."""
    # A terminal that goes away and a polite end are interrupts: letters in hand are given back.
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.default_int_handler)
    # A defect of ours may tell what others wrote.
    sys.excepthook = lambda *error: talk.print("".join(traceback.format_exception(*error)))
    # What a terminal cannot show does not keep it from showing the rest.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    cli(prog_name="joinguard")


if __name__ == "__main__":
    main()
