"""`export`: every record of a period becomes events, once, and what cannot be exported is named."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from handlers.core.errors import Cause, RetryableError, fault
from handlers.core.evidence.ocsf import events
from handlers.operate.exporting import days_between, export
from schemas.evidence import RehearsalEvidence
from tests.fake_queues import dead_letter
from tests.fakes import NOON, ORGANIZATION, POLICIES, World, joined
from tests.operator_cli import CONFIRM, FakeBucket, OperatorCli, operator_cli
from tests.unit.test_ocsf import KEYS, report

if TYPE_CHECKING:
    from pathlib import Path

Event = dict[str, Any]
DAY = f"{NOON:%Y-%m-%d}"
FROM = ("--from", DAY)
REHEARSAL = RehearsalEvidence(
    event_id="event-1",
    event_time=NOON,
    body_digest="0" * 64,
    organization_id=ORGANIZATION,
    receives=1,
    queued_at=NOON,
    received_at=NOON,
    recorded_at=NOON,
)


def filled() -> OperatorCli:
    """Return a tool whose bucket holds a day's evidence, audit records, report of a sweep and rehearsal."""
    world = World()
    world.handle(joined())
    tool = operator_cli(dead_letter(1))
    tool.run("drop", "--id", "m-1", *CONFIRM)
    tool.bucket.objects |= world.archive.bodies
    sweep = f"sweeps/{NOON:%Y/%m/%d}/{KEYS['sweep'].rpartition('/')[2]}"
    tool.bucket.objects[sweep] = json.dumps({"report": report()}).encode()
    rehearsal = KEYS["rehearsal-evidence"].replace("2026/11/26", f"{NOON:%Y/%m/%d}")
    tool.bucket.objects[rehearsal] = REHEARSAL.model_dump_json().encode()
    return tool


def records(tool: OperatorCli) -> dict[str, bytes]:
    return {key: body for key, body in tool.bucket.objects.items() if not key.startswith("backups/")}


def expected(tool: OperatorCli) -> list[Event]:
    return [event for key, body in sorted(records(tool).items()) for event in events(key, body)]


def lines(text: str) -> list[Event]:
    return [json.loads(line) for line in text.splitlines()]


def by_uid(exported: list[Event]) -> list[Event]:
    return sorted(exported, key=lambda event: str(event["metadata"]["uid"]))


def test_every_record_of_the_period_is_exported_once_and_again_with_the_same_uids() -> None:
    tool = filled()

    first, again = (tool.run("export", *FROM) for _ in range(2))

    assert first.exit_code == 0, first.output
    assert by_uid(lines(first.stdout)) == by_uid(expected(tool))
    assert len({event["metadata"]["uid"] for event in lines(first.stdout)}) == len(expected(tool))
    assert first.stdout == again.stdout
    assert first.stdout.isascii()
    assert f"{len(expected(tool))} ocsf events of {len(records(tool))} records" in first.stderr


def moved(tool: OperatorCli, days: int) -> None:
    """Make all records those of another day."""
    new = f"{NOON + timedelta(days=days):%Y/%m/%d}"
    tool.bucket.objects = {key.replace(f"{NOON:%Y/%m/%d}", new): body for key, body in records(tool).items()}


@pytest.mark.parametrize(("days", "number"), [(-2, 0), (-1, 5), (0, 5), (1, 0)])
def test_both_days_of_the_period_are_included_and_no_other(days: int, number: int) -> None:
    tool = filled()
    moved(tool, days)

    result = tool.run("export", "--from", f"{NOON - timedelta(days=1):%Y-%m-%d}", "--to", DAY, "--json")

    assert f"of {number} records" in result.stderr
    assert bool(result.stdout) == bool(number)


def test_a_file_is_for_its_owner_only_and_replaced_only_with_force(tmp_path: Path) -> None:
    tool, file = filled(), tmp_path / "events.ndjson"

    written = tool.run("export", *FROM, str(file), "--json")
    refused = tool.run("export", *FROM, str(file))
    replaced = tool.run("export", *FROM, str(file), "--force")

    assert (written.exit_code, replaced.exit_code) == (0, 0)
    fields = json.loads(written.stdout)
    assert (fields["events"], fields["records"], fields["unread"]) == (len(expected(tool)), 5, {})
    assert by_uid(lines(file.read_text())) == by_uid(expected(tool))
    assert file.stat().st_mode & 0o777 == 0o600
    assert "is already there" in str(refused.exception)
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


