"""The evidence pack of a quarter in which half of the accounts joined, from records and a sealed log in memory.

It verifies the log, and proves every object.

The baseline reads and parses the same records and does nothing with them.

`python -m tests.bench.pack ACCOUNTS` measures one size in a process of its own, and prints one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from pathlib import Path
from typing import TYPE_CHECKING, Final

from infra.deploy.build import ROOT
from schemas.audit import AuditRecord
from schemas.configuration import Configuration
from schemas.evidence import Evidence, RehearsalEvidence
from schemas.sealed import ObjectKind, sealed_kind
from schemas.sweep import SweepEvidence
from tests.bench.process import peak_megabytes
from tests.histories import History, period, quarter
from tests.operator_cli import FakeBucket
from tests.sealed_histories import SealedHistory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

_SWEEPS_A_DAY: Final = 48
_MODELS: Final[dict[ObjectKind, type[BaseModel]]] = {
    ObjectKind.EVIDENCE: Evidence,
    ObjectKind.REHEARSAL: RehearsalEvidence,
    ObjectKind.AUDIT: AuditRecord,
    ObjectKind.CONFIGURATION: Configuration,
    ObjectKind.SWEEP: SweepEvidence,
}


class _IndexedBucket(FakeBucket):
    """A bucket that finds keys as fast as S3 does, whose index is sorted."""

    _sorted: Sequence[str] = ()

    def under(self, prefix: str, *, limit: int | None = None) -> list[str]:
        if len(self._sorted) != len(self.objects):
            self._sorted = sorted(self.objects)
        begin, end = (bisect_left(self._sorted, each) for each in (prefix, prefix + "\uffff"))
        return [*self._sorted[begin:end][:limit]]


def _read_and_parse(history: History) -> float:
    """Return the CPU seconds of the baseline."""
    began = time.process_time()
    for key, body in history.objects.items():
        kind = sealed_kind(key)
        assert kind
        _MODELS[kind].model_validate_json(body)
    return time.process_time() - began


def measure_one(accounts: int) -> dict[str, float]:
    """Make one pack once."""
    history = quarter(members=accounts // 2, joins=accounts // 2, sweeps_a_day=_SWEEPS_A_DAY)
    SealedHistory(history)
    history.tool.bucket = _IndexedBucket(objects=history.objects)
    baseline = _read_and_parse(history)
    before = peak_megabytes()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "pack"
        began, cpu = time.perf_counter(), time.process_time()
        done = history.tool.run("evidence", str(folder), *period())
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        assert done.exit_code == 0, done.output
        sizes = {path.name: path.stat().st_size / 1e6 for path in folder.rglob("*") if path.is_file()}
    return {
        "records": len(history.objects),
        "seconds": seconds,
        "CPU s": cpu,
        "reading and parsing, CPU s": baseline,
        "over that": cpu / baseline,
        "MB": peak_megabytes() - before,
        "page, MB": sizes["report.html"],
        "PDF, MB": sizes["report.pdf"],
        "JSON, MB": sizes["pack.json"],
        "proofs, MB": sizes["proofs.zip"],
    }


def measure(*sizes: int) -> dict[str, dict[str, float]]:
    """Measure organizations of these sizes, each in a process of its own."""
    rows = {}
    for size in sizes:
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "tests.bench.pack", str(size)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        rows[f"{size:,} accounts"] = json.loads(done.stdout)
    return rows


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure_one(int(sys.argv[1]))) + "\n")
