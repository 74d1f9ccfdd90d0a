"""Audit records: they name nobody, not even to somebody who knows all else in a body, and older ones stay readable."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import jsonschema

from schemas.audit import AuditRecord
from schemas.contracts import json_schemas
from tests.fake_queues import dead_letter
from tests.fakes import ACCOUNT, FakePseudonyms, Steps, World, joined
from tests.operator_cli import OperatorCli, operator_cli

ACTING = ("--confirm", "--reason", "x")


def records(tool: OperatorCli) -> str:
    return "\n".join(body.decode() for key, body in tool.bucket.objects.items() if key.startswith("acts/"))


def digests(tool: OperatorCli) -> list[dict[str, Any]]:
    return [each for line in records(tool).splitlines() for each in json.loads(line)["letters"]]


def test_no_act_holds_a_digest_that_trying_all_accounts_undoes() -> None:
    tool = operator_cli(dead_letter(1))
    tool.run("enforce", ACCOUNT, *ACTING)
    tool.run("redrive", "--all", *ACTING)
    tool.queues.messages = [dead_letter(2), dead_letter(3)]
    tool.run("edit", "m-2", *ACTING, EDITOR="sed -i s/event-2/event-9/")
    key = tool.run("drop", "--id", "m-3", *ACTING).output.partition("`restore ")[2].partition("`")[0]
    tool.run("restore", key, *ACTING)

    bodies = [each.body for each in tool.queues.joins] + [dead_letter(number).body for number in (1, 2, 3)]
    assert len(digests(tool)) >= 10
    assert {each["schema_version"] for each in map(json.loads, records(tool).splitlines())} == {"joinguard/act/2"}
    for body in bodies:
        assert sha256(body.encode()).hexdigest() not in records(tool)
    assert {each["body_digest"] for each in digests(tool)} >= {
        FakePseudonyms(Steps()).digest("body", body) for body in bodies
    }


def test_an_act_and_evidence_name_a_body_by_the_same_digest() -> None:
    world, body = World(), json.dumps(joined())
    world.handle(body)
    tool = operator_cli(dead_letter(1, body=body))

    tool.run("redrive", "--all", *ACTING)

    [evidence] = world.evidence()
    assert {each["body_digest"] for each in digests(tool)} == {evidence.body_digest}


def test_an_event_id_that_holds_an_account_id_is_not_on_record() -> None:
    event = joined(event_id=f"event-{ACCOUNT}")
    tool = operator_cli(dead_letter(1, body=json.dumps(event), code=f"Odd {ACCOUNT}"))

    tool.run("redrive", "--all", *ACTING)
    tool.queues.messages = tool.queues.joins

    assert len(digests(tool)) == 2
    assert ACCOUNT not in records(tool)
    assert {each["error_code"] for each in digests(tool)} == {"OTHER"}
    assert len(json.loads(tool.run("show", "m-1", "--json").stdout)["history"]) == 1, "it is found all the same"


def test_what_sqs_said_of_a_letter_that_it_refused_is_on_record_as_a_code() -> None:
    tool = operator_cli(dead_letter(1), dead_letter(2), refused_ids=["m-1"])

    tool.run("redrive", "--all", *ACTING)

    assert {each["result"] for each in digests(tool) if "result" in each} == {
        "refused: InternalError",
        "deleted, enforced",
    }


def old(tool: OperatorCli, **told: Any) -> None:
    """Put a record of version 1 into the bucket."""
    act = {
        "schema_version": "joinguard/act/1",
        "act_id": "a",
        "action": "redrive",
        "phase": "intended",
        "actor": {"value": "acct-" + "0" * 32, "key_version": "k"},
        "actor_id": "AIDAEXAMPLE",
        "reason": "long ago",
        "letters": [{"body_sha256": "0" * 64, "redrives": 0} | told],
        "results": {},
        "recorded_at": "2026-11-24T11:30:00Z",
    }
    jsonschema.validate(act, json_schemas()["act"])
    assert AuditRecord.model_validate(act).schema_version == "joinguard/act/1"
    tool.bucket.objects["acts/2026/11/24/a/intended.json"] = json.dumps(act).encode()


def test_what_older_records_hold_of_a_letter_is_found_by_its_body_and_by_its_event() -> None:
    for told in ({"body_sha256": sha256(dead_letter(1).body.encode()).hexdigest()}, {"event_id": "event-1"}):
        tool = operator_cli(dead_letter(1))
        old(tool, **told)

        assert len(json.loads(tool.run("show", "m-1", "--json").stdout)["history"]) == 1
    old(tool, event_id="event-2")
    assert json.loads(tool.run("show", "m-1", "--json").stdout)["history"] == []


def test_what_older_records_say_was_restored_is_not_restored_again() -> None:
    tool = operator_cli(dead_letter(1))
    key = tool.run("drop", "--id", "m-1", *ACTING).output.partition("`restore ")[2].partition("`")[0]
    old(tool, message_id="m-1")
    intended = json.loads(tool.bucket.objects["acts/2026/11/24/a/intended.json"]) | {"action": "restore"}
    done = intended | {"phase": "done", "letters": [intended["letters"][0] | {"result": "restored"}]}
    tool.bucket.objects["acts/2026/11/24/a/intended.json"] = json.dumps(intended).encode()
    tool.bucket.objects["acts/2026/11/24/a/done.json"] = json.dumps(done).encode()

    assert "it was restored before" in tool.run("restore", key).output
