"""`make demo`: the main job on loopback, told as a story; exit status 1 where it does not hold."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from infra.local.__main__ import TROUBLES, stop_cleanly
from infra.local.environment import stand_alone
from infra.local.events import account_created, handshake_accepted
from infra.local.installation import build_local, configure, create_policy, install
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
_QUARANTINE: Final = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}],
}


@dataclass(frozen=True)
class Chapter:
    """One event of the story, and how it must end."""

    title: str
    event: Event
    ends_as: OutcomeStatus
    #: What is really put on the queue, where it is not the event.
    body: str | None = None
    note: str = ""

    @property
    def event_id(self) -> str:
        """The event's id."""
        return str(self.event["detail"]["eventID"])


class Story:
    """Tell the story on a running installation and remember what was not so."""

    def __init__(self, aws: StandIn, installation: Installation, console: Console) -> None:
        self.aws, self.at, self.console = aws, installation, console
        self.watch = Watch(aws, installation)
        self.chapters: list[Chapter] = []
        self.wrong: list[str] = []

    def run(self) -> list[str]:
        """Tell all of it; return what was not so."""
        invited, created, cut_off, unlucky = self.at.account_ids
        first = self._invited(invited)
        broken = self._invited(cut_off)
        half = json.dumps(broken)[:700]
        handshake = self._invited(invited, action="APPROVE_ALL_FEATURES")
        enforced, ignored, failed = OutcomeStatus.ENFORCED, OutcomeStatus.IGNORED, OutcomeStatus.FAILED

        self._happens(Chapter("an invited account joins", first, enforced))
        self._happens(
            Chapter("a created account joins", account_created(created, self.at.management_account_id), enforced)
        )
        self._happens(Chapter("the first event arrives again", first, enforced, note="seen before: nothing was called"))
        self._happens(Chapter("a handshake that is no join", handshake, ignored))
        self._happens(Chapter("a message that was cut off", broken, failed, body=half, note="INVALID_EVENT"))
        self._policy_goes_missing()
        self._happens(Chapter("an account joins, a policy is missing", self._invited(unlucky), failed))

        self.console.print(self._became("What became of them"))
        letters = self._dead_letters()
        self._holds(
            self.watch.attached(unlucky) == set(self.at.policy_ids), "one bad policy kept others from being attached"
        )
        self._mend(letters, broken)
        self.console.print(self._became("After both causes were mended and both letters redriven"))
        self._all_is_well()
        return self.wrong

    def _invited(self, account_id: str, **changes: Any) -> Event:
        return handshake_accepted(account_id, self.at.organization_id, self.at.management_account_id, **changes)

    def _happens(self, chapter: Chapter) -> None:
        """Put the event on the queue, wait for what becomes of it, and look."""
        with self.console.status(chapter.title):
            self.watch.put(chapter.body or chapter.event)
            self.watch.until_quiet()
        self.chapters.append(chapter)
        status = self._status(self._outcome(chapter))
        self._holds(status is chapter.ends_as, f"{chapter.title}: {status}, not {chapter.ends_as}")
        if status is OutcomeStatus.ENFORCED:
            evidence = self.watch.evidence(chapter.event_id)
            self._holds(len(evidence) == 1, f"{chapter.title}: {len(evidence)} evidence objects, not one")
        self.console.print(f"  {chapter.title}: [{_COLOURS[status]}]{status}")

    def _policy_goes_missing(self) -> None:
        """Deploy a third policy, then delete it behind the stack's back."""
        extra = create_policy(self.aws, "quarantine", _QUARANTINE)
        configure(self.aws, [*self.at.policy_ids, extra])
        self.aws.client("organizations").delete_policy(PolicyId=extra)
        self.console.print("  somebody adds a third policy to the stack, and then deletes the policy")

    def _dead_letters(self) -> list[dict[str, Any]]:
        """Show the dead letters with their reasons."""
        letters = self.watch.dead_letters()
        table = Table("code", "why", "tried", "redriven", title="Dead letters")
        for letter in letters:
            table.add_row(*(_says(letter, name) for name in ("ERROR_CODE", "ERROR_MESSAGE", "ATTEMPTS", "REDRIVES")))
        self.console.print(table)
        codes = sorted(_says(letter, "ERROR_CODE") for letter in letters)
        self._holds(codes == ["INVALID_EVENT", "PolicyNotFoundException"], f"the dead letters say {codes}")
        return letters

    def _mend(self, letters: list[dict[str, Any]], broken: Event) -> None:
        """Take the deleted policy out of the stack, complete the message that was cut off, redrive both."""
        with self.console.status("mending and redriving"):
            configure(self.aws, self.at.policy_ids)
            for letter in letters:
                invalid = _says(letter, "ERROR_CODE") == "INVALID_EVENT"
                self.watch.put_back(letter, body=json.dumps(broken) if invalid else None)
            self.watch.until_quiet()
        self.chapters = [
            replace(chapter, note="redriven") if chapter.ends_as is OutcomeStatus.FAILED else chapter
            for chapter in self.chapters
        ]
        self.console.print(
            "  the stack names its two policies again, the message is completed; both letters are redriven"
        )

    def _all_is_well(self) -> None:
        for chapter in self.chapters:
            status = self._status(self._outcome(chapter))
            ends_as = OutcomeStatus.IGNORED if chapter.ends_as is OutcomeStatus.IGNORED else OutcomeStatus.ENFORCED
            self._holds(status is ends_as, f"{chapter.title}: {status} in the end, not {ends_as}")
        for account_id in self.at.account_ids:
            carried = self.watch.attached(account_id)
            self._holds(carried == set(self.at.policy_ids), f"account {account_id} carries {sorted(carried)}")
        self._holds(self.watch.dead() == 0, "dead letters are left")
        self._holds(not self.watch.failing(), "the table's index still calls events failing")

    def _became(self, title: str) -> Table:
        """Draw what is on record of each event."""
        table = Table("event", "account", "policies", "status", "why", title=title)
        for chapter in self.chapters:
            outcome = self._outcome(chapter)
            status = self._status(outcome)
            why = outcome.fault.message if outcome and outcome.fault else chapter.note
            account = outcome.account_id.replace("none", "") if outcome else ""
            table.add_row(chapter.title, account, _policies(outcome), f"[{_COLOURS[status]}]{status}", why)
        return table

    def _outcome(self, chapter: Chapter) -> Outcome | None:
        return self.watch.outcome(chapter.event_id)

    def _status(self, outcome: Outcome | None) -> OutcomeStatus:
        """Tell how an event stands; one that cannot be read has no row, only its dead letter."""
        return outcome.status if outcome else OutcomeStatus.FAILED

    def _holds(self, fact: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as the sentence that it is
        if not fact:
            self.wrong.append(otherwise)


def _says(letter: dict[str, Any], name: str) -> str:
    return str(letter["MessageAttributes"][name]["StringValue"])


def _policies(outcome: Outcome | None) -> str:
    """Count an event's policies by what became of them."""
    found = [policy.result for policy in outcome.policies] if outcome else []
    return ", ".join(f"{found.count(r)} {r.lower().replace('_', ' ')}" for r in AttachmentResult if r in found)


def main() -> int:
    """Tell the story; exit status 1 where any of it is not so."""
    stop_cleanly()
    stand_alone()
    return tell_on(running())


def tell_on(standin: AbstractContextManager[StandIn]) -> int:
    """Tell the story on a stand-in that is yet to be started; return the exit status."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    began = time.monotonic()
    try:
        console.print("[bold]An AWS stand-in on loopback, the real template, the real zip, IAM enforced")
        package = build_local()
        console.print(f"  built {package.name}, {package.stat().st_size / 1e6:.1f} MB")
        with standin as aws:
            installation = install(aws, package=package, told=lambda text: console.print(f"  {text}"))
            console.print("[bold]Accounts join")
            wrong = Story(aws, installation, console).run()
    except TROUBLES as error:
        wrong = [str(error)]
    for each in wrong:
        console.print(f"[red]not so:[/] {each}")
    if not wrong:
        console.print(f"[green]Every account carries its policies.[/] {time.monotonic() - began:.1f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
