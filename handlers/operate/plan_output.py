"""A plan as a table for people, as JSON, and as Markdown for a pull request.

Account ids are shown only on request: plans end up in logs and pull requests that others read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from handlers.core.guardrails.names import paths
from handlers.core.guardrails.ports import ReadOu
from handlers.core.plurals import count
from handlers.operate.hints import as_typed
from handlers.operate.output import plain, print_json, stderr, stdout
from handlers.operate.tables import Cell, duration, lines, print_table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from handlers.core.guardrails.plan import ExceptionPlan, Plan, PolicyPlan
    from handlers.operate.guardrails_document import Mistake
    from schemas.guardrails import Lock
    from schemas.ids import AccountId
    from schemas.snapshot import Snapshot

#: How many characters of a SHA-256 people see.
_SHORT: Final = 12
#: The facts in the words of the document.
_KEYS: Final = {"ous": "ou", "email": "email_domain"}


class Format(StrEnum):
    """How a plan is printed."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


@dataclass(frozen=True)
class Labels:
    """What people call policies and OUs."""

    policies: Mapping[str, str]
    ous: Mapping[str, str]
    #: The accounts of the organization.
    accounts: frozenset[AccountId] = frozenset()

    @classmethod
    def of(cls, lock: Lock, snapshot: Snapshot) -> Labels:
        """Take the names from the document and the organization."""
        names = {each.id: each.name for each in snapshot.policies} | {each.id: each.policy for each in lock.policies}
        named, unnamed = paths(snapshot.root, (ReadOu(each.id, each.parent, each.name) for each in snapshot.ous))
        accounts = frozenset(each.id for each in snapshot.accounts)
        return cls(names, {ou: path for path, ou in named.items()} | dict(unnamed), accounts)

    def policy(self, policy_id: str) -> str:
        """Return the name of a policy."""
        return self.policies.get(policy_id, policy_id)


@dataclass(frozen=True)
class Report:
    """A plan with what the document's reader has to say."""

    plan: Plan
    labels: Labels
    #: What has to be corrected.
    problems: tuple[Mistake, ...]
    notes: tuple[Mistake, ...]
    #: Whether the stage removes policies; None if that is not known.
    removes: bool | None = None
    #: Whether all policies of the accounts that get one were read.
    reads_places: bool = False

    @property
    def needs_approval(self) -> bool:
        """Whether a stage that removes policies is deployed only with the approval of this plan."""
        return self.plan.exceeds_limit and self.removes is not False


def print_report(report: Report, form: Format, *, reveals: bool) -> None:
    """Print a plan."""
    if form is Format.JSON:
        print_json(report_fields(report, reveals=reveals))
    elif form is Format.MARKDOWN:
        stdout.print("\n".join(_markdown(report, reveals=reveals)), soft_wrap=True)
    else:
        _print_tables(report, reveals=reveals)


def report_fields(report: Report, *, reveals: bool) -> dict[str, Any]:
    """Return a plan for programs; lists of accounts are counts unless they are revealed."""
    plan, labels = report.plan, report.labels

    def shown(accounts: Collection[AccountId]) -> list[AccountId] | int:
        return sorted(accounts) if reveals else len(accounts)

    return {
        "organization": plan.organization_id,
        "before": plan.before,
        "after": plan.after,
        "digest": plan.digest,
        "read_at": plan.read_at.isoformat(),
        "accounts": plan.accounts,
        "only_observed": plan.only_observed,
        "left_out": dict(plan.left_out),
        "attachments": plan.attachments,
        "removals": plan.removals,
        "max_removals": plan.max_removals,
        "removes": report.removes,
        "needs_approval": report.needs_approval,
        "is_decided": plan.is_decided,
        "seconds": round(plan.duration.total_seconds()),
        "policies": [
            {
                "policy": labels.policy(each.id),
                "id": each.id,
                "type": each.type,
                "in_guardrails": each.in_guardrails,
                "is_read": each.is_read,
                "required": each.required,
                "carry": len(each.carry),
                "get": shown(each.get),
                "missing_today": shown(each.missing_today),
                "lose": shown(each.lose),
                "stay": shown(each.stay),
                "would_get": shown(each.would_get),
                "would_lose": shown(each.would_lose),
                "no_place": shown(each.no_place),
                "undecided": shown(each.undecided),
                "needs": sorted(frozenset().union(*each.undecided.values())),
                "inherit": shown(each.inherit),
                "ou_hints": [
                    {"ou": hint.ou, "path": labels.ous.get(hint.ou, hint.ou), "accounts": hint.accounts}
                    for hint in each.hints
                ],
            }
            for each in plan.policies
        ],
        "rules": [each._asdict() for each in plan.rules],
        "exceptions": [
            {
                "id": each.exception.id,
                "state": each.state,
                "expires": each.exception.expires.isoformat(),
                "accounts": shown(each.exception.accounts),
                "waives": each.waives,
                "returns": each.returns,
                "elsewhere": shown(each.elsewhere),
            }
            for each in plan.exceptions
        ],
        "types_in_full": sorted(plan.types_in_full),
        "unread": [each.model_dump(exclude_none=True) for each in plan.unread],
        "problems": [each._asdict() for each in report.problems],
        "notes": [each._asdict() for each in report.notes],
    }


