"""Records as OCSF events: valid for the schema that OCSF publishes, whatever a record of any version holds."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from handlers.core.errors import PermanentError, fault
from handlers.core.evidence.ocsf import VERSION, events
from schemas.contracts import json_schemas
from schemas.keys import evidence_key
from schemas.outcome import AttachmentResult
from tests.fake_queues import dead_letter
from tests.fakes import ACCOUNT, NOON, ORGANIZATION, POLICIES, World, joined
from tests.generated import instances
from tests.operator_cli import CONFIRM, operator_cli

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Event = dict[str, Any]

DAY: Final = "2026/11/26"
ID: Final = "0123456789abcdef" * 2
#: A key of each kind of record, by the name of its contract.
KEYS: Final[Mapping[str, str]] = {
    "evidence": f"evidence/{DAY}/event-1/acct-{ID}/0001.json",
    "rehearsal-evidence": f"evidence/rehearsal/{DAY}/event-1/0123456789abcdef.json",
    "act": f"acts/{DAY}/{ID}/intended.json",
    "configuration": f"configuration/{DAY}/{ID}.json",
    "sweep": f"sweeps/{DAY}/sweep-{'a' * 32}.json",
}
SCHEMAS: Final = json_schemas()


def versions(contract: str) -> list[str]:
    """Return the versions that a contract reads."""
    schema = SCHEMAS[contract]
    version = schema["$defs"]["SweepReport"] if contract == "sweep" else schema
    found = version["properties"]["schema_version"]
    return list(found["enum"]) if "enum" in found else [found["const"]]


def record(contract: str, version: str) -> st.SearchStrategy[Event]:
    def of_version(generated: Event) -> Event:
        holder = generated["report"] if contract == "sweep" else generated
        holder["schema_version"] = version
        return generated

    return instances(SCHEMAS[contract]).map(of_version)


@cache
def schema_of(class_uid: int) -> jsonschema.Draft202012Validator:
    """Return OCSF's own schema of a class, in which no attribute is allowed that the class does not have."""
    schemas = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION))
    name = schemas.lookup_class_name_from_uid(class_uid)
    return jsonschema.Draft202012Validator(schemas.get_class_schema(name, ["cloud", "security_control"]))


def mapped(key: str, written: Event) -> list[Event]:
    return list(events(key, json.dumps(written).encode()))


KINDS: Final = [(contract, version) for contract in KEYS for version in versions(contract)]


def test_every_kind_and_version_of_a_record_is_generated() -> None:
    assert [version for _, version in KINDS] == [
        "joinguard/evidence/1",
        "joinguard/evidence/2",
        "joinguard/evidence/3",
        "joinguard/rehearsal/1",
        "joinguard/act/1",
        "joinguard/act/2",
        "joinguard/act/3",
        "joinguard/configuration/1",
        "joinguard/configuration/2",
        "joinguard/sweep/1",
    ]


