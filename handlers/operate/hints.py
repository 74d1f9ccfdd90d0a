"""Commands in hints, in the form in which the operator types them: `joinguard` or make."""

import os
import re
from collections.abc import MutableMapping
from typing import Final

#: Names the stage if make runs the tool. `infra.deploy.operate` sets it.
_STAGE: Final = "JOINGUARD_STAGE_OF_MAKE"
#: The Makefile's default.
_DEFAULT_STAGE: Final = "prod"
#: The tool's commands, and the Make targets whose names differ.
_NAMES: Final = (
    "actions|backups|close|coverage|drop|edit|enforce|evidence|explain|export|list|lock|outcome|outcomes|pause|pauses|"
    "plan|proof|pseudonym|redrive|rehearse|resolve|restore|resume|show|snapshot|sweep|verify"
)
_TARGETS: Final = {"list": "dlq"}
_COMMAND: Final = re.compile(rf"`(?:joinguard )?({_NAMES})(?: ([^`]*))?`")
_TARGET: Final = re.compile(r"`make ([a-z-]+)(?: ([^`]*))?`")


def run_by_make(stage: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Remember that make runs the tool, and on which stage."""
    environment[_STAGE] = stage


def as_typed(text: str, stage: str | None = None) -> str:
    """Return a text whose commands in backticks are in the form in which the operator types them.

    With a stage, that is make's form on that stage; without one, the form of the command that runs.
    """
    stage = stage or os.environ.get(_STAGE)
    if stage is None:
        return text
    where = "" if stage == _DEFAULT_STAGE else f" STAGE={_quoted(stage)}"

    def command(found: re.Match[str]) -> str:
        name, arguments = found.groups()
        options = f" ARGS={_quoted(arguments)}" if arguments else ""
        return f"`make {_TARGETS.get(name, name)}{where}{options}`"

    def target(found: re.Match[str]) -> str:
        name, rest = found.groups()
        return f"`make {name}{where}{f' {rest}' if rest else ''}`" if "STAGE=" not in (rest or "") else found[0]

    return _COMMAND.sub(command, _TARGET.sub(target, text))


def _quoted(arguments: str) -> str:
    if not re.search(r"[^\w./:=@-]", arguments):
        return arguments
    return f'"{arguments}"' if '"' not in arguments else f"'{arguments}'"
