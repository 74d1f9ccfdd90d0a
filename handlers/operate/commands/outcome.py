"""`outcome`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import click
from rich.text import Text

from handlers.core.errors import JoinguardError
from handlers.core.guardrails.reading import decide
from handlers.core.ports import UnreadableRow
from handlers.operate.context import Context
from handlers.operate.options import AccountIdType, as_json, with_context
from handlers.operate.outcome_tables import evidence_fields, evidence_text, outcome_fields, print_outcomes
from handlers.operate.output import Command, hint, print_json, stderr, stdout
from schemas.events import RemovalRequest
from schemas.ids import AccountId, PolicyId
from schemas.outcome import AttachmentResult, Outcome

_RUNBOOK: Final = "handlers/operate/RUNBOOK.md#evidence-differs"
#: Why another request keeps a policy again.
_KEPT_FOR_GOOD: Final = frozenset({"AWS_MANAGED", "NOT_OURS"})
#: Unreadable rows come last.
_LAST: Final = datetime.max.replace(tzinfo=UTC)


@click.command(
    cls=Command,
    examples=("joinguard outcome 111122223333",),
)
@click.argument("account_id", metavar="ACCOUNT", type=AccountIdType())
@as_json
@with_context
def outcome(context: Context, account_id: AccountId, *, as_json: bool) -> int:
    """Show what one account carries now, the outcomes of its events, and whether their evidence is there.

    Exit status 1 if a policy is missing, evidence is missing or different, or a row is unreadable.
    """
    found = list(context.outcomes.of_account(account_id))
    found.sort(key=lambda each: each.event_time if isinstance(each, Outcome) else _LAST)
    checked = {each.event_id: context.evidence_checker.of(each) for each in found if isinstance(each, Outcome)}
    context.seen.add("events", [each.event_id for each in found])
    wrong = sum(each.wrong for evidence in checked.values() for each in evidence)
    carried = _carried(context, account_id, _kept(found))
    attached, missing, verdict = carried.attached, carried.missing, carried.verdict
    acts = bool(missing) and context.requirements.scope.attaches_to(account_id)
    if as_json:
        events = outcome_fields(found)
        for event in events:
            event["evidence"] = [evidence_fields(each) for each in checked.get(event["event_id"], ())]
        account = {"account": account_id, "carries": attached, "missing": missing, "verdict": verdict}
        account["removable"] = carried.removable
        print_json(account | {"wrong_evidence": wrong, "events": events})
    else:
        stdout.print(Text.assemble(f"{account_id} ", (verdict, "red" if missing or attached is None else "green")))
        texts = {event_id: [evidence_text(each) for each in evidence] for event_id, evidence in checked.items()}
        if acts:
            hint(f"→ `enforce {account_id}` requests the missing policies")
        elif carried.may_be_removed and context.requirements.removes:
            hint(f"→ `enforce {account_id}` requests the removal of what Joinguard attached")
        print_outcomes(context, found, f"Events of {account_id}", texts)
        if wrong:
            stderr.print(f"{wrong:,} evidence objects are wrong; see {_RUNBOOK}", style="red")
    return 1 if acts or wrong or len(checked) < len(found) else 0


@dataclass(frozen=True)
class _Carried:
    """What an account carries, and what the guardrails say about it."""

    #: None if it is not known.
    attached: list[PolicyId] | None
    verdict: str
    missing: list[PolicyId] = field(default_factory=list)
    #: What it carries and does not need, and may lose.
    removable: list[PolicyId] = field(default_factory=list)
    #: Why the last request to remove them kept some of these, by code.
    kept: Mapping[PolicyId, str] = field(default_factory=dict)

    @property
    def may_be_removed(self) -> bool:
        """Whether another request may remove something."""
        return any(self.kept.get(each) not in _KEPT_FOR_GOOD for each in self.removable)


def _kept(found: Iterable[Outcome | UnreadableRow]) -> Mapping[PolicyId, str]:
    """Return what the last request to remove policies kept, and why, by code."""
    removals = [each for each in found if isinstance(each, Outcome) and each.event_name == RemovalRequest.__name__]
    last = max(removals, key=lambda each: each.updated_at, default=None)
    return {
        each.policy_id: each.fault.code
        for each in (last.policies if last else ())
        if each.result is AttachmentResult.KEPT and each.fault
    }


def _carried(context: Context, account_id: AccountId, kept: Mapping[PolicyId, str]) -> _Carried:
    guardrails, organizations = context.requirements.guardrails, context.organizations
    if account_id == context.requirements.management_account_id:
        return _Carried(None, "is the management account, which SCPs do not affect")
    try:
        if organizations.account(account_id) is None:
            return _Carried(None, "is not a member of the organization")
        attached = {each.id for each in organizations.attached_policies(account_id, guardrails.policy_types)}
        informed = decide(guardrails, account_id, context.clock.now(), organizations, lambda read: read())
    except JoinguardError as error:
        return _Carried(None, f"cannot read its policies ({error.fault.code}): {error.fault.message}")
    decision = informed.decision
    missing, removable = sorted(decision.missing(attached)), sorted(decision.removable(attached))
    verdict = f"lacks {', '.join(missing)}" if missing else "carries every required policy"
    if removable:
        listed = (f"{each} (kept: {kept[each]})" if each in kept else each for each in removable)
        verdict += f"; does not need {', '.join(listed)}"
    if undecided := sorted(set(decision.undecided) - attached):
        verdict += f"; it is not known whether it must carry {', '.join(undecided)}: {informed.error}"
    return _Carried(sorted(attached), verdict, missing, removable, kept)