def _print_tables(report: Report, *, reveals: bool) -> None:
    plan = report.plan
    rows: list[list[Cell]] = [
        [report.labels.policy(each.id), lines(_said(each), *_also(report, each))] for each in plan.policies
    ]
    # Two columns fit a narrow terminal.
    print_table(f"Plan {plan.digest[:_SHORT]}", ["Policy", "Accounts"], rows)
    columns, plain_rows = _rule_rows(plan)
    print_table("Rules", columns, plain_rows)
    if plan.exceptions:
        columns, plain_rows = _exception_rows(plan.exceptions, report.labels)
        print_table("Exceptions", columns, plain_rows)
    for line in (*_remarks(report), *(_revealed(report) if reveals else ())):
        stdout.print(plain(line), soft_wrap=True)
    for each in report.notes:
        stderr.print(str(each), style="yellow")
    for each in report.problems:
        stderr.print(str(each), style="red")
    stderr.print(summary(plan))


def _markdown(report: Report, *, reveals: bool) -> Iterator[str]:
    plan = report.plan
    yield f"### Guardrails plan `{plan.digest[:_SHORT]}`"
    yield ""
    yield summary(plan)
    columns, rows = _policy_rows(report)
    yield from _table(columns, rows)
    columns, plain_rows = _rule_rows(plan)
    yield from _table(columns, plain_rows)
    if plan.exceptions:
        columns, plain_rows = _exception_rows(plan.exceptions, report.labels)
        yield from _table(columns, plain_rows)
    remarks = [*_remarks(report), *map(str, (*report.notes, *report.problems))]
    yield from ("", *(f"- {_escaped(each)}" for each in remarks))
    if reveals:
        yield from ("", "<details><summary>Accounts</summary>", "")
        yield from (f"- {_escaped(each)}" for each in _revealed(report))
        yield from ("", "</details>")
    yield from ("", f"Digest `{plan.digest}`, guardrails `{plan.after}`")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield ""
    yield f"| {' | '.join(columns)} |"
    yield f"| {' | '.join('---' for _ in columns)} |"
    for row in rows:
        yield f"| {' | '.join(map(_escaped, row))} |"


def _escaped(text: str) -> str:
    r"""Return a text that Markdown shows as it is: names in the organization are others' texts."""
    for each in "\\`*_[]<>|#@":
        text = text.replace(each, f"\\{each}" if each != "<" else "&lt;")
    return text.replace("\n", "<br>")


def _policy_rows(report: Report) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            report.labels.policy(each.id),
            *(_number(number) if each.is_read else "unknown" for number in _counts(each)),
            "\n".join(_also(report, each)),
        ]
        for each in report.plan.policies
    ]
    return ["Policy", "Carry", "Get", "Lose", "No place", "Also"], rows


def _counts(policy: PolicyPlan) -> list[int]:
    return [len(each) for each in (policy.carry, policy.get, policy.lose, policy.no_place)]


def _said(policy: PolicyPlan) -> str:
    """Return the counts in words."""
    if not policy.is_read:
        return "unknown: the accounts that it is attached to could not be read"
    words = ("carry it", "get it", "lose it", "have no place for it")
    said = [f"{number:,} {what}" for number, what in zip(_counts(policy), words, strict=True) if number]
    return ", ".join(said) or ("no change" if policy.required else "none must carry it")


def _number(number: int) -> str:
    return f"{number:,}" if number else "-"


def _also(report: Report, policy: PolicyPlan) -> Iterator[str]:
    if not policy.in_guardrails:
        yield "no longer in the document"
    if policy.missing_today:
        yield f"{len(policy.missing_today):,} of those that get it should have it already"
    if policy.stay:
        yield f"stays on {count(len(policy.stay), 'account')} that need it no longer"
    yield from _observed(policy)
    if policy.undecided:
        keys = ", ".join(sorted(_KEYS.get(key, key) for key in frozenset().union(*policy.undecided.values())))
        yield f"undecided for {count(len(policy.undecided), 'account')}: {keys} could not be read"
    yield from _gives_way(report, policy)
    if policy.inherit:
        yield f"{count(len(policy.inherit), 'account')} inherit it too"
    for hint in policy.hints[:3]:
        yield f"attaching it to {report.labels.ous.get(hint.ou, hint.ou)} would do the same for {hint.accounts:,}"
    if len(policy.hints) > 3:  # noqa: PLR2004 - as above
        yield f"and to {len(policy.hints) - 3} more OUs"


def _observed(policy: PolicyPlan) -> Iterator[str]:
    for accounts, what in ((policy.would_get, "get"), (policy.would_lose, "lose")):
        if accounts:
            yield f"only observed, and would otherwise {what} it: {count(len(accounts), 'account')}"


