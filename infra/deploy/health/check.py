"""The result of a check, and how errors of AWS become results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from botocore.exceptions import BotoCoreError, ClientError

from handlers.core.errors import JoinguardError
from infra.deploy.health.deployed import MissingError, UnresolvedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: How to restore a resource that somebody changed or deleted.
RESTORE: Final = "handlers/operate/RUNBOOK.md#differs-from-the-template"
_DENIED: Final = ("AccessDenied", "AuthorizationError", "Unauthorized", "Forbidden", "403")
_ABSENT: Final = ("NotFound", "NoSuch", "NonExistent", "DoesNotExist", "404")

#: Wrong: it differs from the template, or an operator has to act. Unknown: it could not be read.
State = Literal["ok", "wrong", "unknown"]


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    what: str
    found: str
    state: State
    #: What to do if it is not well.
    next_step: str = ""
    #: False for what nobody can read with these credentials by design, such as another account's trails, and for what
    #: an operator has decided, such as a pause of the whole organization.
    needs_operator: bool = True
    #: Whether people see it also if it is well.
    always_shown: bool = False

    @property
    def well(self) -> bool:
        """Whether it was read and is as it should be."""
        return self.state == "ok"

    @property
    def exit_status(self) -> int:
        """1 if an operator has to act, otherwise 0."""
        return int(not self.well and self.needs_operator)

    def fields(self) -> dict[str, Any]:
        """Return the fields of the JSON output."""
        return {
            "what": self.what,
            "found": self.found,
            "well": self.well,
            "next_step": "" if self.well else self.next_step,
            "state": self.state,
            "needs_operator": bool(self.exit_status),
        }


def compared(what: str, found: str, differences: Iterable[str], *, next_step: str = RESTORE) -> Check:
    """Return a check that is well if there are no differences."""
    listed = "; ".join(differences)
    return Check(what, listed or found, "wrong" if listed else "ok", next_step)


def attempt(what: str, check: Callable[[], Iterable[Check]]) -> list[Check]:
    """Run a check; return one result that names the reason if it cannot be completed."""
    found: list[Check] = []
    try:
        # Results that came before an error are kept.
        found.extend(check())
    except MissingError as error:
        found.append(Check(what, f"{error}", "wrong", RESTORE))
    except UnresolvedError as error:
        found.append(Check(what, f"cannot be compared: {error}", "unknown", "compare it with infra/template.yaml"))
    except ClientError as error:
        found.append(_failed(what, error))
    except JoinguardError as error:
        # The adapters, which operators' tool and workers use, too, translate AWS's errors.
        original = error.__cause__
        unread = Check(what, f"cannot be read: {error}", "unknown", "try again; check the network and the credentials")
        found.append(_failed(what, original) if isinstance(original, ClientError) else unread)
    except BotoCoreError as error:
        found.append(Check(what, f"cannot be read: {error}", "unknown", "check the network and the credentials"))
    return found


def _failed(what: str, error: ClientError) -> Check:
    code, operation = error.response["Error"]["Code"], error.operation_name
    if any(word in code for word in _DENIED):
        step = f"assume the stack's role OperatorReads, or get permission to call {operation}"
        return Check(what, f"cannot be read: {operation} is denied", "unknown", step)
    if any(word in code for word in _ABSENT):
        return Check(what, f"does not exist ({code})", "wrong", RESTORE)
    step = "try again; if it persists, check the health of the AWS service"
    return Check(what, f"cannot be read: {operation} failed with {code}", "unknown", step)
