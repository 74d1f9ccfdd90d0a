"""After a whole run, nothing that is kept, counted or said names an account, a person or an ARN, in any spelling.

One run of everything that writes: joins, failures, hostile messages, departures, drift, a sweep, rehearsals, and an
operator's actions. Then everything is read back and searched by tests/disclosures.py, which shares no code with the
redaction. What may hold account ids by design, and so is not searched:

- the tables, whose rows are found by the account's id (schemas/README.md);
- the bodies of messages in the queues and the attributes that their senders gave them, which stay as they were sent
  (`CARRIED` in schemas/dead_letter.py), and their backups under `backups/`;
- the guardrails and approved plans in the bucket of zips, which name accounts;
- the screens of `list --by account`, `show`, `outcome` and others, whose purpose is to name accounts to operators;
- an event's id with an account id in base64: only AWS and operators can send events, and a word that may be base64
  cannot be told from an id of AWS;
- the owner of a pause, on the screen of `pauses`: an operator writes whom others can ask.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pytest

from infra.local.events import account_departed, policy_detached, policy_updated
from infra.local.waiting import until
from schemas.dead_letter import ORDER
from schemas.keys import REHEARSAL_ROW
from tests.disclosures import Disclosures
from tests.e2e.test_operate import WAIT, operate
from tests.sweeps import Sweeps, enforcing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.conftest import Pipeline

#: The part of an account id's spelling that differs.
SPELLINGS: Final[dict[str, Callable[[str], str]]] = {
    "plain": str,
    "with dashes": "-".join,
    "with spaces": lambda each: f"{each[:4]} {each[4:8]} {each[8:]}",
    "with underscores": lambda each: f"{each[:6]}_{each[6:]}",
    "in an ARN": lambda each: f"arn:aws:iam::{each}:user/someone",
    "in a URL": lambda each: "".join(f"%{ord(digit):02X}" for digit in each),
    "in an ARN in a URL": lambda each: quote(f"arn:aws:iam::{each}:user/someone", safe=""),
    "in HTML": lambda each: "".join(f"&#{ord(digit)};" for digit in each),
    "in JSON": lambda each: "".join(f"\\u{ord(digit):04x}" for digit in each),
    "fullwidth": lambda each: "".join(chr(0xFF10 + int(digit)) for digit in each),
    "Arabic": lambda each: "".join(chr(0x660 + int(digit)) for digit in each),
    "with invisible characters": "\u200b".join,
    "in base64": lambda each: base64.b64encode(f"it is {each}".encode()).decode(),
    "in hexadecimal": lambda each: each.encode().hex(),
}
#: Those that an operator or AWS may write into a reason or an error message. Nobody writes base64 into a sentence.
IN_SENTENCES: Final = [spelled for name, spelled in SPELLINGS.items() if name not in {"in base64", "in hexadecimal"}]
#: Commands whose screens name no account unless `--reveal` is given.
PSEUDONYMOUS: Final = (
    ("actions",),
    ("backups",),
    ("coverage",),
    ("enforce", "--gaps"),
    ("list",),
    ("list", "--by", "code"),
    ("pauses",),
    ("sweep",),
)

#: The length of a name that does not occur by chance in what a run leaves behind.
_TELLING: Final = 8


@dataclass(frozen=True)
class Kept:
    """What a run left behind: where each piece is, and its bytes."""

    pieces: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict, repr=False)

    def add(self, kind: str, where: str, piece: object) -> None:
        raw = piece if isinstance(piece, bytes) else piece.encode() if isinstance(piece, str) else _json(piece)
        self.pieces.setdefault(kind, []).append((where, raw))

    def disclosed(self, kind: str, search: Disclosures) -> list[tuple[str, list[str], str]]:
        """Return where something is disclosed, what, and the beginning of the piece."""
        found = ((where, search.find(raw), raw) for where, raw in self.pieces[kind])
        return [(where, what, raw[:500].decode(errors="replace")) for where, what, raw in found if what]


def _json(piece: object) -> bytes:
    return json.dumps(piece, default=str, ensure_ascii=False).encode()


@dataclass(frozen=True, repr=False)
class Run:
    """A run of everything, whose people have names that occur nowhere else."""

    pipeline: Pipeline
    kept: Kept
    person: str
    owner: str

    def search(self, kind: str) -> Disclosures:
        """Return the ids and names that this kind of piece must not disclose: those of the whole organization."""
        pages = self.pipeline.client("organizations").get_paginator("list_accounts").paginate()
        accounts = [each for page in pages for each in page["Accounts"]]
        # Shorter ones, which other tests choose, occur in checksums by chance.
        boxes = {each["Email"].partition("@")[0].lower() for each in accounts}
        names = {self.person, *(each for each in boxes if len(each) >= _TELLING)}
        names |= {self.owner} if kind != "screens" else set()
        ids = {self.pipeline.at.management_account_id, *(each["Id"] for each in accounts)}
        return Disclosures(frozenset(ids), frozenset(names))

    def story(self) -> None:
        """Let everything happen that writes something."""
        self.joins()
        self.hostile_messages()
        self.errors_of_aws()
        self.drift_and_departure()
        self.rehearse()
        self.operate()
        self.sweep()

    def joins(self) -> None:
        pipeline = self.pipeline
        for event in (pipeline.invited, pipeline.created):
            pipeline.handle(event(pipeline.account()))
        pipeline.handle(pipeline.requested(pipeline.account()).model_dump_json())
        pipeline.handle(pipeline.invited(pipeline.account(), action="APPROVE_ALL_FEATURES"))

    def hostile_messages(self) -> None:
        """Put ids, names and ARNs where a sender may put any text."""
        pipeline = self.pipeline
        account_id = pipeline.account()
        for name, spelled in SPELLINGS.items():
            text = spelled(account_id)
            event_id = account_id if name == "in base64" else text
            named = f"{text} of {self.person}@example.com"
            join = pipeline.invited(account_id)
            for detail in (
                {"eventID": event_id},
                {"eventName": named},
                {"eventSource": named},
                {"eventTime": named},
                {
                    "eventID": named,
                    "eventName": "RemoveAccountFromOrganization",
                    "requestParameters": {"accountId": text},
                },
                {"responseElements": {"handshake": {"id": text, "action": named, "state": named}}},
                {"userIdentity": {"arn": named, "accountId": text, "principalId": named}},
            ):
                pipeline.watch.put(join | {"detail": join["detail"] | detail})
            for message in (text, named, json.dumps(named), json.dumps({named: named}), json.dumps(join)[:-3] + text):
                pipeline.watch.put(message)
            request = pipeline.requested(account_id).model_dump(mode="json")
            for changes in (
                {"reason": named},
                {"event_id": event_id},
                {"account_id": text},
                {"organization_id": named},
            ):
                pipeline.watch.put(json.dumps(request | changes))
            self.put_with_attributes(text, named)
        pipeline.watch.until_quiet()

    def put_with_attributes(self, text: str, named: str) -> None:
        attributes = {
            name: {"DataType": "String", "StringValue": value}
            for name, value in {"ERROR_CODE": named, "ERROR_MESSAGE": text, "REDRIVES": named}.items()
        }
        self.pipeline.client("sqs").send_message(
            QueueUrl=self.pipeline.at.queue_url, MessageBody=text, MessageAttributes=attributes
        )

    def errors_of_aws(self) -> None:
        pipeline = self.pipeline
        for spelled in IN_SENTENCES:
            account_id = pipeline.account()
            said = f"User: {spelled(account_id)} ({self.person}@example.com) may not attach to {spelled(account_id)}"
            pipeline.relay.say(said)
            pipeline.relay.fail_next("AttachPolicy", (400, "ConstraintViolationException"))
            pipeline.handle(pipeline.invited(account_id))

    def drift_and_departure(self) -> None:
        pipeline = self.pipeline
        at, account_id = pipeline.at, pipeline.account()
        pipeline.handle(pipeline.invited(account_id))
        pipeline.client("organizations").detach_policy(PolicyId=at.policy_ids[0], TargetId=account_id)
        management = at.management_account_id
        pipeline.handle(policy_detached(account_id, management, at.policy_ids[0], by=f"{self.person}@example.com"))
        pipeline.handle(policy_updated(at.policy_ids[0], management))
        pipeline.relay.fail_next("DescribeAccount", (400, "AccountNotFoundException"))
        pipeline.handle(account_departed(account_id, at.organization_id, management))

    def rehearse(self) -> None:
        person, account_id = f"{self.person}@example.com", self.pipeline.at.account_ids[0]
        detail = json.dumps(
            {
                "eventSource": "organizations.amazonaws.com",
                "eventName": "Rehearsal",
                "eventID": f"arn:aws:iam::{account_id}:user/{person}",
                "userIdentity": {"accountId": account_id, "arn": person},
            }
        )
        entry = {"Source": "joinguard.rehearsal", "DetailType": "Joinguard Rehearsal", "Detail": detail}
        self.pipeline.client("events").put_events(Entries=[entry])
        until(lambda: self.pipeline.watch.outcome(REHEARSAL_ROW[1]), "the rehearsal to come through")
        self.pipeline.watch.until_quiet()

    def operate(self) -> None:
        """Act as an operator does whose session has an address as its name, with reasons that name everybody."""
        pipeline = self.pipeline
        account_id = pipeline.account()
        for number, spelled in enumerate(IN_SENTENCES):
            reason = f"asked by {self.person}@example.com for {spelled(account_id)}, INC-{number}"
            self.say("enforce", account_id, "--confirm", "--reason", reason, "--wait", "0s")
        pipeline.watch.until_quiet()
        confirmed = ("--confirm", "--reason", f"for {account_id} and {self.person}@example.com")
        terms = ("--until", "4h", "--owner", f"{self.owner}@example.com")
        self.say("pause", "--account", account_id, *terms, *confirmed)
        self.say("redrive", "--code", "ConstraintViolationException", "--limit", "3", *WAIT, *confirmed)
        self.say("drop", "--code", "INVALID_EVENT", "--limit", "2", *confirmed)
        for command in PSEUDONYMOUS:
            for form in ((), ("--json",)):
                said = self.say(*command, *form)
                self.kept.add("screens", f"stdout of {' '.join((*command, *form))}", said.stdout)
                self.kept.add("screens", f"stderr of {' '.join((*command, *form))}", said.stderr)

    def say(self, *arguments: str) -> Any:
        done = operate(self.pipeline, *arguments, **self.session())
        assert done.returncode != 2, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def session(self) -> dict[str, str]:
        name = self.pipeline.resource("OperatorActs")
        role = self.pipeline.client("iam").get_role(RoleName=name)["Role"]["Arn"]
        session = f"{self.person}@example.com"
        found = self.pipeline.client("sts").assume_role(RoleArn=role, RoleSessionName=session)["Credentials"]
        return {
            "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
            "AWS_SESSION_TOKEN": found["SessionToken"],
        }

    def sweep(self) -> None:
        self.pipeline.relay.reset()
        sweeps = Sweeps(self.pipeline)
        sweeps.run()
        with enforcing(self.pipeline):
            sweeps.run()
            sweeps.until_quiet()
        sweeps.forget()

    def collect(self) -> None:
        """Read back everything that the run, and the tests before it, left behind."""
        self.collect_logs()
        self.collect_objects()
        for number, each in enumerate(self.pipeline.watch.dead_letters()):
            ours = {name: value for name, value in each.get("MessageAttributes", {}).items() if name in ORDER}
            self.kept.add("attributes", f"dead letter {number}", ours)
        metrics = self.pipeline.client("cloudwatch").get_paginator("list_metrics")
        for page in metrics.paginate(Namespace="Joinguard"):
            for each in page["Metrics"]:
                self.kept.add("metrics", each["MetricName"], each)

    def collect_logs(self) -> None:
        logs, group = self.pipeline.client("logs"), self.pipeline.resource("AttachPoliciesLogs")
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group):
            for each in page["events"]:
                self.kept.add("logs", each["logStreamName"], each["message"])
                if "_aws" in each["message"]:
                    self.kept.add("metrics", "in the log", each["message"])

    def collect_objects(self) -> None:
        s3, bucket = self.pipeline.client("s3"), self.pipeline.at.evidence_bucket
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for each in page["Versions"]:
                version = {"Bucket": bucket, "Key": each["Key"], "VersionId": each["VersionId"]}
                answer = s3.get_object(**version)
                body = answer.pop("Body").read()
                if not each["Key"].startswith("backups/"):
                    self.kept.add("objects", each["Key"], body)
                answer.pop("SSEKMSKeyId", None)
                self.kept.add("keys", each["Key"], each["Key"])
                self.kept.add("metadata", each["Key"], answer["Metadata"])
                self.kept.add("metadata", each["Key"], _headers(answer))
                self.kept.add("metadata", each["Key"], s3.get_object_tagging(**version)["TagSet"])


def _headers(answer: Any) -> dict[str, str]:
    """Return the headers that the writer decides."""
    return {
        name: value for name, value in answer["ResponseMetadata"]["HTTPHeaders"].items() if name != "x-amz-request-id"
    }


@pytest.fixture(scope="module")
def run(shared: Pipeline) -> Iterator[Run]:
    shared.clear()
    person, owner = (f"{name}{os.urandom(4).hex()}" for name in ("jane", "owner"))
    made = Run(shared, Kept(), person, owner)
    made.story()
    made.collect()
    yield made
    item = {"name": {"S": "Pauses"}}
    shared.client("dynamodb").delete_item(TableName=shared.resource("Reconciliation"), Key=item)
    shared.clear()


@pytest.mark.parametrize(
    ("kind", "at_least"),
    [
        ("logs", 100),
        ("metrics", 20),
        ("objects", 50),
        ("keys", 50),
        ("metadata", 50),
        ("attributes", 100),
        ("screens", 16),
    ],
)
def test_nothing_that_a_whole_run_leaves_behind_names_an_account_a_person_or_an_arn(
    run: Run, kind: str, at_least: int
) -> None:
    assert len(run.kept.pieces[kind]) >= at_least, "otherwise the run did not write what it should"
    assert run.kept.disclosed(kind, run.search(kind)) == []


def test_the_run_wrote_every_kind_of_object(run: Run) -> None:
    assert {where.partition("/")[0] for where, _ in run.kept.pieces["keys"]} >= {
        "acts",
        "backups",
        "evidence",
        "sweeps",
    }