def _gives_way(report: Report, policy: PolicyPlan) -> Iterator[str]:
    if not policy.no_place:
        return
    held = sorted({report.labels.policy(each) for refused in policy.no_place.values() for each in refused.held_by})
    foreign = max(each.foreign for each in policy.no_place.values())
    if held:
        yield f"detach or merge {', '.join(held)} to make place"
    yield f"up to {foreign} of the places are held by policies that are not in the document"


def _rule_rows(plan: Plan) -> tuple[list[str], list[list[str]]]:
    rows = [[each.id, _number(each.selects), _number(each.undecided)] for each in plan.rules]
    return ["Rule", "Accounts", "Undecided"], rows


def _exception_rows(exceptions: Sequence[ExceptionPlan], labels: Labels) -> tuple[list[str], list[list[str]]]:
    rows = [[each.exception.id, str(each.exception.expires), "; ".join(_effects(each, labels))] for each in exceptions]
    return ["Exception", "Last day", "Effect"], rows


def _effects(planned: ExceptionPlan, labels: Labels) -> Iterator[str]:
    yield planned.state
    if planned.state in {"in force", "ends soon"}:
        yield f"takes away {count(planned.waives, 'attachment')}" if planned.waives else "takes nothing away"
    if planned.returns:
        yield f"not undone yet: {count(planned.returns, 'attachment')} to come back"
    elif planned.state == "over":
        yield "take it out"
    left_out = labels.accounts.intersection(planned.elsewhere)
    if absent := len(planned.elsewhere) - len(left_out):
        yield f"{count(absent, 'account')} not in the organization"
    if left_out:
        yield f"{count(len(left_out), 'account')} left out"


def _of_removals(report: Report) -> Iterator[str]:
    plan = report.plan
    if not plan.removals:
        return
    if report.removes is False:
        yield ('Nothing is removed, because RemovePolicies of the stage is not "true": the policies stay attached.')
    else:
        condition = "" if report.removes else 'Only a stage with RemovePolicies "true" removes policies. '
        yield (
            f"{condition}Only what Joinguard's records say it attached is removed, never one of AWS's own policies or "
            "the last SCP of an account."
        )
    if not report.needs_approval:
        return
    yield f"The plan has at most {count(plan.removals, 'removal')}, more than limits.removals ({plan.max_removals:,})."
    if not plan.is_decided:
        yield "It cannot be approved, because not everything that decides could be read."
    elif report.reads_places:
        yield as_typed(
            "A deployment needs your approval, and plans without --places. The digest to approve is that of a plan "
            "without --places: `joinguard plan`."
        )
    else:
        yield as_typed(f"A deployment needs your approval of it: `make deploy ARGS='--approve {plan.digest}'`.")


def _remarks(report: Report) -> Iterator[str]:
    plan = report.plan
    if plan.before is None:
        yield "Compared with no guardrails in force."
    if plan.only_observed:
        yield f"Only observed (AttachTo): {count(plan.only_observed, 'account')}, which neither get nor lose a policy."
    if plan.left_out:
        states = ", ".join(f"{number:,} {state}" for state, number in plan.left_out.items())
        yield f"Left out: {states}."
    in_part = {each.type for each in plan.policies}.difference(plan.types_in_full)
    if in_part:
        kinds = ", ".join(sorted(in_part))
        if report.reads_places:
            yield f"Policies of {kinds} that the document does not name are counted where a policy is attached."
        else:
            yield (
                f"Policies of {kinds} that the document does not name are not counted, except one of AWS's own on each "
                "account. --places reads those of the accounts that get a policy."
            )
    for each in plan.unread:
        what = f"{each.part} of {report.labels.policy(each.policy)}" if each.policy else each.part
        yield f"Could not read: {what} ({each.code})."
    yield from _of_removals(report)
    if plan.attachments:
        yield as_typed(
            "A deployment attaches nothing by itself: an account gets these policies at its next event, in the next "
            "sweep if the stage's sweep enforces, or now with `joinguard enforce --from FILE`."
        )


def _revealed(report: Report) -> Iterator[str]:
    for each in report.plan.policies:
        lists = {
            "get": each.get,
            "lose": each.lose,
            "would get": each.would_get,
            "would lose": each.would_lose,
            "no place for": each.no_place,
            "undecided": each.undecided,
        }
        for what, accounts in lists.items():
            if accounts:
                yield f"{report.labels.policy(each.id)}, {what}: {', '.join(accounts)}"


def summary(plan: Plan) -> str:
    """Return in one sentence what a plan would do."""
    if plan.is_empty:
        known = "" if plan.is_decided else ", as far as could be read,"
        return f"Nothing to do{known} for {count(plan.accounts, 'account')}."
    parts = []
    if plan.attachments:
        pace = f"about {duration(plan.duration)} at {plan.attachments_per_second:g} a second"
        parts.append(f"{count(plan.attachments, 'attachment')} ({pace})")
    if plan.removals:
        limit = f"; limits.removals is {plan.max_removals:,}" if plan.exceeds_limit else ""
        parts.append(f"at most {count(plan.removals, 'removal')} (only of what Joinguard attached{limit})")
    return f"{count(plan.accounts, 'account')}: {', '.join(parts)}."
