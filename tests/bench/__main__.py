"""`make bench`: tables on the terminal, JSON and a plot under build/bench, each figure with its baseline."""

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
from random import Random
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from infra.deploy.build import ROOT
from infra.local.environment import stand_alone
from infra.local.events import handshake_accepted
from infra.local.installation import build_local, install
from infra.local.organizations import ATTACH, Organizations, Rules, policies_of, serving
from infra.local.standin import running
from infra.local.watch import Watch
from tests.bench.burst import Burst, Experiment
from tests.bench.letters import handle_letters
from tests.bench.paces import Aimd, Fixed, Shared, Unpaced
from tests.bench.plot import draw
from tests.bench.rival import run_rival

OUT: Final = ROOT / "build" / "bench"
RUNTIME: Final = ROOT / ".venv-lambda" / "bin" / "python"
console = Console(width=None if sys.stdout.isatty() else 120)


def percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


def summed_up(burst: Burst) -> dict[str, float]:
    return {
        "over_limit": burst.over_limit,
        "throttled": burst.throttled,
        "conflicts": burst.conflicts,
        "receives": burst.receives,
        "dead": burst.dead,
        "without policies": burst.bare,
        "p50": percentile(burst.guardrail, 0.5),
        "p95": percentile(burst.guardrail, 0.95),
        "max": burst.guardrail[-1],
    }