class Archived(FakeBucket):
    """A bucket in which S3 returns no object under a prefix, for a reason."""

    prefix = "acts/"
    error = RetryableError(fault("S3.InvalidObjectState", "the object is in Glacier"))

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        if limit and key.startswith(self.prefix):
            raise self.error
        return super().read(key, limit=limit)


def test_what_cannot_be_read_is_named_with_the_next_step_and_the_rest_is_exported() -> None:
    tool = filled()
    tool.bucket = Archived(objects=tool.bucket.objects)
    [evidence] = [key for key in tool.bucket.objects if key.startswith("evidence/2026")]
    tool.bucket.objects |= {
        evidence.replace("0001", "0002"): b"garbage",
        evidence.replace("0001", "222222222222"): b"{}",
    }

    result = tool.run("export", *FROM)

    assert result.exit_code == 1
    assert {event["metadata"]["log_name"] for event in lines(result.stdout)} == {"evidence", "sweeps"}
    assert "2 objects (S3.InvalidObjectState), the first is acts/" in result.stderr
    assert "restore them in S3" in result.stderr
    assert f"1 object (NOT_A_RECORD), the first is {evidence.replace('0001', '0002')}" in result.stderr
    assert "1 object under keys that no part of Joinguard writes" in result.stderr
    assert "222222222222" not in result.output


@pytest.mark.parametrize(
    "error",
    [
        RetryableError(fault("S3.ConnectionClosedError", "the connection was lost"), soon=True),
        RetryableError(fault("S3.ExpiredToken", "expired"), cause=Cause.CREDENTIALS_EXPIRED),
    ],
)
def test_an_export_that_ends_early_leaves_no_file(error: RetryableError, tmp_path: Path) -> None:
    tool = filled()
    tool.bucket = Archived(objects=tool.bucket.objects)
    tool.bucket.error = error

    result = tool.run("export", *FROM, str(tmp_path / "events.ndjson"))

    assert result.exception is error
    assert not [*tmp_path.iterdir()]


class Counting(FakeBucket):
    """A bucket that counts what is read."""

    read_so_far = 0

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        self.read_so_far += 1
        return super().read(key, limit=limit)


def test_the_number_of_objects_in_memory_does_not_grow_with_the_period() -> None:
    tool = filled()
    [(key, body)] = [each for each in tool.bucket.objects.items() if each[0].startswith("evidence/2026")]
    bucket = Counting(objects={key.replace("event-1", f"event-{number}"): body for number in range(500)})
    tool.bucket = bucket
    ahead: list[int] = []
    written = 0

    def write(_line: str) -> None:
        nonlocal written
        written += 1
        # Each record has two events.
        ahead.append(bucket.read_so_far - written // len(POLICIES))

    exported = export(tool.context(), days_between(NOON.date(), NOON.date()), write)

    assert (exported.records, exported.events) == (500, 500 * len(POLICIES))
    assert max(ahead) <= 64


def test_the_progress_bar_of_a_terminal_does_not_take_the_data() -> None:
    tool = filled()

    result = tool.run("export", *FROM, TTY_COMPATIBLE="1")

    assert by_uid(lines(result.stdout)) == by_uid(expected(tool))
    assert "exporting days" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--from"),
        (["--from", "yesterday"], "is not a day"),
        (["--from", DAY, "--to", f"{datetime(2020, 1, 1):%Y-%m-%d}"], "--to 2020-01-01 is before --from"),  # noqa: DTZ001
        (["--from", f"{NOON + timedelta(days=1):%Y-%m-%d}"], "is in the future. Use a day that has begun (UTC)"),
        (["--from", DAY, "--to", "9999-12-31"], "is not a day"),
        (["--from", DAY, "--format", "oscal"], "oscal"),
    ],
)
def test_wrong_use_is_refused_without_an_installation(arguments: list[str], message: str) -> None:
    tool = filled()
    tool.is_missing = True

    result = tool.run("export", *arguments)

    assert result.exit_code == 2
    assert message in result.output
