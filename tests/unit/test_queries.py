"""The queries of infra/queries on records that the workers leave on fakes, and on records of older versions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from handlers.core.errors import PermanentError, fault
from infra.deploy.build import ROOT
from infra.deploy.template import load
from tests.fake_queues import dead_letter
from tests.fakes import POLICIES, World, joined
from tests.operator_cli import CONFIRM, operator_cli
from tests.removals import EDGE, REGIONS
from tests.tables import QUERIES, database, rows, translated
from tests.unit.test_ocsf import KEYS
from tests.unit.test_remove import retired
from tests.unit.test_restores import Guarded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FIRST, SECOND = POLICIES
DAYS: Final = ("2026/11/24", "2026/11/24")
TABLES: Final[dict[str, dict[str, str]]] = {
    each["Properties"]["TableInput"]["Name"]: {
        column["Name"]: column["Type"] for column in each["Properties"]["TableInput"]["StorageDescriptor"]["Columns"]
    }
    for each in load((ROOT / "infra" / "template.yaml").read_text())["Resources"].values()
    if each["Type"] == "AWS::Glue::Table"
}


def asked(folder: Path, objects: Mapping[str, bytes], query: str, *parameters: str) -> list[dict[str, Any]]:
    for key, body in objects.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return rows(database(folder, TABLES), query, *parameters)


def joins(folder: Path, world: World, days: tuple[str, str] = DAYS) -> list[dict[str, Any]]:
    return asked(folder, world.archive.bodies, "joins", *days)


def test_each_query_is_documented_and_names_its_parameters() -> None:
    """Athena replaces the question marks, so there are none in comments."""
    for path in QUERIES.glob("*.sql"):
        comments = [line for line in path.read_text().splitlines() if line.lstrip().startswith("--")]
        assert any(line.startswith("-- Parameters: the first and the last day") for line in comments)
        assert "?" not in "".join(comments)
        assert translated(path.stem).count("?") >= len(DAYS)


def test_a_failed_join_that_is_handled_again_carries_its_policies_from_then_on(tmp_path: Path) -> None:
    world = World()
    world.steps.fail("attach", PermanentError(fault("AccessDeniedException", "no")))
    world.handle(joined())
    [before] = joins(tmp_path, world)
    world.clock.advance(90)
    world.handle(joined())

    [after] = joins(tmp_path, world)

    assert (before["status"], before["missing"], before["carried_at"]) == ("FAILED", [FIRST], None)
    assert (after["status"], after["missing"], after["carried"]) == ("ENFORCED", [], [FIRST, SECOND])
    assert after["seconds"] == pytest.approx(95, abs=1)


def changed(world: World, **fields: object) -> dict[str, bytes]:
    """Return the objects of a world that handled a join, and later evidence of the account with other fields."""
    [(key, body)] = world.archive.bodies.items()
    later = json.loads(body) | {"recorded_at": "2026-11-24T13:00:00Z"} | fields
    return {key: body, key.replace("0001", "0002"): json.dumps(later).encode()}


@pytest.mark.parametrize(
    "fields",
    [
        {"course": "interrupted", "required": [], "policies": []},
        {"event_name": "RemovalRequest", "policies": [{"policy_id": "p-12345678", "result": "REMOVED"}]},
        {"status": "CLOSED", "event_name": "LeaveOrganization", "required": [], "policies": []},
    ],
)
def test_evidence_that_does_not_say_what_an_account_carries_changes_nothing(
    tmp_path: Path, fields: dict[str, object]
) -> None:
    world = World()
    world.handle(joined())

    [row] = asked(tmp_path, changed(world, **fields), "joins", *DAYS)

    assert (row["status"], row["required"], row["carried"], row["missing"]) == (
        "ENFORCED",
        [*POLICIES],
        [*POLICIES],
        [],
    )


def test_an_account_that_only_the_sweep_requested_did_not_join(tmp_path: Path) -> None:
    world = World()
    world.handle(joined())
    [(key, body)] = world.archive.bodies.items()
    request = json.loads(body) | {"event_name": "JoinRequest", "source": "joinguard.sweep"}

    assert asked(tmp_path, {key: json.dumps(request).encode()}, "joins", *DAYS) == []


def test_accounts_that_lack_something_come_first(tmp_path: Path) -> None:
    world = World()
    other = "333333333333"
    world.organizations.attached[other] = []
    world.handle(joined(age=50))
    world.steps.fail("attach", PermanentError(fault("AccessDeniedException", "no")))
    world.handle(joined(other, event_id="event-2"))

    assert [row["status"] for row in joins(tmp_path, world)] == ["FAILED", "ENFORCED"]


def test_joins_of_other_days_are_not_in_the_period(tmp_path: Path) -> None:
    world = World()
    world.handle(joined())

    assert joins(tmp_path, world, ("2026/11/25", "2026/11/30")) == []


def test_evidence_of_the_first_version_and_rehearsals_do_not_break_queries(tmp_path: Path) -> None:
    world = World()
    world.handle(joined())
    [(key, body)] = world.archive.bodies.items()
    first = json.loads(body) | {"schema_version": "joinguard/evidence/1", "event_id": "event-0"}
    first["body_sha256"] = first.pop("body_digest")
    del first["guardrails"]
    older = key.replace("event-1", "event-0").replace(f"{first['account']['value']}/", "")
    rehearsal = KEYS["rehearsal-evidence"].replace("2026/11/26", "2026/11/24")
    world.archive.bodies |= {older: json.dumps(first).encode(), rehearsal: b'{"event_id": 1, "required": "no list"}'}

    [row] = joins(tmp_path, world)

    assert row["status"] == "ENFORCED"


def test_an_action_without_messages_and_one_that_was_cut_off_are_shown_too(tmp_path: Path) -> None:
    tool = operator_cli(dead_letter(1))
    tool.run("redrive", "--all", *CONFIRM)
    intended = next(key for key in tool.bucket.objects if key.endswith("intended.json"))
    alone = json.loads(tool.bucket.objects[intended]) | {"act_id": "x", "action": "sweep", "letters": []}
    objects = tool.bucket.objects | {KEYS["act"].replace("2026/11/26", "2026/11/24"): json.dumps(alone).encode()}

    found = asked(tmp_path, objects, "actions", *DAYS, DAYS[1])

    assert len(found) == 2
    by_action = {row["action"]: row for row in found}
    assert (by_action["sweep"]["ended"], by_action["sweep"]["event_id"]) == (None, None)
    assert (by_action["redrive"]["ended"], by_action["redrive"]["account"]) == ("completed", None)
    assert by_action["redrive"]["reason"] == "x"


@pytest.mark.parametrize("seconds", [0, 30])
def test_what_somebody_detached_is_off_until_it_is_put_back(tmp_path: Path, seconds: int) -> None:
    world = Guarded()
    world.clock.advance(60)
    detached = world.detach(by="jane")
    world.clock.advance(seconds)
    world.receive(detached)

    [row] = asked(tmp_path, world.archive.bodies, "removals", *DAYS)

    assert (row["policy"], row["cause"], row["seconds_without"]) == (FIRST, "DetachPolicy", seconds)
    assert row["who"].startswith("prin-")


def test_an_attachment_in_the_second_of_a_call_is_not_taken_for_putting_back(tmp_path: Path) -> None:
    """CloudTrail gives the time of a call in whole seconds, and evidence in microseconds."""
    world = Guarded()
    [body] = world.archive.bodies.values()
    called = {"principal": None, "policy_id": FIRST}
    detached = json.loads(body) | {"event_id": "detach-1", "event_time": "2026-11-24T12:00:00Z", "policies": []}
    detached |= {"event_name": "DetachPolicy", "called": called}
    key = next(iter(world.archive.bodies)).replace("event-1", "detach-1")

    [row] = asked(tmp_path, world.archive.bodies | {key: json.dumps(detached).encode()}, "removals", *DAYS)

    assert (row["policy"], row["put_back_at"], row["seconds_without"]) == (FIRST, None, None)


def test_what_nobody_put_back_is_still_off_and_our_own_removals_name_no_caller(tmp_path: Path) -> None:
    world = retired()
    world.clock.advance(60)
    world.remove()

    found = asked(tmp_path, world.archive.bodies, "removals", *DAYS)

    assert {(row["policy"], row["cause"], row["who"], row["put_back_at"]) for row in found} == {
        (EDGE, "Joinguard", None, None),
        (REGIONS, "Joinguard", None, None),
    }