def table(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print rows of figures."""
    names = list(next(iter(rows.values())))
    made = Table("", *names, title=title)
    for name, figures in rows.items():
        made.add_row(name, *(_shown(key, figures[key]) for key in names))
    console.print(made)


def _shown(name: str, value: float) -> str:
    if name in {"throttled", "conflicts"}:
        return f"{value:.1%}"
    return f"{value:,.3f}" if "over" in name else f"{value:,.1f}".removesuffix(".0")


def bursts() -> dict[str, Any]:
    """Bursts of joins in virtual time, at the documented limits, and the strategies that were weighed."""
    product = {f"{n:,} joins": summed_up(Experiment(n, Shared).run()) for n in (100, 1_000, 10_000)}
    table("Burst: joins with 2 policies within a minute (virtual time)", product)
    runs = {pace.__name__: Experiment(1_000, pace) for pace in (Unpaced, Fixed, Aimd, Shared)}
    weighed = {name: summed_up(experiment.run()) for name, experiment in runs.items()}
    table("Strategies, 1,000 joins", weighed)
    draw(OUT / "burst.png", {name: [at for at, _, _ in each.organizations.history] for name, each in runs.items()})
    rival = run_rival(1_000)
    table("Rival: a function straight on the rule, 1,000 joins", {"rival": rival})
    return {"product": product, "strategies": weighed, "rival": rival}


def embedded(joins: int = 100) -> dict[str, Any]:
    """Run the same burst for real: the real zip in the embedded AWS, the double over HTTP, real time."""
    organizations, rng = Organizations(Rules()), Random(1)  # noqa: S311 - an experiment
    with serving(organizations) as endpoint, running(endpoint) as aws:
        at = install(aws, package=build_local(), told=lambda _: None)
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
        full = {account_id: when for when, _, account_id in organizations.history}
        carried = policies_of(organizations, joined_at)
        calls, refused = organizations.calls[ATTACH], organizations.refused
        burst = Burst(
            seconds=organizations.history[-1][0] - began,
            over_limit=(organizations.history[-1][0] - began) / joins,
            throttled=refused[ATTACH, "TooManyRequestsException"] / calls,
            conflicts=refused[ATTACH, "ConcurrentModificationException"] / calls,
            receives=1,
            dead=watch.dead(),
            failed=len(watch.failing()),
            bare=sum(each != set(at.policy_ids) for each in carried.values()),
            guardrail=sorted(full[each] - when for each, when in joined_at.items()),
        )
    rows = {"embedded": summed_up(burst), "model": summed_up(Experiment(joins, Shared).run())}
    for row in rows.values():
        del row["receives"]
    table(f"The model against the embedded AWS, {joins} joins, real time", rows)
    return rows


def in_process(command: str, environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    code = str(ROOT / "tests" / "bench" / "process.py")
    done = subprocess.run(  # noqa: S603 - our own command
        [str(RUNTIME), code, command, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def cold_start(runs: int = 15) -> dict[str, Any]:
    """Time the zip from nothing to a function that is ready, over bare boto3 with the same clients."""
    settings = {
        "POLICY_IDS": "p-aaaaaaaa",
        "ORGANIZATION_ID": "o-exampleorgid",
        "MANAGEMENT_ACCOUNT_ID": "111111111111",
        **dict.fromkeys(("OUTCOMES_TABLE", "PACE_TABLE", "EVIDENCE_BUCKET", "PSEUDONYM_KEY_ID"), "x"),
        **dict.fromkeys(("QUEUE_URL", "DEAD_LETTER_QUEUE_URL", "UNDELIVERED_QUEUE_URL"), "https://x"),
        "AWS_DEFAULT_REGION": "us-east-1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(build_local()).extractall(folder)
        environment = settings | {"PYTHONPATH": folder}
        pairs = [(in_process("bare", settings), in_process("cold", environment)) for _ in range(runs + 1)][1:]
    bare, cold = (statistics.median(pair[side]["milliseconds"] for pair in pairs) for side in (0, 1))
    rows = {"ready": {"bare boto3, ms": bare, "the zip, ms": cold, "over bare": cold / bare}}
    table(f"Cold start, Python {platform.python_version()}, median of {runs}", rows)
    return rows


def warm(batches: int = 1_000) -> dict[str, Any]:
    """Measure CPU and memory of a warm function over many batches of ten."""
    organizations = Organizations(Rules(attach_rate=1e9, read_rate=1e9, write_seconds=0.0, read_seconds=0.0))
    accounts = [f"{number:012d}" for number in range(1, 10 * batches + 11)]
    organizations.join(*accounts)
    with tempfile.TemporaryDirectory() as folder, serving(organizations) as endpoint, running() as aws:
        zipfile.ZipFile(build_local()).extractall(folder)
        at = install(aws, package=build_local(), told=lambda _: None)
        organizations.policies.update(at.policy_ids)
        [function] = aws.client("lambda").list_functions()["Functions"]
        event = handshake_accepted("222222222222", at.organization_id, at.management_account_id)
        environment = function["Environment"]["Variables"] | {
            "PYTHONPATH": folder,
            "PACE_TABLE": "",
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
        "a record": {
            "CPU ms": found["cpu_milliseconds"],
            "wall ms": found["milliseconds"],
            "failed": found["failed"],
            "MB after the first batch": found["megabytes"][0],
            "MB after the last": found["megabytes"][-1],
        }
    }
    table(f"Warm function, {batches} batches of ten, peak memory", rows)
    return found


def letters() -> dict[str, Any]:
    """List and redrive 10,000 letters with the operator's tool, over a plain loop of receive, send, delete."""
    with console.status("10,000 letters"):
        rows = handle_letters(1_000, 10_000)
    table("Dead letters in the embedded AWS", rows)
    return rows


PARTS: Final = {"burst": bursts, "embedded": embedded, "cold": cold_start, "warm": warm, "letters": letters}


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)), help="Leave out the others. May be repeated.")
def main(only: tuple[str, ...]) -> None:
    """Measure bursts, a rival, cold start, a warm record and memory (ten minutes in all); write build/bench."""
    stand_alone()
    OUT.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "python": platform.python_version(),
    }
    for name, part in PARTS.items():
        if name in (only or PARTS):
            results[name] = part()
    (OUT / "results.json").write_text(json.dumps(results, indent=2))
    console.print(f"results and pictures are in {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
