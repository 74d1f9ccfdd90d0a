"""The guardrails document of an installation, and the lock file beside it."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from handlers.core.guardrails.lock import check_lock
from handlers.operate.errors import OperateError
from handlers.operate.files import read_file
from handlers.operate.guardrails_document import GuardrailsError, Loaded, Mistake, shown
from schemas.guardrails import Lock

if TYPE_CHECKING:
    from handlers.core.guardrails.compile import Organization

_ANEW: Final = "delete it and run `joinguard lock`"


def default_document(stack: str) -> pathlib.Path:
    """Return the document of a stage, by its stack: `joinguard` is stage prod, `joinguard-test` is stage test."""
    stage = "prod" if stack == "joinguard" else stack.removeprefix("joinguard-")
    return pathlib.Path("infra", "guardrails", f"{stage}.yaml")


def lock_path(document: pathlib.Path) -> pathlib.Path:
    """Return the path of a document's lock file."""
    return document.with_suffix(".lock.json")


def read_lock(path: pathlib.Path) -> Lock | None:
    """Read a lock file; return None if there is none. Raises OperateError if it is not one."""
    try:
        return Lock.model_validate_json(read_file(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OperateError(f"cannot read the lock file {shown(path)}: {error.strerror}; {_ANEW}") from error
    except ValidationError as error:
        raise OperateError(f"{shown(path)} is not a lock file; {_ANEW}") from error


def rendered(lock: Lock) -> str:
    """Return the text of a lock file: with line breaks, since people review it."""
    return lock.model_dump_json(indent=2) + "\n"


def confirmed_lock(loaded: Loaded, path: pathlib.Path, organization: Organization) -> Lock:
    """Return a document's lock if its lock file is as the organization is now, for a deployment.

    Raises GuardrailsError that names every difference, every name that is not found, and every example that fails.
    """
    check = check_lock(loaded.document, read_lock(path), organization)
    if check.lock and not check.problems and not check.changes:
        return check.lock
    mistakes = [loaded.source.mistake(each) for each in (*check.problems, *check.changes)]
    if check.changes:
        next_step = "the lock file is stale; run `joinguard lock`, review what changed, commit it"
        mistakes.append(Mistake(shown(path), 1, "", next_step))
    raise GuardrailsError(mistakes)
