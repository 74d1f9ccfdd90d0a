"""`enforce` by account or by event: it reads CloudTrail's formats, and the runbook's commands work as written."""

from __future__ import annotations

import json
import re
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import boto3
import pytest
from botocore.stub import Stubber
from click.testing import Result

from handlers.core.errors import RetryableError
from handlers.core.redrive.ports import Account
from infra.deploy.build import ROOT
from infra.local.events import account_created, account_joined
from schemas.events import KNOWN_EVENT_NAMES, JoinRequest
from schemas.intake import MAX_BODY_BYTES
from tests.fake_queues import dead_letter
from tests.fakes import ACCOUNT, MANAGEMENT, ORGANIZATION, POLICIES, joined
from tests.operator_cli import CONFIRM, OperatorCli, operator_cli

RECORD: Final[dict[str, Any]] = joined()["detail"]


def looked_up(record: dict[str, Any] = RECORD) -> dict[str, Any]:
    """Return the response of CloudTrail's LookupEvents."""
    return {
        "Events": [
            {
                "EventId": record["eventID"],
                "EventName": record["eventName"],
                "ReadOnly": "false",
                "EventTime": record["eventTime"],
                "EventSource": record["eventSource"],
                "Username": "HIDDEN_DUE_TO_SECURITY_REASONS",
                "Resources": [],
                "CloudTrailEvent": json.dumps(record),
            }
        ]
    }


EVENTS: Final[dict[str, Any]] = {
    "a record": RECORD,
    "an event": joined(),
    "the output of lookup-events": looked_up(),
    "a log file": {"Records": [RECORD]},
    "a notification": {"Type": "Notification", "Message": json.dumps(joined())},
    "a created account": account_created(ACCOUNT, MANAGEMENT)["detail"],
    "a service event": account_joined(ACCOUNT, ORGANIZATION, MANAGEMENT)["detail"],
}


def enforce_event(tool: OperatorCli, path: Path, event: object, *arguments: str) -> Result:
    path.write_text(event if isinstance(event, str) else json.dumps(event, indent=1))
    return tool.run("enforce", "--event", str(path), *arguments)


@pytest.mark.parametrize("state", [None, "SUSPENDED"])
def test_enforce_names_every_reason_and_no_message_to_drop(state: str | None) -> None:
    tool = operator_cli()
    tool.organizations.state, tool.organizations.policies = state, ()

    output = tool.run("enforce", ACCOUNT).output

    assert all(f"policy {each} does not exist" in output for each in POLICIES)
    assert "the account is" in output
    assert "drop" not in output


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_enforce_requests_the_account_of_an_event(event: object, tmp_path: Path) -> None:
    tool = operator_cli()

    plan = enforce_event(tool, tmp_path / "event.json", event)
    assert (plan.exit_code, tool.queues.joins, tool.bucket.objects) == (0, [], {})
    assert f"this sends 1 join request to the joins queue: {ACCOUNT}" in plan.output
    result = enforce_event(tool, tmp_path / "event.json", event, *CONFIRM, "--json")

    assert result.exit_code == 0, result.output
    [join] = tool.queues.joins
    request = JoinRequest.model_validate_json(join.body)
    assert (request.source, request.account_id, request.organization_id) == (
        "joinguard.operator",
        ACCOUNT,
        ORGANIZATION,
    )
    assert json.loads(result.stdout) | {"action_id": ""} == {
        "done": True,
        "action_id": "",
        "results": {"sent": 1, "enforced": 1},
        "requests": [{"account": ACCOUNT, "event_id": request.event_id}],
        "left_out": [],
        "unknown": [],
    }
    assert [record.action for record in tool.bucket.audit_records] == ["enforce", "enforce"]


REFUSED: Final[dict[str, tuple[Any, str]]] = {
    "not JSON": ("{", "the event is unreadable: body"),
    "too long": (" " * (MAX_BODY_BYTES + 1), "the event is unreadable: body: is longer than"),
    "no event found": (
        {"Events": []},
        "it has no such event; look up the eventID in detail",
    ),
    "not a join": (joined(action="APPROVE_ALL_FEATURES"), "no account has to be evaluated after this event"),
    "a failed call": (RECORD | {"errorCode": "AccessDenied"}, "no account has to be evaluated after this event"),
    "another organization": (
        json.loads(json.dumps(RECORD).replace(ORGANIZATION, "o-anotherorganization")),
        f"is about organization o-anotherorganization; this is {ORGANIZATION}",
    ),
    "no account": (json.loads(json.dumps(RECORD).replace(ACCOUNT, "****")), "the event is unreadable: "),
}


