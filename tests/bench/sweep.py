"""The sweep over organizations of many accounts, in virtual time at the rates that AWS documents.

Every account carries every policy but one, so that each policy takes the most pages that there can be, and each account
has a gap. Invocations end after 15 minutes, and the schedule begins the next one at a multiple of five.

`python -m tests.bench.sweep ACCOUNTS` measures one size in a process of its own, and prints one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Final

from handlers.core.reconcile.sweep import Step
from infra.deploy.build import ROOT
from schemas.compiled_guardrails import (
    SCP,
    CompiledGuardrails,
    CompiledPolicy,
    CompiledRule,
    CompiledSelector,
    OuRange,
)
from tests.bench.process import peak_megabytes
from tests.bulk_organization import ROOT_OU, Member
from tests.fakes import NOON
from tests.sweeping import SweepWorld

_POLICIES: Final = [f"p-policy{number:04}" for number in range(20)]
_OUS: Final = [f"ou-root-{number:08}" for number in range(100)]
#: Seconds of each call.
_LATENCY: Final = 0.05
#: Seconds of an invocation, less what the function reserves at its end, and between two ticks of the schedule.
_INVOCATION: Final = 880
_TICK: Final = 300


def _guardrails() -> CompiledGuardrails:
    rules = (
        CompiledRule(id="everyone", attach=tuple(_POLICIES[:-2]), match="all"),
        CompiledRule(
            id="by-tag", attach=(_POLICIES[-2],), match=(CompiledSelector(tags={"environment": ("prod", "test")}),)
        ),
        CompiledRule(
            id="by-ou", attach=(_POLICIES[-1],), match=(CompiledSelector(ou=tuple(OuRange(id=each) for each in _OUS)),)
        ),
    )
    return CompiledGuardrails(policies=tuple(CompiledPolicy(id=each, type=SCP) for each in _POLICIES), rules=rules)


def _world(accounts: int) -> SweepWorld:
    made = SweepWorld(guardrails=_guardrails())
    organization = made.organization
    organization.latency, organization.wait = _LATENCY, made.clock.sleep
    organization.seconds = lambda: (made.clock.now() - NOON).total_seconds()  # noqa: PLW0108 - the clock goes on
    organization.ous = dict.fromkeys(_OUS, ROOT_OU)
    ids = made.account_ids(accounts)
    for number, each in enumerate(ids):
        environment = "prod" if number % 2 else "test"
        organization.accounts[each] = Member(ou=_OUS[number % len(_OUS)], tags={"environment": environment})
    # Set at once, because attaching one by one compares each with all others.
    organization.targets |= dict.fromkeys(_POLICIES[1:], ids)
    return made


def measure_one(accounts: int) -> dict[str, float]:
    """Sweep one organization once."""
    made = _world(accounts)
    made.clock.slept = _Forgetful()
    before = peak_megabytes()
    began, invocations = time.process_time(), 0
    at = 0.0
    while True:
        invocations += 1
        step = made.invoke(seconds=_INVOCATION).step
        at = (made.clock.now() - NOON).total_seconds()
        if step is Step.COMPLETE:
            break
        made.clock.advance(_TICK - at % _TICK)
    assert len(made.requested()) == accounts
    return {
        "calls": made.organization.calls.total(),
        "throttled": made.organization.throttled,
        "invocations": invocations,
        "minutes": at / 60,
        "time over the rates": at / made.organization.allowed_seconds(),
        "CPU s": time.process_time() - began,
        "MB": peak_megabytes() - before,
    }


class _Forgetful(list[float]):
    """Keeps nothing, so that the measured memory is the sweep's."""

    def append(self, _: float) -> None:
        pass


def measure(*sizes: int) -> dict[str, dict[str, float]]:
    """Measure organizations of these sizes, each in a process of its own."""
    rows = {}
    for size in sizes:
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "tests.bench.sweep", str(size)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        rows[f"{size:,} accounts, {len(_POLICIES)} policies"] = json.loads(done.stdout)
    return rows


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure_one(int(sys.argv[1]))) + "\n")
