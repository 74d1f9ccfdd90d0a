"""Run the operators' tool on a stage: `python -m infra.deploy.operate STAGE COMMAND …`.

The stage file names the stack and its Region, so that one word chooses the installation for all Make targets.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from handlers.operate.__main__ import cli, main
from handlers.operate.hints import run_by_make
from handlers.operate.output import hint
from infra.deploy import stage_parameters
from infra.deploy.installing import TEMPLATE
from infra.deploy.stack import DeployError
from infra.deploy.stages import document_of, load_stage
from infra.deploy.template import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.deploy.stages import Stage

_SCOPE: Final = ("--attach-to",)
_REMOVAL: Final = ("--removes", "--keeps")
_PLACES: Final = ("--places",)
_HELP: Final = frozenset({"-h", "--help"})


def operate(stage_name: str, *arguments: str) -> None:
    """Run a command of the operators' tool on a stage; exit with status 1 if there is no such stage."""
    try:
        stage = load_stage(stage_name)
        run_by_make(stage_name)
        given = with_document(stage, as_deployed(stage, arguments))
    except DeployError as error:
        sys.exit(f"Error: {error}")
    main(["--stack", stage.stack, "--region", stage.region, *given])


def as_deployed(stage: Stage, arguments: Sequence[str]) -> list[str]:
    """Return the arguments, for `plan` with what the stage's next deployment plans with; say so.

    Raises DeployError if a parameter of the stage is not valid: the deployment would be refused.
    """
    if arguments[:1] != ("plan",) or _HELP.intersection(arguments):
        return [*arguments]
    stage_parameters.refuse(stage, load(TEMPLATE.read_text()))
    options = [] if _names(arguments, _SCOPE) else [f"--attach-to={stage.parameters.get('AttachTo', 'all')}"]
    options += [] if _names(arguments, _REMOVAL) else ["--removes" if stage.removes else "--keeps"]
    if _names(arguments, (*_SCOPE, *_REMOVAL)):
        hint("AttachTo or RemovePolicies is an option here, so `make deploy` can make another plan")
    elif _names(arguments, _PLACES):
        hint(
            f"the plan takes AttachTo and RemovePolicies from the file of stage {stage.name}; `make deploy` plans "
            "without --places, so the digest of its plan can be another one"
        )
    else:
        hint(
            f"the plan takes AttachTo and RemovePolicies from the file of stage {stage.name}, as the next `make "
            "deploy` does"
        )
    return ["plan", *options, *arguments[1:]]


def with_document(stage: Stage, arguments: Sequence[str]) -> list[str]:
    """Return the arguments, for a command that takes a document with that of the stage, unless they name one.

    The document of a stage file in another folder is not the one that the tool takes by default.
    """
    command = cli.commands.get(arguments[0]) if arguments else None
    if stage.file is None or command is None or not _lacks_only_document(command, arguments[1:]):
        return [*arguments]
    return [*arguments, str(document_of(stage.file))]


def _lacks_only_document(command: click.Command, arguments: Sequence[str]) -> bool:
    """Whether the next argument of a command would be its document."""
    names = [each.name for each in command.params if isinstance(each, click.Argument) and each.name]
    if "document" not in names:
        return False
    try:
        found, _, _ = command.make_parser(click.Context(command)).parse_args([*arguments])
    except click.UsageError:
        # The command itself reports it.
        return False
    given = [each for each in names if isinstance(found.get(each), str)]
    return given == [each for each in names if each != "document"]


def _names(arguments: Sequence[str], options: Sequence[str]) -> bool:
    return any(each.partition("=")[0] in options for each in arguments)


if __name__ == "__main__":
    operate(*sys.argv[1:])