@pytest.mark.parametrize(("contract", "version"), KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_every_event_is_valid_for_ocsfs_own_schema(contract: str, version: str, data: st.DataObject) -> None:
    written = data.draw(record(contract, version))

    made = mapped(KEYS[contract], written)

    assert made, "every record is exported"
    for event in made:
        schema_of(event["class_uid"]).validate(event)
        assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
        assert event["metadata"]["log_version"] == version
        assert event["metadata"]["version"] == VERSION
        # In ASCII, as the command prints it.
        assert json.loads(json.dumps(event)) == event
    uids = [event["metadata"]["uid"] for event in made]
    assert len(set(uids)) == len(uids), "a repeated export can be deduplicated"


def test_the_schema_refuses_attributes_that_a_class_does_not_have() -> None:
    [event, *_] = mapped(*join())

    with pytest.raises(jsonschema.ValidationError):
        schema_of(event["class_uid"]).validate(event | {"nonsense": 1})


def join(world: World | None = None) -> tuple[str, Event]:
    world = world or World()
    world.handle(joined())
    [evidence] = world.evidence()
    return evidence_key(evidence), json.loads(evidence.model_dump_json(exclude_none=True))


def milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def test_a_join_is_one_event_for_each_policy() -> None:
    key, written = join()

    made = mapped(key, written)

    assert [event["policy"] for event in made] == [{"uid": each, "is_applied": True} for each in POLICIES]
    for number, event in enumerate(made):
        assert (event["class_name"], event["activity_name"]) == ("Entity Management", "Update")
        assert (event["status"], event["severity"]) == ("Success", "Informational")
        assert event["entity"]["uid"] == written["account"]["value"]
        assert event["metadata"]["uid"] == f"{key}#policies/{number}"
        assert event["metadata"]["correlation_uid"] == "event-1"
        assert event["metadata"]["tenant_uid"] == event["cloud"]["org"]["uid"] == ORGANIZATION
        assert event["time"] == milliseconds(datetime.fromisoformat(written["recorded_at"]))
        assert event["start_time"] == milliseconds(datetime.fromisoformat(written["event_time"]))
        assert ACCOUNT not in json.dumps(event)


def test_a_policy_that_could_not_be_attached_is_a_failure_of_high_severity() -> None:
    world = World()
    world.steps.fail("attach", PermanentError(fault("AccessDeniedException", "no")))

    failed, attached = mapped(*join(world))

    assert (failed["status"], failed["severity"]) == ("Failure", "High")
    assert failed["status_code"] == "AccessDeniedException"
    assert (attached["status"], attached["policy"]["is_applied"]) == ("Success", True)


@pytest.mark.parametrize("result", AttachmentResult)
def test_only_results_that_changed_something_are_updates_that_succeeded(result: AttachmentResult) -> None:
    key, written = join()
    [policy, *_] = written["policies"]

    [event] = mapped(key, written | {"policies": [policy | {"result": result}]})

    changed = (event["activity_name"], event["status"]) == ("Update", "Success")
    assert changed == (result in {AttachmentResult.ATTACHED, AttachmentResult.REMOVED})
    assert (event["severity"] == "High") == (result is AttachmentResult.FAILED)


CALLER: Final = {"value": f"prin-{ID}", "key_version": "k"}


@pytest.mark.parametrize(
    ("name", "called", "activity"),
    [
        ("DetachPolicy", {"principal": CALLER, "policy_id": POLICIES[0]}, "Update"),
        ("DeletePolicy", {"principal": CALLER, "policy_id": POLICIES[0]}, "Delete"),
        ("DisablePolicyType", {"policy_type": "SERVICE_CONTROL_POLICY"}, "Disable"),
    ],
)
def test_a_call_of_somebody_else_is_an_event_of_its_own(name: str, called: Event, activity: str) -> None:
    key, written = join()

    *_, event = mapped(key, written | {"event_name": name, "called": called})

    assert (event["activity_name"], event["severity"]) == (activity, "Medium")
    assert event["api"]["operation"] == name
    assert event.get("actor") == ({"user": {"uid": CALLER["value"]}} if "principal" in called else None)
    assert event["time"] == milliseconds(datetime.fromisoformat(written["event_time"]))


def test_an_action_of_an_operator_names_who_why_and_each_message() -> None:
    tool = operator_cli(dead_letter(1), dead_letter(2))
    tool.run("drop", "--id", "m-1", "--id", "m-2", *CONFIRM)
    keys = sorted(key for key in tool.bucket.objects if key.startswith("acts/"))

    done, intended = (list(events(key, tool.bucket.objects[key])) for key in keys)

    assert [event["status"] for event in intended] == ["intended"] * 3
    assert [event["status"] for event in done] == ["Success", "dropped", "dropped"]
    assert [event["entity"]["type"] for event in done] == ["Action", "Message", "Message"]
    for event in (*intended, *done):
        assert (event["activity_name"], event["comment"]) == ("Delete", "x")
        assert event["actor"]["user"]["uid"].startswith("prin-")
        assert event["actor"]["user"]["name"].startswith("name-")


@pytest.mark.parametrize(
    ("ended", "status"), [("completed", "Success"), ("stopped", "Failure"), ("interrupted", "Failure")]
)
def test_only_an_action_that_was_completed_is_a_success(ended: str, status: str) -> None:
    tool = operator_cli(dead_letter(1))
    tool.run("drop", "--id", "m-1", *CONFIRM)
    [(key, body)] = [each for each in tool.bucket.objects.items() if each[0].endswith("done.json")]

    [action, _] = mapped(key, json.loads(body) | {"ended": ended})

    assert action["status"] == status


def test_a_departure_is_an_event_of_its_own() -> None:
    key, written = join()
    departure = {"cause": "left", "left_at": written["event_time"], "event_id": "event-9"}

    [left] = mapped(key, written | {"status": "CLOSED", "policies": [], "departure": departure})

    assert (left["activity_name"], left["entity"]["uid"]) == ("Unenroll", written["account"]["value"])
    assert (left["status"], left["unmapped"]["departure"]["event_id"]) == ("Success", "event-9")


def report(**counts: int) -> Event:
    return (
        {
            "sweep_id": "s",
            "organization_id": ORGANIZATION,
            "guardrails": "0" * 64,
            "mode": "report",
            "begun_at": NOON.isoformat(),
            "decided_at": (NOON + timedelta(minutes=1)).isoformat(),
        }
        | dict.fromkeys(("members", "covered", "with_gaps", "unclear", "requested"), 0)
        | counts
    )


@pytest.mark.parametrize(
    ("counts", "status"),
    [({"members": 3, "covered": 3}, "Pass"), ({"with_gaps": 1}, "Fail"), ({"unclear": 1}, "Warning")],
)
def test_a_sweep_says_whether_every_account_carries_its_policies(counts: dict[str, int], status: str) -> None:
    [event] = mapped(KEYS["sweep"], {"report": report(**counts)})

    assert event["class_name"] == "Compliance Finding"
    assert event["compliance"]["status"] == status


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("POLICY_CHANGED", "Fail"),
        ("NO_POLICY", "Fail"),
        ("TYPE_DISABLED", "Fail"),
        ("POLICY_UNREAD", "Warning"),
        ("UNREAD", "Warning"),
    ],
)
def test_what_could_not_be_read_is_a_warning_and_what_is_wrong_a_failure(kind: str, status: str) -> None:
    written: Event = {"report": report() | {"faults": [{"kind": kind, "what": "p-12345678"}]}}

    whole, found = mapped(KEYS["sweep"], written)

    assert whole["compliance"]["status"] == "Warning", "nobody knows whether every account carries its policies"
    assert (found["compliance"]["status"], found["status_code"]) == (status, kind)


