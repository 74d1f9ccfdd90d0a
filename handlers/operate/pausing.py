"""Which accounts a pause is about, and how pauses look."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import click

from handlers.core.errors import JoinguardError
from handlers.core.reconcile.pause_records import PauseVerdict
from handlers.operate.errors import OperateError
from handlers.operate.hints import as_typed
from handlers.operate.progress import reading
from schemas.ids import OU_ID
from schemas.pause import ORGANIZATION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from handlers.core.guardrails.pauses import Paused
    from handlers.core.guardrails.ports import ReadOu
    from handlers.operate.context import Context, OrganizationContext
    from schemas.ids import AccountId, OuId
    from schemas.pause import Pause

#: What is said about a pause that the audit records do not confirm.
WARNINGS: Final[Mapping[PauseVerdict, str]] = {
    PauseVerdict.MISSING: "no audit record: an operator's action did not make it",
    PauseVerdict.DIFFERS: "not as its audit record says",
    PauseVerdict.ENDED: "ended on record, and in force again",
    PauseVerdict.NOT_COMPARED: "made with a key that does not exist any more, so its terms cannot be compared",
}


@dataclass(frozen=True)
class Concerned:
    """What a pause is about."""

    scope: str
    #: In words, as the operator gave it.
    named: str
    #: How many accounts there are in it today; None if that could not be read.
    accounts: int | None = None
    #: Why it could not be read.
    unknown: str = ""


def concerned(
    context: Context, organization: OrganizationContext, *, ou: str | None, account: AccountId | None
) -> Concerned:
    """Find out which accounts a pause of an OU, of an account, or of the whole organization is about.

    Raises UsageError or OperateError if there is no such OU or account.
    """
    if account:
        return _account(context, organization, account)
    with reading() as show:
        if ou and ou != "/" and not ou.startswith("r-"):
            return _ou(context, organization, ou, show)
        show("accounts", 0)
        management = context.requirements.management_account_id
        return _counted(
            Concerned(ORGANIZATION, "the whole organization"),
            lambda: len({each.id for each in organization.reader.accounts()} - {management}),
        )


def _account(context: Context, organization: OrganizationContext, account_id: AccountId) -> Concerned:
    if account_id == context.requirements.management_account_id:
        raise click.UsageError(
            f"--account: {account_id} is the management account, in which nothing is repaired. Use that of a member"
        )
    made = Concerned(account_id, f"account {account_id}", 1)
    try:
        found = organization.accounts.account(account_id)
    except JoinguardError as error:
        return replace(made, unknown=f"whether {account_id} is a member: {error.fault.code}")
    if found is None:
        raise OperateError(f"{account_id} is no member of the organization. Correct --account")
    return made


def _ou(context: Context, organization: OrganizationContext, ou: str, show: Callable[[str, int], None]) -> Concerned:
    reader, is_path = organization.reader, ou.startswith("/")
    if not is_path and not re.fullmatch(OU_ID, ou):
        raise click.UsageError(f"--ou: {ou!r} is neither the id of an OU (ou-…) nor a path (/A/B). Correct it")
    show("organizational units", 0)
    try:
        root = reader.root().id
        tree = tuple(reader.ous(root))
    except JoinguardError as error:
        if is_path:
            raise
        return Concerned(ou, f"OU {ou}", unknown=f"how many accounts are in {ou}: {error.fault.code}")
    ou_id, path = _found(ou, root, tree)
    below = {ou_id}
    for each in tree:
        if each.parent in below:
            below.add(each.id)

    def number() -> int:
        found: set[AccountId] = set()
        for each in sorted(below):
            found.update(reader.accounts_in(each))
            show("the accounts of OUs", len(found))
        return len(found - {context.requirements.management_account_id})

    return _counted(Concerned(ou_id, f"OU {path} ({ou_id}) and everything below it"), number)


def _found(ou: str, root: OuId, tree: Sequence[ReadOu]) -> tuple[OuId, str]:
    """Return the id and the path of an OU that is given by either; raise OperateError if there is none."""
    # The models of the document, which these modules import, take a while.
    from handlers.core.guardrails.compile import nearest  # noqa: PLC0415 - see above
    from handlers.core.guardrails.names import paths  # noqa: PLC0415 - see above

    named, unnamed = paths(root, tree)
    if ou in named:
        return named[ou], ou
    path_of = {found: path for path, found in named.items()} | unnamed
    if ou in path_of:
        return ou, path_of[ou]
    same = sorted(found for found, path in unnamed.items() if path == ou)
    step = f"; several OUs can have this path, use an id: {', '.join(same)}" if same else nearest(ou, named)
    raise OperateError(f"the organization has no OU {ou}{step or '; correct --ou'}")


def _counted(made: Concerned, number: Callable[[], int]) -> Concerned:
    try:
        return replace(made, accounts=number())
    except JoinguardError as error:
        return replace(made, unknown=f"how many accounts these are: {error.fault.code}")


def scope_of(pause: Pause, shown: Callable[[AccountId], str]) -> str:
    """Return the scope of a pause in words, with an account as it is shown."""
    if pause.scope == ORGANIZATION:
        return "the whole organization"
    return f"OU {pause.scope}" if pause.scope.startswith("ou-") else f"account {shown(pause.scope)}"


def moment(at: datetime) -> str:
    """Return a time as people read it."""
    return f"{at:%Y-%m-%d %H:%M}Z"


def why_paused(paused: Paused) -> str:
    """Return until when an account is paused, by whom, and whether that is certain."""
    if not paused.pauses:
        rows = ", ".join(paused.unreadable)
        return as_typed(f"paused, because rows of the pauses are not readable ({rows}); see `joinguard pauses`")
    last = max(paused.pauses, key=lambda each: each.until)
    word = "may be paused (its OUs could not be read)" if paused.is_undecided else "paused"
    return f"{word} until {moment(last.until)} by {last.owner}"
