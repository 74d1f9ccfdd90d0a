"""`make demo`: run the main job on loopback and check every result; exit status 1 if a check fails."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.deploy.build import ROOT
from infra.local.__main__ import START_ERRORS, exit_on_signals
from infra.local.environment import isolate_from_user
from infra.local.events import account_created, handshake_accepted
from infra.local.installation import build_local, install, operator_session
from infra.local.standin import running
from infra.local.watch import Watch
from schemas.outcome import AttachmentResult, OutcomeStatus

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from infra.local.events import Event
    from infra.local.installation import Installation
    from infra.local.standin import StandIn
    from schemas.outcome import Outcome

_COLOURS: Final = {
    OutcomeStatus.ENFORCED: "green",
    OutcomeStatus.IGNORED: "cyan",
    OutcomeStatus.FAILED: "red",
    OutcomeStatus.RETRYING: "yellow",
}


@dataclass(frozen=True)
class Step:
    """An event and its expected outcome."""

    title: str
    event: Event
    expected: OutcomeStatus
    #: The message to send if it differs from the event.
    body: str | None = None
    note: str = ""

    @property
    def event_id(self) -> str:
        """The event's id."""
        return str(self.event["detail"]["eventID"])


class Demo:
    """Send events to a running installation and check what happens."""

    def __init__(self, aws: StandIn, installation: Installation, console: Console) -> None:
        self.aws, self.at, self.console = aws, installation, console
        self.watch = Watch(aws, installation)
        self.steps: list[Step] = []
        self.failures: list[str] = []

    def run(self) -> list[str]:
        """Run all steps; return the checks that failed."""
        invited, created, cut_off, last = self.at.account_ids
        first = self._invited(invited)
        truncated = self._invited(cut_off)
        handshake = self._invited(invited, action="APPROVE_ALL_FEATURES")
        creation = account_created(created, self.at.management_account_id)
        self.console.print("[bold]A rehearsal travels the path of a join: event bus, rule, queue, worker, records")
        self._operate("rehearse", "--timeout", "15m")
        self.console.print("[bold]Accounts join")
        enforced, ignored, failed = OutcomeStatus.ENFORCED, OutcomeStatus.IGNORED, OutcomeStatus.FAILED

        self._take(Step("an invited account joins", first, enforced))
        self._take(Step("a created account joins", creation, enforced))
        self._take(Step("the first event arrives again", first, enforced, note="already enforced: no calls"))
        self._take(Step("a handshake that is no join", handshake, ignored))
        body = json.dumps(truncated)[:700]
        self._take(Step("a truncated message", truncated, failed, body=body, note="INVALID_EVENT"))
        self._set_policy_type(enabled=False)
        self.console.print("  somebody disables service control policies in the organization")
        self._take(Step("an account joins", self._invited(last), failed))

        self.console.print(self._outcomes("Outcomes"))
        dead_letters = self._list_dead_letters()
        self._fix_and_redrive(dead_letters, truncated)
        self.console.print(self._outcomes("Outcomes after both causes were fixed and both dead letters redriven"))
        self._check_everything()
        return self.failures

    def _invited(self, account_id: str, **changes: Any) -> Event:
        return handshake_accepted(account_id, self.at.organization_id, self.at.management_account_id, **changes)

    def _take(self, step: Step) -> None:
        """Send the event, wait until it is handled, and check the outcome."""
        with self.console.status(step.title):
            self.watch.put(step.body or step.event)
            self.watch.until_quiet()
        self.steps.append(step)
        status = _status(self._outcome(step))
        self._check(status is step.expected, f"{step.title}: {status}, not {step.expected}")
        if status is OutcomeStatus.ENFORCED:
            evidence = self.watch.evidence(step.event_id)
            self._check(len(evidence) == 1, f"{step.title}: {len(evidence)} evidence objects, not one")
        self.console.print(f"  {step.title}: [{_COLOURS[status]}]{status}")

    def _set_policy_type(self, *, enabled: bool) -> None:
        """Enable or disable service control policies in the organization."""
        organizations = self.aws.client("organizations")
        change = organizations.enable_policy_type if enabled else organizations.disable_policy_type
        [root] = organizations.list_roots()["Roots"]
        change(RootId=root["Id"], PolicyType="SERVICE_CONTROL_POLICY")

    def _list_dead_letters(self) -> dict[str, str]:
        """Show the dead letters, check their codes; return the message id of each code."""
        self._operate("list")
        listed = json.loads(self._run("list", "--by", "code", "--json").stdout or '{"groups": []}')
        ids = {group["code"]: group["ids"][0] for group in listed["groups"]}
        self._check(
            set(ids) == {"INVALID_EVENT", "PolicyTypeNotEnabledException"}, f"the dead letters' codes are {[*ids]}"
        )
        return ids

    def _fix_and_redrive(self, dead_letters: dict[str, str], complete: Event) -> None:
        """Enable SCPs again, complete the truncated message, redrive both: as an operator."""
        self._set_policy_type(enabled=True)
        self.console.print("[bold]An operator corrects both causes:[/] service control policies are enabled again")
        recorded = ("--confirm", "--reason", "the demo")
        self._operate("redrive", "--code", "PolicyTypeNotEnabledException", *recorded)
        with tempfile.TemporaryDirectory() as folder:
            event = Path(folder) / "event.json"
            event.write_text(json.dumps(complete))
            self._operate("edit", dead_letters.get("INVALID_EVENT", ""), "--body", str(event), *recorded, quiet=True)
        self.watch.until_quiet()
        self.steps = [
            replace(step, note="redriven") if step.expected is OutcomeStatus.FAILED else step for step in self.steps
        ]

    def _operate(self, *arguments: str, quiet: bool = False) -> None:
        """Run the operators' tool and show its output, if quiet only the last line; check that it succeeds."""
        self.console.print(Text(f"$ joinguard {shlex.join(arguments)}", "bold"))
        done = self._run(*arguments)
        output = f"{done.stdout}{done.stderr}".rstrip()
        self.console.print(Text(output.rpartition("\n")[2] if quiet else output))
        self._check(done.returncode == 0, f"joinguard {arguments[0]} exited with {done.returncode}")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the operators' tool in a session of the role OperatorActs."""
        return subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "handlers.operate", *arguments],
            cwd=ROOT,
            # The ids of the demo are not kept for completion; the folder is deleted with the stand-in.
            env=os.environ | operator_session(self.aws) | {"XDG_CACHE_HOME": str(self.aws.log.parent)},
            capture_output=True,
            text=True,
            check=False,
        )

    def _check_everything(self) -> None:
        """Check that every join is enforced and that nothing is left to do."""
        for step in self.steps:
            status = _status(self._outcome(step))
            expected = OutcomeStatus.IGNORED if step.expected is OutcomeStatus.IGNORED else OutcomeStatus.ENFORCED
            self._check(status is expected, f"{step.title}: {status} in the end, not {expected}")
        for account_id in self.at.account_ids:
            attached = self.watch.attached(account_id)
            self._check(attached == set(self.at.policy_ids), f"account {account_id} has only {sorted(attached)}")
        self._check(self.watch.dead_letter_count() == 0, "there are still dead letters")
        self._check(not self.watch.failing(), "the table's index still lists failing events")

    def _outcomes(self, title: str) -> Table:
        """Return a table of the recorded outcomes."""
        table = Table("event", "account", "policies", "status", "reason", title=title)
        for step in self.steps:
            outcome = self._outcome(step)
            status = _status(outcome)
            reason = outcome.fault.message if outcome and outcome.fault else step.note
            account = outcome.account_id.replace("none", "") if outcome else ""
            table.add_row(step.title, account, _policies(outcome), f"[{_COLOURS[status]}]{status}", reason)
        return table

    def _outcome(self, step: Step) -> Outcome | None:
        return self.watch.outcome(step.event_id)

    def _check(self, passed: bool, failure: str) -> None:  # noqa: FBT001 - the condition reads best first
        if not passed:
            self.failures.append(failure)


