"""Approve a plan that removes more policies than its guardrails allow in a day without approval.

An approval is of one plan: of these policies, these accounts and these guardrails. It continues while the guardrails,
RemovePolicies and AttachTo stay the same, ends with the next plan, and after a week.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from handlers.core.plurals import count
from infra.deploy.code import upload
from infra.deploy.stack import DeployError, find

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from handlers.operate.plan_output import Report
    from infra.deploy.stages import Stage, Target
    from schemas.plan import ApprovedPlan

_KEY: Final = "joinguard/plans/{}.json"
#: The parameters of the stack that name the approved plan, and the last day of the approval.
_PARAMETER: Final = "ApprovedPlanKey"
_UNTIL: Final = "ApprovedPlanUntil"
#: How long an approval holds: the removals that it is about take hours, and later ones are others.
_HOLDS: Final = timedelta(days=7)
#: How many characters of a digest are enough: `make plan` shows as many in its title.
_SHORTEST: Final = 12
_LONGEST: Final = 64


class Digest(click.ParamType[str]):
    """A plan's digest, or the beginning of it."""

    name = "digest"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the digest in lower case."""
        digest = str(value).lower()
        if not (_SHORTEST <= len(digest) <= _LONGEST and set(digest) <= set("0123456789abcdef")):
            self.fail(
                f"{value!r} is not the digest of a plan; take all its {_LONGEST} characters, or the first {_SHORTEST} "
                "or more, from `make plan` or `make deploy`",
                param,
                ctx,
            )
        return digest


def _last_day() -> str:
    return (datetime.now(UTC) + _HOLDS).date().isoformat()


@dataclass(frozen=True)
class Approval:
    """Which approval a deployment puts in force: that of its own plan, that of an earlier one, or none."""

    plan: ApprovedPlan | None = None
    #: The key of the plan that an earlier deployment approved.
    earlier: str = ""
    #: The last day of an approval of the plan: one day for the stack and for all texts, also across midnight.
    until: str = field(default_factory=_last_day, compare=False)

    def __str__(self) -> str:
        """Return what a deployment approves, in words; nothing if it approves no plan."""
        if not self.plan:
            return ""
        removals = sum(map(len, self.plan.remove.values()))
        return f"approved: plan {self.plan.sha256()[:_SHORTEST]}, {count(removals, 'removal')}, until {self.until}"


def put_in_force(change_set: Mapping[str, str]) -> str:
    """Return what a change set with these parameters approves, in words; nothing if it approves no plan."""
    key = change_set.get(_PARAMETER, "")
    if not key:
        return ""
    until = change_set.get(_UNTIL)
    return f"approved: plan {_shortened(key)}, {f'until {until}' if until else 'as before'}"


def refuse_without_removals(stage: Stage, digest: str | None) -> None:
    """Raise DeployError if a plan is approved for a stage that removes nothing."""
    if not digest:
        return
    if not stage.removes:
        raise DeployError(
            f"--approve approves removals, and stage {stage.name} removes nothing, because its RemovePolicies is not "
            '"true"; remove --approve, or set RemovePolicies'
        )
    if stage.document is None:
        raise DeployError(
            f"--approve approves removals, and stage {stage.name} has no guardrails document, without which nothing is "
            f"removed; remove --approve, or write guardrails/{stage.name}.yaml beside the folder of the stage's file"
        )


def approve(target: Target, report: Report | None, digest: str | None, note: Callable[[str], None]) -> Approval:
    """Return the approval that a deployment puts in force; the report is None if it needs no plan.

    Raises DeployError if the plan needs an approval that it does not have, or cannot have.
    """
    stage = target.stage
    stack = find(target.client("cloudformation"), stage.stack)
    earlier = stack.parameters.get(_PARAMETER, "") if stack else ""
    approval = Approval()
    if stage.removes and stage.document is not None:
        if report is None:
            return Approval(earlier=earlier)
        _check(stage, report, digest)
        approval = Approval(report.plan.changes if digest else None)
    if earlier and earlier != _key_of(approval):
        note(f"with this deployment, the approval of plan {_shortened(earlier)} ends")
    return approval


def _check(stage: Stage, report: Report, digest: str | None) -> None:
    """Raise DeployError unless a plan is approved, or needs no approval."""
    plan = report.plan
    command = f"make deploy STAGE={stage.name} ARGS='--approve {plan.digest}'"
    removals = count(plan.removals, "removal")
    above = f"the plan has at most {removals}, more than limits.removals ({plan.max_removals:,})"
    if plan.exceeds_limit and not plan.is_decided:
        undecided = [report.labels.policy(each.id) for each in plan.policies if each.undecided or not each.is_read]
        raise DeployError(
            f"{above}, and it cannot be approved, because not everything that decides could be read, about the "
            f"policies {', '.join(undecided)}. `make plan STAGE={stage.name}` says what could not be read; use "
            "credentials that may read it, then deploy again"
        )
    if digest and not plan.digest.startswith(digest):
        raise DeployError(
            f"--approve {digest} is not the digest of this plan, which is {plan.digest}: the organization, the "
            "document or the stage has changed since that one was made, or the digest was mistyped. Look at this one "
            f"with `make plan STAGE={stage.name}`; to approve it, run {command}"
        )
    if plan.exceeds_limit and not digest:
        raise DeployError(
            f"{above}, so it needs approval. Its digest is {plan.digest}. Look at it with `make plan "
            f"STAGE={stage.name}`; to approve it, run {command}"
        )


def parameters(target: Target, bucket: str, approval: Approval, *, owner: str) -> dict[str, str | None]:
    """Upload the plan that is approved, and return the parameters that name it and the last day of the approval."""
    # Without removals, the template's default ends an earlier approval.
    if not target.stage.removes:
        return {}
    if approval.plan:
        upload(target.client("s3"), bucket, approval.plan.canonical(), _KEY, owner=owner)
        return {_PARAMETER: _key_of(approval), _UNTIL: approval.until}
    # An earlier approval keeps its end.
    return {_PARAMETER: approval.earlier, _UNTIL: None if approval.earlier else ""}


def _key_of(approval: Approval) -> str:
    return _KEY.format(approval.plan.sha256()) if approval.plan else approval.earlier


def _shortened(key: str) -> str:
    """Return the beginning of the digest in a plan's key."""
    return key.rpartition("/")[2][:_SHORTEST]
