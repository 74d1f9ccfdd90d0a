"""Audit records: account ids cannot be recovered from them, and older records stay readable."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import jsonschema

from handlers.core.errors import RetryableError
from schemas.audit import AuditRecord
from schemas.contracts import json_schemas
from tests.fake_queues import dead_letter
from tests.fakes import ACCOUNT, FakePseudonyms, Steps, World, joined
from tests.operator_cli import CONFIRM, FakeBucket, OperatorCli, backup_key, operator_cli


def records(tool: OperatorCli) -> str:
    return "\n".join(body.decode() for key, body in tool.bucket.objects.items() if key.startswith("acts/"))


def digests(tool: OperatorCli) -> list[dict[str, Any]]:
    return [each for line in records(tool).splitlines() for each in json.loads(line)["letters"]]


def test_no_record_has_a_digest_that_trying_all_account_ids_would_reveal() -> None:
    tool = operator_cli(dead_letter(1))
    tool.run("enforce", ACCOUNT, *CONFIRM)
    tool.run("redrive", "--all", *CONFIRM)
    tool.queues.messages = [dead_letter(2), dead_letter(3)]
    tool.run("edit", "m-2", *CONFIRM, EDITOR="sed -i s/envelope-2/envelope-9/")
    key = backup_key(tool.run("drop", "--id", "m-3", *CONFIRM))
    tool.run("restore", key, *CONFIRM)

    bodies = [each.body for each in tool.queues.joins] + [dead_letter(number).body for number in (1, 2, 3)]
    assert len(digests(tool)) >= 10
    assert {each["schema_version"] for each in map(json.loads, records(tool).splitlines())} == {"joinguard/act/3"}
    for body in bodies:
        assert sha256(body.encode()).hexdigest() not in records(tool)
    assert {each["body_digest"] for each in digests(tool)} >= {
        FakePseudonyms(Steps()).digest("body", body) for body in bodies
    }


def test_audit_records_and_evidence_have_the_same_digest_of_a_body() -> None:
    world, body = World(), json.dumps(joined())
    world.handle(body)
    tool = operator_cli(dead_letter(1, body=body))

    tool.run("redrive", "--all", *CONFIRM)

    [evidence] = world.evidence()
    assert {each["body_digest"] for each in digests(tool)} == {evidence.body_digest}


def test_an_event_id_that_contains_an_account_id_is_not_recorded() -> None:
    event = joined(event_id=f"event-{ACCOUNT}")
    tool = operator_cli(dead_letter(1, body=json.dumps(event), code=f"Odd {ACCOUNT}"))

    tool.run("redrive", "--all", *CONFIRM)
    tool.queues.messages = tool.queues.joins

    assert len(digests(tool)) == 2
    assert ACCOUNT not in records(tool)
    assert {each["error_code"] for each in digests(tool)} == {"OTHER"}
    assert len(json.loads(tool.run("show", "m-1", "--json").stdout)["history"]) == 1, "the record is not found"


def test_a_message_that_sqs_refuses_is_recorded_with_the_code() -> None:
    tool = operator_cli(dead_letter(1), dead_letter(2), refused_ids=["m-1"])

    tool.run("redrive", "--all", *CONFIRM)

    assert {each["result"] for each in digests(tool) if "result" in each} == {
        "refused: InternalError",
        "deleted, enforced",
    }


def add_old_record(tool: OperatorCli, **fields: Any) -> None:
    """Add a record of version 1 that has these fields of a message."""
    record = {
        "schema_version": "joinguard/act/1",
        "act_id": "a",
        "action": "redrive",
        "phase": "intended",
        "actor": {"value": "acct-" + "0" * 32, "key_version": "k"},
        "actor_id": "AIDAEXAMPLE",
        "reason": "long ago",
        "letters": [{"body_sha256": "0" * 64, "redrives": 0} | fields],
        "results": {},
        "recorded_at": "2026-11-24T11:30:00Z",
    }
    jsonschema.validate(record, json_schemas()["act"])
    assert AuditRecord.model_validate(record).schema_version == "joinguard/act/1"
    tool.bucket.objects["acts/2026/11/24/a/intended.json"] = json.dumps(record).encode()


def test_older_records_of_a_message_are_found_by_its_body_and_by_its_event() -> None:
    for fields in ({"body_sha256": sha256(dead_letter(1).body.encode()).hexdigest()}, {"event_id": "event-1"}):
        tool = operator_cli(dead_letter(1))
        add_old_record(tool, **fields)

        assert len(json.loads(tool.run("show", "m-1", "--json").stdout)["history"]) == 1
    add_old_record(tool, event_id="event-2")
    assert json.loads(tool.run("show", "m-1", "--json").stdout)["history"] == []


def test_messages_that_older_records_report_as_restored_are_not_restored_again() -> None:
    tool = operator_cli(dead_letter(1))
    key = backup_key(tool.run("drop", "--id", "m-1", *CONFIRM))
    add_old_record(tool, message_id="m-1")
    intended = json.loads(tool.bucket.objects["acts/2026/11/24/a/intended.json"]) | {"action": "restore"}
    done = intended | {"phase": "done", "letters": [intended["letters"][0] | {"result": "restored"}]}
    tool.bucket.objects["acts/2026/11/24/a/intended.json"] = json.dumps(intended).encode()
    tool.bucket.objects["acts/2026/11/24/a/done.json"] = json.dumps(done).encode()

    assert "it was restored before" in tool.run("restore", key).output


class ReplacingBucket(FakeBucket):
    """A bucket in which somebody puts another object under every key first."""

    def record(self, key: str, body: bytes) -> str:
        self.objects[key] = b"planted"
        return super().record(key, body)


def test_an_action_whose_record_cannot_be_written_is_not_performed() -> None:
    tool = operator_cli(dead_letter(1))
    tool.bucket = ReplacingBucket()

    result = tool.run("redrive", "--all", *CONFIRM)

    assert isinstance(result.exception, RetryableError)
    assert "EVIDENCE_CONFLICT" in str(result.exception)
    assert [key.rpartition("/")[2] for key in tool.bucket.objects] == ["intended.json"]
    assert (tool.queues.joins, tool.queues.messages) == ([], [dead_letter(1)])