@pytest.mark.parametrize(("event", "message"), REFUSED.values(), ids=REFUSED)
def test_an_event_without_an_account_of_this_organization_is_rejected_with_a_reason(
    event: object, message: str, tmp_path: Path
) -> None:
    tool = operator_cli()

    result = enforce_event(tool, tmp_path / "event.json", event, *CONFIRM)

    assert message in str(result.exception)
    assert (tool.queues.joins, tool.bucket.objects) == ([], {})


@pytest.mark.parametrize("arguments", [(), (ACCOUNT, "--event", "-"), (ACCOUNT, "--from", "-")])
def test_enforce_needs_either_an_account_or_an_event(arguments: tuple[str, ...]) -> None:
    result = operator_cli().run("enforce", *arguments)

    assert (result.exit_code, "either an account id" in result.output) == (2, True)


def listed(tmp_path: Path, text: str) -> str:
    path = tmp_path / "accounts.tsv"
    path.write_text(text)
    return str(path)


def test_one_action_requests_the_accounts_of_a_file_at_the_workers_pace_and_waits(tmp_path: Path) -> None:
    """As `aws organizations list-accounts --output text` writes them: with tabs, and with the management account."""
    accounts = [f"{number:012}" for number in range(300, 320)]
    tool = operator_cli()
    begin = tool.queues.clock.now()

    result = tool.run("enforce", "--from", listed(tmp_path, "\t".join([*accounts, MANAGEMENT, accounts[0]])), *CONFIRM)

    assert result.exit_code == 0, result.output
    assert [each.account_id for each in tool.queues.repairs] == accounts
    assert "20 sent; 20 enforced" in result.stderr
    assert f"without {MANAGEMENT}: it is the management account" in result.stderr
    assert (tool.queues.clock.now() - begin).total_seconds() >= 18, "one a second, with two policies at two a second"
    intended, done = tool.bucket.audit_records
    assert (intended.action, intended.messages, done.results) == ("enforce", 20, {"sent": 20, "enforced": 20})
    assert {each.result for each in done.letters} == {"sent, enforced"}


def test_requests_that_fail_stop_the_rest() -> None:
    accounts = [f"{number:012}" for number in range(300, 320)]
    tool = operator_cli(fails_again=lambda _: True)

    result = tool.run("enforce", *accounts, *CONFIRM)

    assert result.exit_code == 1
    assert "the cause is not corrected" in str(result.exception)
    assert len(tool.queues.repairs) == 5


def test_accounts_that_would_fail_are_left_out_with_the_reason_and_the_others_are_requested() -> None:
    tool = operator_cli()
    known = tool.organizations.account

    def member(account_id: str) -> Account | None:
        return None if account_id == "333333333333" else known(account_id)

    tool.organizations.account = member  # type: ignore[method-assign]

    result = tool.run("enforce", ACCOUNT, "333333333333", *CONFIRM)

    assert result.exit_code == 1, "one is left"
    assert "333333333333 would fail: the account is not a member" in result.stderr
    assert [each.account_id for each in tool.queues.repairs] == [ACCOUNT]


def test_one_account_goes_to_the_joins_queue_and_several_let_live_joins_go_first(tmp_path: Path) -> None:
    """Somebody waits for the one. The worker of the others lets live joins go first: only other requests delay them."""
    accounts = [f"{number:012}" for number in range(300, 320)]
    tool = operator_cli(backlogs={"joins": [51] * 1000, "repairs": [51, 50]})

    several = tool.run("enforce", "--from", listed(tmp_path, "\n".join(accounts)), *CONFIRM)

    assert "this sends 20 join requests to the repairs queue" in several.stderr
    assert several.stderr.count("waiting: more than 50 messages are in the queue") == 1
    assert (several.exit_code, len(tool.queues.repairs), tool.queues.joins) == (0, 20, [])
    tool = operator_cli()
    for one in ((ACCOUNT,), ("--from", listed(tmp_path, f"{ACCOUNT} {ACCOUNT}"))):
        assert tool.run("enforce", *one, *CONFIRM).exit_code == 0
    assert (len(tool.queues.joins), tool.queues.repairs) == (2, [])


@pytest.mark.parametrize("arguments", [("--gaps",), (ACCOUNT, "333333333333")])
def test_a_stack_without_the_second_queue_is_named_before_anything_is_read(arguments: tuple[str, ...]) -> None:
    tool = operator_cli()
    tool.has_repairs = False

    result = tool.run("enforce", *arguments, *CONFIRM)

    assert "has no queue for requests that let live joins go first (Repairs)" in str(result.exception)
    assert "Run `make deploy`" in str(result.exception)
    assert (tool.reader.calls, tool.queues.joins, tool.bucket.objects) == ({}, [], {})
    assert tool.run("enforce", ACCOUNT, *CONFIRM).exit_code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{ACCOUNT}\n12\n", "accounts.tsv: line 2: '12' is not an account id"),
        (" \n", "accounts.tsv: the file has no account ids"),
        (ACCOUNT + " " * 2**20, "is longer than 1,048,576 bytes"),
    ],
)
def test_a_file_with_anything_but_account_ids_is_refused_as_a_whole(tmp_path: Path, text: str, message: str) -> None:
    tool = operator_cli()

    result = tool.run("enforce", "--from", listed(tmp_path, text), *CONFIRM)

    assert (result.exit_code, tool.queues.joins) == (2, [])
    assert message in " ".join(result.output.split())


