"""`make bench`: print tables, and write JSON and a plot to build/bench. Each figure has a baseline."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from datetime import timedelta
from random import Random
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from infra.deploy.build import ROOT
from infra.local.environment import isolate_from_user
from infra.local.events import handshake_accepted
from infra.local.installation import build_local, install
from infra.local.organizations import ATTACH, Organizations, Rules, policies_of, serving
from infra.local.standin import running
from infra.local.watch import Watch
from tests.bench import costs as dollars
from tests.bench import pack as packs
from tests.bench import plan as plans
from tests.bench import seal as seals
from tests.bench import sweep as sweeps
from tests.bench import verify
from tests.bench.burst import Burst, Experiment, Mapping
from tests.bench.first import Design, First, Result, steady_and_bursts
from tests.bench.operator_tool import measure
from tests.bench.paces import Aimd, Fixed, Shared, Unpaced
from tests.bench.plot import draw
from tests.bench.rival import run_rival

OUT: Final = ROOT / "build" / "bench"
RUNTIME: Final = ROOT / ".venv-lambda" / "bin" / "python"
console = Console(width=None if sys.stdout.isatty() else 120)


def percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


def summary(burst: Burst) -> dict[str, float]:
    return {
        "time over the limit": burst.over_limit,
        "throttled": burst.throttled,
        "conflicts": burst.conflicts,
        "most receives": burst.receives,
        "dead letters": burst.dead_letters,
        "without policies": burst.without_policies,
        "p50, s": percentile(burst.guardrail, 0.5),
        "p95, s": percentile(burst.guardrail, 0.95),
        "max, s": burst.guardrail[-1],
    }


def table(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print rows of figures."""
    names = list(next(iter(rows.values())))
    printed = Table("", *names, title=title)
    for name, figures in rows.items():
        printed.add_row(name, *(_formatted(key, figures[key]) for key in names))
    console.print(printed)


def _formatted(name: str, value: float) -> str:
    if name in {"throttled", "conflicts"}:
        return f"{value:.1%}"
    return f"{value:,.3f}" if "over" in name else f"{value:,.1f}".removesuffix(".0")


def bursts() -> dict[str, Any]:
    """Run bursts in virtual time at AWS's documented limits: the worker, other strategies, a function on the rule."""
    product = {f"{n:,} joins": summary(Experiment(n, Shared).run()) for n in (100, 1_000, 10_000)}
    table("Joins with 2 policies each within a minute (virtual time)", product)
    runs = {pace.__name__: Experiment(1_000, pace) for pace in (Unpaced, Fixed, Aimd, Shared)}
    strategies = {name: summary(experiment.run()) for name, experiment in runs.items()}
    table("Strategies for the pace, 1,000 joins (virtual time)", strategies)
    draw(OUT / "burst.png", {name: [at for at, _, _ in each.organizations.history] for name, each in runs.items()})
    rival = run_rival(1_000)
    table("A function on the rule, without a queue, 1,000 joins (virtual time)", {"function on the rule": rival})
    return {"product": product, "strategies": strategies, "rival": rival}


def embedded(joins: int = 100) -> dict[str, Any]:
    """Run the burst in real time: the real zip in the embedded AWS, with the double of Organizations over HTTP."""
    organizations, rng = Organizations(Rules()), Random(1)  # noqa: S311 - an experiment
    with serving(organizations) as endpoint, running(endpoint) as aws:
        at = install(aws, package=build_local(), log=lambda _: None)
        watch = Watch(aws, at)
        organizations.policies.update(at.policy_ids)
        times = sorted(rng.uniform(0, 60) for _ in range(joins))
        began, joined_at = time.monotonic(), {}
        with console.status(f"{joins} joins in real time"):
            for due in times:
                time.sleep(max(0.0, began + due - time.monotonic()))
                account_id = str(uuid.uuid4().int)[:12]
                organizations.join(account_id)
                joined_at[account_id] = time.monotonic()
                watch.put(handshake_accepted(account_id, at.organization_id, at.management_account_id))
            while len(organizations.history) < joins * 2 and time.monotonic() < began + joins * 3:
                time.sleep(0.1)
            watch.until_quiet()
        last_attached = {account_id: when for when, _, account_id in organizations.history}
        carried = policies_of(organizations, joined_at)
        calls, refused = organizations.calls[ATTACH], organizations.refused
        burst = Burst(
            seconds=organizations.history[-1][0] - began,
            over_limit=(organizations.history[-1][0] - began) / joins,
            throttled=refused[ATTACH, "TooManyRequestsException"] / calls,
            conflicts=refused[ATTACH, "ConcurrentModificationException"] / calls,
            receives=1,
            dead_letters=watch.dead_letter_count(),
            failed=len(watch.failing()),
            without_policies=sum(each != set(at.policy_ids) for each in carried.values()),
            guardrail=sorted(last_attached[each] - when for each, when in joined_at.items()),
        )
    rows = {"embedded": summary(burst), "model": summary(Experiment(joins, Shared).run())}
    for row in rows.values():
        del row["most receives"]
    table(f"{joins} joins with 2 policies each within a minute: embedded AWS (real time) and model", rows)
    return rows


