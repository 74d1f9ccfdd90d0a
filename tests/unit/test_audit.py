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


def records(at: OperatorCli) -> str:
    return "\n".join(body.decode() for key, body in at.bucket.objects.items() if key.startswith("acts/"))


def digests(at: OperatorCli) -> list[dict[str, Any]]:
    return [each for line in records(at).splitlines() for each in json.loads(line)["letters"]]


def test_no_act_holds_a_digest_that_trying_all_accounts_undoes() -> None:
    at = operator_cli(dead_letter(1))
    at.run("enforce", ACCOUNT, *ACTING)
    at.run("redrive", "--all", *ACTING)
    at.queues.lying = [dead_letter(2), dead_letter(3)]
    at.run("edit", "m-2", *ACTING, EDITOR="sed -i s/event-2/event-9/")
    key = at.run("drop", "--id", "m-3", *ACTING).output.partition("`restore ")[2].partition("`")[0]
    at.run("restore", key, *ACTING)

    bodies = [each.body for each in at.queues.joins] + [dead_letter(number).body for number in (1, 2, 3)]
    assert len(digests(at)) >= 10
    assert {each["schema_version"] for each in map(json.loads, records(at).splitlines())} == {"joinguard/act/2"}
    for body in bodies:
        assert sha256(body.encode()).hexdigest() not in records(at)
    assert {each["body_digest"] for each in digests(at)} >= {
        FakePseudonyms(Steps()).digest("body", body) for body in bodies
    }


def test_an_act_and_evidence_name_a_body_by_the_same_digest() -> None:
    world, body = World(), json.dumps(joined())
    world.handle(body)
    at = operator_cli(dead_letter(1, body=body))

    at.run("redrive", "--all", *ACTING)

    [evidence] = world.proven()
    assert {each["body_digest"] for each in digests(at)} == {evidence.body_digest}


def test_an_event_id_that_holds_an_account_id_is_not_on_record() -> None:
    event = joined(event_id=f"event-{ACCOUNT}")
    at = operator_cli(dead_letter(1, body=json.dumps(event), code=f"Odd {ACCOUNT}"))

    at.run("redrive", "--all", *ACTING)
    at.queues.lying = at.queues.joins

    assert len(digests(at)) == 2
    assert ACCOUNT not in records(at)
    assert {each["error_code"] for each in digests(at)} == {"OTHER"}
    assert len(json.loads(at.run("show", "m-1", "--json").stdout)["history"]) == 1, "it is found all the same"


def test_what_sqs_said_of_a_letter_that_it_refused_is_on_record_as_a_code() -> None:
    at = operator_cli(dead_letter(1), dead_letter(2), refuses=["m-1"])

    at.run("redrive", "--all", *ACTING)

    assert {each["result"] for each in digests(at) if "result" in each} == {
        "refused: InternalError",
        "deleted, enforced",
    }


def old(at: OperatorCli, **told: Any) -> None:
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
    at.bucket.objects["acts/2026/11/24/a/intended.json"] = json.dumps(act).encode()


def test_what_older_records_hold_of_a_letter_is_found_by_its_body_and_by_its_event() -> None:
    for told in ({"body_sha256": sha256(dead_letter(1).body.encode()).hexdigest()}, {"event_id": "event-1"}):
        at = operator_cli(dead_letter(1))
        old(at, **told)

        assert len(json.loads(at.run("show", "m-1", "--json").stdout)["history"]) == 1
    old(at, event_id="event-2")
    assert json.loads(at.run("show", "m-1", "--json").stdout)["history"] == []


def test_what_older_records_say_was_restored_is_not_restored_again() -> None:
    at = operator_cli(dead_letter(1))
    key = at.run("drop", "--id", "m-1", *ACTING).output.partition("`restore ")[2].partition("`")[0]
    old(at, message_id="m-1")
    intended = json.loads(at.bucket.objects["acts/2026/11/24/a/intended.json"]) | {"action": "restore"}
    done = intended | {"phase": "done", "letters": [intended["letters"][0] | {"result": "restored"}]}
    at.bucket.objects["acts/2026/11/24/a/intended.json"] = json.dumps(intended).encode()
    at.bucket.objects["acts/2026/11/24/a/done.json"] = json.dumps(done).encode()

    assert "it was restored before" in at.run("restore", key).output