def test_outcome_says_how_to_request_missing_policies_and_fails() -> None:
    tool = operator_cli()

    result = tool.run("outcome", ACCOUNT)

    assert result.exit_code == 1
    assert f"→ `enforce {ACCOUNT}` requests the missing policies" in result.stderr
    tool.organizations.attached = POLICIES
    assert tool.run("outcome", ACCOUNT).exit_code == 0


@pytest.mark.parametrize(
    ("account_id", "verdict"),
    [(ACCOUNT, "is not a member of the organization"), (MANAGEMENT, "is the management account")],
)
def test_outcome_says_of_an_account_that_carries_nothing_what_it_is(account_id: str, verdict: str) -> None:
    tool = operator_cli()
    tool.organizations.state = None

    result = tool.run("outcome", account_id)

    assert verdict in result.stdout
    assert "enforce" not in result.output


def test_a_request_that_cannot_be_recorded_is_not_sent() -> None:
    tool = operator_cli()
    tool.bucket.read_only = True

    assert isinstance(tool.run("enforce", "222222222222", *CONFIRM).exception, RetryableError)
    assert tool.queues.joins == []


def commands(section: str) -> list[str]:
    """Return the commands of one section of the runbook as written."""
    runbook = (ROOT / "handlers" / "operate" / "RUNBOOK.md").read_text()
    text = runbook.partition(f"### `{section}`\n")[2].partition("\n### ")[0]
    return [
        re.sub(r" +# .*", "", line.removeprefix("$ "))
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]


def run_aws_cli(arguments: list[str]) -> None:
    """Run a command as the AWS CLI does: check the call against CloudTrail's service model, and write the response."""
    options = dict(zip(arguments[2::2], arguments[3::2], strict=True))
    assert arguments[:2] == ["cloudtrail", "lookup-events"]
    attribute: Any = dict(part.split("=") for part in options["--lookup-attributes"].split(","))
    if attribute["AttributeKey"] == "EventName":
        assert attribute["AttributeValue"] in KNOWN_EVENT_NAMES
        assert datetime.fromisoformat(options["--start-time"]) < datetime.fromisoformat(options["--end-time"])
        return
    assert options.keys() == {"--region", "--lookup-attributes", ">"}
    assert attribute["AttributeValue"] == RECORD["eventID"]
    cloudtrail = boto3.client("cloudtrail", options["--region"], aws_access_key_id="x", aws_secret_access_key="x")  # noqa: S106 - not a secret
    with Stubber(cloudtrail) as stub:
        stub.add_response("lookup_events", {}, {"LookupAttributes": [attribute]})
        cloudtrail.lookup_events(LookupAttributes=[attribute])
    key: Any = cloudtrail.meta.service_model.shape_for("LookupAttributeKey")
    assert attribute["AttributeKey"] in key.enum
    Path(options[">"]).write_text(json.dumps(looked_up(), indent=4))


def test_the_runbooks_commands_for_unreadable_events_work_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run in order. After `edit`, the message is put back into its queue for the remaining commands."""
    monkeypatch.chdir(tmp_path)
    truncated = dead_letter(1, code="INVALID_EVENT", body=json.dumps(joined())[:-2])
    tool = operator_cli(truncated)
    run: list[str] = []
    for line in commands("INVALID_EVENT"):
        filled = re.sub(r"\bID\b", "m-1", line).replace("EVENT_ID", RECORD["eventID"])
        filled = filled.replace("=ACCOUNT", f"={ACCOUNT}").replace("'ACCOUNT ", f"'{ACCOUNT} ")
        program, *arguments = shlex.split(filled)
        if program == "aws":
            run_aws_cli(arguments)
            continue
        [command, assigned] = arguments
        result = tool.run(command, *shlex.split(assigned.removeprefix("ARGS=")))
        assert result.exit_code == 0, f"{line}: {result.output} {result.exception}"
        run.append(command)
        if command == "edit":
            assert json.loads(tool.queues.joins[0].body)["Events"], "the body is the output of lookup-events"
            assert tool.queues.messages == []
            tool.queues.messages = [truncated]

    assert run == ["show", "edit", "enforce", "enforce", "drop"]
    assert [each.account_id for each in tool.queues.joins] == [ACCOUNT] * 3
    assert tool.queues.messages == []