def in_process(command: str, environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    code = str(ROOT / "tests" / "bench" / "process.py")
    done = subprocess.run(  # noqa: S603 - our own command
        [str(RUNTIME), code, command, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def cold_start(runs: int = 15) -> dict[str, Any]:
    """Time a cold start of the zip until the function is ready, compared with bare boto3 and the same clients."""
    settings = {
        "POLICY_IDS": "p-aaaaaaaa",
        "ORGANIZATION_ID": "o-exampleorgid",
        "MANAGEMENT_ACCOUNT_ID": "111111111111",
        **dict.fromkeys(
            ("OUTCOMES_TABLE", "PACE_TABLE", "RECONCILIATION_TABLE", "EVIDENCE_BUCKET", "PSEUDONYM_KEY_ID"), "x"
        ),
        **dict.fromkeys(("QUEUE_URL", "DEAD_LETTER_QUEUE_URL"), "https://x"),
        "AWS_DEFAULT_REGION": "us-east-1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(build_local()).extractall(folder)
        environment = settings | {"PYTHONPATH": folder}
        pairs = [(in_process("bare", settings), in_process("cold", environment)) for _ in range(runs + 1)][1:]
    bare, cold = (statistics.median(pair[side]["milliseconds"] for pair in pairs) for side in (0, 1))
    rows = {"until ready": {"bare boto3, ms": bare, "zip, ms": cold, "zip over bare": cold / bare}}
    table(f"Cold start, Python {platform.python_version()}, median of {runs} runs", rows)
    return rows


def warm(batches: int = 1_000) -> dict[str, Any]:
    """Measure CPU time and peak memory of a warm function that handles many batches of ten."""
    organizations = Organizations(Rules(attach_rate=1e9, read_rate=1e9, write_seconds=0.0, read_seconds=0.0))
    accounts = [f"{number:012d}" for number in range(1, 10 * batches + 11)]
    organizations.join(*accounts)
    with tempfile.TemporaryDirectory() as folder, serving(organizations) as endpoint, running() as aws:
        zipfile.ZipFile(build_local()).extractall(folder)
        at = install(aws, package=build_local(), log=lambda _: None)
        organizations.policies.update(at.policy_ids)
        function = aws.client("lambda").get_function_configuration(FunctionName="MemberAccountInitialization")
        event = handshake_accepted("222222222222", at.organization_id, at.management_account_id)
        environment = function["Environment"]["Variables"] | {
            "PYTHONPATH": folder,
            "PACE_TABLE": "",
            "RECONCILIATION_TABLE": "reconciliation",
            "ATTACHMENTS_PER_SECOND": "100",
            "AWS_ENDPOINT_URL": aws.endpoint,
            "AWS_ENDPOINT_URL_ORGANIZATIONS": endpoint,
            "AWS_DEFAULT_REGION": aws.region,
            "AWS_ACCESS_KEY_ID": aws.access_key_id,
            "AWS_SECRET_ACCESS_KEY": aws.secret_access_key,
            "ACCOUNTS": ",".join(accounts),
            "EVENT": json.dumps(event),
        }
        with console.status(f"{batches} batches of ten"):
            found = in_process("warm", environment, str(batches))
    rows = {
        "per record": {
            "CPU ms": found["cpu_milliseconds"],
            "wall ms": found["milliseconds"],
            "failed": found["failed"],
            "peak MB after the first batch": found["megabytes"][0],
            "peak MB after the last": found["megabytes"][-1],
        }
    }
    table(f"Warm function, {batches:,} batches of ten", rows)
    return found


def operator() -> dict[str, Any]:
    """List and redrive 10,000 dead letters with the operator's tool, compared with a loop of receive, send, delete."""
    with console.status("1,000 and 10,000 dead letters"):
        rows = measure(1_000, 10_000)
    table("The operator's tool in the embedded AWS", rows)
    return rows


def first(gaps: int = 10_000, seconds: float = 10_800) -> dict[str, Any]:
    """Let accounts join while requests for others are worked off, with several designs, in virtual time."""
    live = steady_and_bursts(seconds)
    idle = First(0, live, Design()).measure()
    designs = {
        "one queue": Design(repairs=None),
        "second queue, turns for all alike": Design(patience=None),
        "the same, ten workers for joins": Design(joins=Mapping(workers=10), patience=None),
        "live joins first, batches of 10": Design(repairs=Mapping(batch=10)),
        "live joins first, batches of 5": Design(repairs=Mapping(batch=5)),
        "live joins first, 5 s of patience": Design(patience=timedelta(seconds=5)),
        "live joins first, 20 s of patience": Design(patience=timedelta(seconds=20)),
        "live joins first": Design(),
    }
    rows = {"no backlog": first_summary(idle, idle)}
    rows |= {name: first_summary(First(gaps, live, each).measure(), idle) for name, each in designs.items()}
    rows["live joins first, nothing lacks"] = first_summary(
        First(gaps, steady_and_bursts(gaps / 5), Design(), stale=True).measure(), idle
    )
    table(f"Live joins while {gaps:,} requests with 2 policies each are worked off (virtual time)", rows)
    return rows


def first_summary(result: Result, idle: Result) -> dict[str, float]:
    p95 = percentile(result.live, 0.95)
    return {
        "p50, s": percentile(result.live, 0.5),
        "p95, s": p95,
        "p95 more, s": p95 - percentile(idle.live, 0.95),
        "max, s": result.live[-1],
        "backlog, s": result.backlog,
        "over the rate": result.over_limit,
        "longest pause, s": result.longest_pause,
        "most receives": result.receives,
        "lost": result.lost,
    }


def plan() -> dict[str, Any]:
    """Read organizations in bulk and plan 50 rules for them, in virtual time at AWS's documented rates."""
    rows = plans.measure(1_000, 10_000, 50_000)
    table("joinguard plan, every policy on every account (virtual time)", rows)
    return rows


def sweep() -> dict[str, Any]:
    """Sweep organizations whose accounts all lack a policy, in virtual time at AWS's documented rates."""
    rows = sweeps.measure(1_000, 10_000, 50_000)
    table("The sweep, every policy but one on every account (virtual time)", rows)
    return rows


def verification() -> dict[str, Any]:
    """Verify 10,000 sealed objects in the embedded AWS, and more on loopback, compared with a loop that gets each."""
    with console.status("10,000 and 100,000 sealed objects"), tempfile.TemporaryDirectory() as folder:
        rows = verify.measure(10_000, 100_000, folder)
    table("joinguard verify, over a bare loop", rows)
    return rows


def seal() -> dict[str, Any]:
    """Seal 10,000 objects in the embedded AWS, over a bare loop of HEAD requests for the same objects."""
    rows = seals.measure(10_000)
    table("Sealing 10,000 objects of 1 KB (embedded AWS, real time)", rows)
    return rows


def pack() -> dict[str, Any]:
    """Make evidence packs of a quarter, compared with reading and parsing the same records."""
    rows = packs.measure(1_000, 10_000, 20_000)
    table("joinguard evidence, a quarter in which half of the accounts joined (records in memory)", rows)
    return rows


def costs() -> dict[str, Any]:
    """Multiply list prices by the calls of seven years; nothing is measured."""
    tables = dollars.measure()
    for title, rows in tables.items():
        table(f"Dollars in {dollars.YEARS} years, {title}", rows)
    return tables


PARTS: Final = {
    "burst": bursts,
    "first": first,
    "embedded": embedded,
    "cold": cold_start,
    "warm": warm,
    "operator": operator,
    "plan": plan,
    "sweep": sweep,
    "seal": seal,
    "verify": verification,
    "pack": pack,
    "costs": costs,
}


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)), help="Run only this part. May be repeated.")
def main(only: tuple[str, ...]) -> None:
    """Measure bursts, cold start, warm records, the operator's tool, plans, verifications; write build/bench."""
    isolate_from_user()
    OUT.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "python": platform.python_version(),
    }
    for name, part in PARTS.items():
        if name in (only or PARTS):
            results[name] = part()
    (OUT / "results.json").write_text(json.dumps(results, indent=2))
    console.print(f"results and plot: {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
