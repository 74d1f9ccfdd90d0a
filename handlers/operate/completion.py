"""What the shell completes: codes, names of events, and the ids that commands displayed last.

Only a receive shows messages, and a call of AWS takes longer than a person waits after Tab. So commands keep the ids
that they display in a file.
"""

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeGuard

import click

from handlers.core.redaction import holds_account_id
from schemas.events import KNOWN_EVENT_NAMES
from schemas.keys import BACKUPS

#: The codes of dead letters.
CODES: Final = (
    "AWSOrganizationsNotInUseException",
    "AccessDeniedException",
    "CLAIMS_UNREADABLE",
    "ConstraintViolationException",
    "FACTS_UNKNOWN",
    "GUARDRAILS_CHANGED",
    "INVALID_EVENT",
    "InvalidInputException",
    "MANAGEMENT_ACCOUNT",
    "NO_PLACE",
    "OPEN_ATTEMPT",
    "PolicyNotFoundException",
    "PolicyTypeNotEnabledException",
    "REMOVALS_OFF",
    "REMOVAL_LIMIT",
    "RESTORES_HALTED",
    "RESTORES_STOPPED",
    "RETRIES_EXHAUSTED",
    "TargetNotFoundException",
    "UnsupportedAPIEndpointException",
    "WRONG_ORGANIZATION",
)
#: Ids of messages, ids of events, and keys of backups.
Kind = Literal["messages", "events", "backups"]
#: The number of ids of each kind, the latest first.
_MAX_IDS: Final = 500
#: More bytes than such a file has.
_MAX_BYTES: Final = 1_048_576
#: An id or a key, without characters that a shell interprets.
_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_./-]{0,199}")


@dataclass(frozen=True)
class Seen:
    """The ids that commands displayed for one stack, without account ids. A file that cannot be used is no error."""

    path: Path

    @classmethod
    def of(cls, stack: str) -> Self:
        """Return those of a stack, given by its name or ARN."""
        name = sha256(stack.encode(errors="surrogatepass")).hexdigest()[:16]
        return cls(cache_directory() / "joinguard" / f"{name}.json")

    def ids(self, *kinds: Kind) -> list[str]:
        """Return the ids of these kinds, the latest of each kind first."""
        known = self._read()
        return [each for kind in kinds for each in known.get(kind, [])]

    def add(self, kind: Kind, ids: Iterable[str], *, only: bool = False) -> None:
        """Keep ids that were displayed, in front of the earlier ones or as the only ones of their kind."""
        known = self._read()
        latest = dict.fromkeys([*filter(_is_id, ids), *([] if only else known.get(kind, []))])
        with suppress(OSError):
            self._write({**known, kind: list(latest)[:_MAX_IDS]})

    def _read(self) -> dict[str, list[str]]:
        try:
            with self.path.open("rb") as file:
                found: Any = json.loads(file.read(_MAX_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        lists = found.items() if isinstance(found, dict) else ()
        return {kind: list(filter(_is_id, ids)) for kind, ids in lists if isinstance(ids, list)}

    def _write(self, ids: dict[str, list[str]]) -> None:
        replace_file(self.path, json.dumps(ids))


def replace_file(path: Path, text: str) -> None:
    """Write a file that only its owner can read, in place of the one that is there; another command may read it now."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Temporary files have mode 0600.
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
            Path(file.name).replace(path)
        finally:
            Path(file.name).unlink(missing_ok=True)


def _is_id(value: object) -> TypeGuard[str]:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        return False
    # An event's id is a text of others. The digits in the key of a backup are those of a date and of a random id.
    return value.startswith(BACKUPS) or not holds_account_id(value)


def cache_directory() -> Path:
    """Return the user's cache directory (https://specifications.freedesktop.org/basedir-spec/latest/)."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given
    try:
        home = Path.home()
    except RuntimeError:
        # A user without a home directory: no file can be below this one.
        return Path(os.devnull)
    return home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"


def complete_code(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    """Return the codes that begin with what was typed."""
    return _beginning(incomplete, CODES)


def complete_id(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    """Return the displayed ids of messages and events that begin with what was typed."""
    return _beginning(incomplete, _seen(ctx).ids("messages", "events"))


def complete_event(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    """Return the known names and the displayed ids of events that begin with what was typed."""
    return _beginning(incomplete, [*sorted(KNOWN_EVENT_NAMES), *_seen(ctx).ids("events")])


def complete_backup(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    """Return the displayed keys of backups that begin with what was typed."""
    return _beginning(incomplete, _seen(ctx).ids("backups"))


def _beginning(incomplete: str, known: Iterable[str]) -> list[str]:
    return [each for each in known if each.startswith(incomplete)]


def _seen(ctx: click.Context) -> Seen:
    return Seen.of(ctx.find_root().params["stack"])
