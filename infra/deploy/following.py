"""What follows a deployment of guardrails: it changes no account by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handlers.operate.plan_output import Report
    from infra.deploy.stages import Stage


def notes(stage: Stage, report: Report) -> Iterator[str]:
    """Yield how the accounts of a plan get and lose their policies after the deployment."""
    plan, command = report.plan, _command(stage)
    if plan.attachments:
        yield (
            f"deploying attaches nothing to these accounts by itself; each gets its policies {_when(stage)}, or now "
            f"with {command}"
        )
    if plan.removals and stage.removes:
        yield (
            f"deploying removes nothing by itself; each account loses its policies {_when(stage)}, or now with "
            f"{command}"
        )
    elif plan.removals:
        yield 'nothing is removed, because RemovePolicies is not "true" in the stage'


def next_step(stage: Stage, report: Report | None) -> str:
    """Return what to do after a deployment; the report is None if it made no plan.

    A change set that was made earlier can have new guardrails, although its execution makes no plan.
    """
    if report is None and stage.document is not None:
        return (
            f"each account gets and loses policies {_when(stage)}; if the guardrails have changed, request the "
            f"accounts of their plan with {_command(stage)}"
        )
    plan = report.plan if report else None
    if plan and (plan.attachments or (plan.removals and stage.removes)):
        return f"request the accounts of the plan with {_command(stage)}, or wait: each changes {_when(stage)}"
    return "invite or create an account"


def _when(stage: Stage) -> str:
    return "at its next event or in the next sweep" if stage.sweep_enforces else "at its next event"


def _command(stage: Stage) -> str:
    return f"`make enforce STAGE={stage.name} ARGS='--from FILE'`"