def _status(outcome: Outcome | None) -> OutcomeStatus:
    """Return the status of an outcome; an event that cannot be parsed has no row, only a dead letter."""
    return outcome.status if outcome else OutcomeStatus.FAILED


def _policies(outcome: Outcome | None) -> str:
    """Return the number of policies per result."""
    found = [policy.result for policy in outcome.policies] if outcome else []
    return ", ".join(f"{found.count(r)} {r.lower().replace('_', ' ')}" for r in AttachmentResult if r in found)


def main() -> int:
    """Run the demo; return exit status 1 if a check fails."""
    exit_on_signals()
    isolate_from_user()
    return run_on(running())


def run_on(standin: AbstractContextManager[StandIn]) -> int:
    """Run the demo on a stand-in that is not started yet; return the exit status."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    began = time.monotonic()
    try:
        console.print("[bold]An AWS stand-in on loopback, the real template, the real zip, IAM enforced")
        package = build_local()
        console.print(f"  built {package.name}, {package.stat().st_size / 1e6:.1f} MB")
        with standin as aws:
            installation = install(aws, package=package, log=lambda text: console.print(f"  {text}"))
            failures = Demo(aws, installation, console).run()
    except START_ERRORS as error:
        failures = [str(error)]
    for each in failures:
        console.print(f"[red]failed:[/] {each}")
    if not failures:
        console.print(f"[green]Every account carries its policies.[/] {time.monotonic() - began:.1f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