def test_a_gap_has_the_same_finding_in_every_sweep() -> None:
    account = {"value": f"acct-{ID}", "key_version": "k"}
    written = {
        "report": report(with_gaps=1),
        "gaps": [{"account": account, "policy_id": POLICIES[0], "cause": "MISSING"}],
        "departed": [account],
    }
    later = KEYS["sweep"].replace("aaa", "bbb")

    first, second = (mapped(key, written) for key in (KEYS["sweep"], later))

    _, gap, left = first
    assert gap["resources"][0]["uid"] == account["value"]
    assert (gap["compliance"]["status"], gap["severity"], gap["status_code"]) == ("Fail", "High", "MISSING")
    assert gap["finding_info"] == second[1]["finding_info"]
    assert gap["metadata"]["uid"] != second[1]["metadata"]["uid"]
    assert (left["activity_name"], left["entity"]["uid"]) == ("Unenroll", account["value"])


def without_a_field(written: Event) -> Event:
    return {name: value for name, value in written.items() if name != "recorded_at"}


def of_another_version(written: Event) -> Event:
    return written | {"schema_version": "joinguard/evidence/99"}


@pytest.mark.parametrize("change", [without_a_field, of_another_version])
def test_an_object_that_is_not_the_record_that_its_key_names_is_refused(change: Callable[[Event], Event]) -> None:
    key, written = join()

    with pytest.raises(ValueError, match="validation error"):
        mapped(key, change(written))


@pytest.mark.parametrize(
    "key",
    [f"evidence/{DAY}/{ACCOUNT}.json", f"backups/{DAY}/{ID}.jsonl", KEYS["act"].replace("intended", "other")],
)
def test_a_key_that_no_part_of_joinguard_writes_is_refused(key: str) -> None:
    _, written = join()

    with pytest.raises(ValueError, match="no part of Joinguard"):
        mapped(key, written)
