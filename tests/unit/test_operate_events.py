"""An account from its event: `enforce --event` and `edit` take what CloudTrail has, and the runbook's commands work."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any, Final

import boto3
import pytest
from botocore.stub import Stubber

from infra.deploy.build import ROOT
from infra.local.events import account_created, account_joined
from schemas.events import JoinRequest
from schemas.intake import MAX_BODY_BYTES
from tests.desk import letter
from tests.fakes import ACCOUNT, MANAGEMENT, ORGANIZATION, joined
from tests.office import Office, office

ACTING: Final = ("--confirm", "--reason", "x")
RECORD: Final[dict[str, Any]] = joined()["detail"]


def looked_up(record: dict[str, Any] = RECORD) -> dict[str, Any]:
    """Return what CloudTrail's LookupEvents answers."""
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
    "what lookup-events prints": looked_up(),
    "a log file": {"Records": [RECORD]},
    "a notification": {"Type": "Notification", "Message": json.dumps(joined())},
    "a created account": account_created(ACCOUNT, MANAGEMENT)["detail"],
    "an announcement": account_joined(ACCOUNT, ORGANIZATION, MANAGEMENT)["detail"],
}


def from_file(at: Office, path: Path, event: object, *arguments: str) -> Any:
    path.write_text(event if isinstance(event, str) else json.dumps(event, indent=1))
    return at.run("enforce", "--event", str(path), *arguments)


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_an_account_is_enforced_by_its_event(event: object, tmp_path: Path) -> None:
    at = office()

    dry = from_file(at, tmp_path / "event.json", event)
    assert (dry.exit_code, at.desk.joins, at.bucket.objects) == (0, [], {})
    assert f"a join request for {ACCOUNT}" in dry.output
    done = from_file(at, tmp_path / "event.json", event, *ACTING, "--json")

    assert done.exit_code == 0, done.output
    [join] = at.desk.joins
    request = JoinRequest.model_validate_json(join.body)
    assert (request.source, request.account_id, request.organization_id) == (
        "joinguard.operator",
        ACCOUNT,
        ORGANIZATION,
    )
    assert json.loads(done.stdout) | {"act": "", "event_id": ""} == {
        "done": True,
        "act": "",
        "event_id": "",
        "account": ACCOUNT,
    }
    assert [act.action for act in at.bucket.acts] == ["enforce", "enforce"]


REFUSED: Final[dict[str, tuple[Any, str]]] = {
    "no JSON": ("{", "the event cannot be read: body"),
    "too long": (" " * (MAX_BODY_BYTES + 1), "the event cannot be read: body: is longer than"),
    "nothing found": (
        {"Events": []},
        "is the output of CloudTrail's lookup-events with 0",
    ),
    "no join": (joined(action="APPROVE_ALL_FEATURES"), "the event reports no join"),
    "a failed call": (RECORD | {"errorCode": "AccessDenied"}, "the event reports no join"),
    "another organization": (
        json.loads(json.dumps(RECORD).replace(ORGANIZATION, "o-anotherorganization")),
        f"is about organization o-anotherorganization, and this is {ORGANIZATION}",
    ),
    "no account": (json.loads(json.dumps(RECORD).replace(ACCOUNT, "****")), "the event cannot be read: "),
}


@pytest.mark.parametrize(("event", "told"), REFUSED.values(), ids=REFUSED)
def test_an_event_that_names_no_account_of_ours_is_refused_with_the_reason(
    event: object, told: str, tmp_path: Path
) -> None:
    at = office()

    done = from_file(at, tmp_path / "event.json", event, *ACTING)

    assert told in str(done.exception)
    assert (at.desk.joins, at.bucket.objects) == ([], {})


@pytest.mark.parametrize("arguments", [(), (ACCOUNT, "--event", "-")])
def test_which_account_is_meant_must_be_said_once(arguments: tuple[str, ...]) -> None:
    done = office().run("enforce", *arguments)

    assert (done.exit_code, "and not both" in done.output) == (2, True)


def commands(section: str) -> list[str]:
    """Return the commands of one of the runbook's sections, as they are written."""
    runbook = (ROOT / "handlers" / "operate" / "RUNBOOK.md").read_text()
    text = runbook.partition(f"### `{section}`\n")[2].partition("\n### ")[0]
    return [
        line.removeprefix("$ ")
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]


def looking_up(arguments: list[str]) -> None:
    """Do as the AWS CLI does with a command: ask CloudTrail, by its own model, and print what it answers."""
    options = dict(zip(arguments[2::2], arguments[3::2], strict=True))
    assert arguments[:2] == ["cloudtrail", "lookup-events"]
    assert options.keys() == {"--region", "--lookup-attributes", ">"}
    attribute: Any = dict(part.split("=") for part in options["--lookup-attributes"].split(","))
    assert attribute["AttributeValue"] == RECORD["eventID"]
    cloudtrail = boto3.client("cloudtrail", options["--region"], aws_access_key_id="x", aws_secret_access_key="x")  # noqa: S106 - none
    with Stubber(cloudtrail) as stub:
        stub.add_response("lookup_events", {}, {"LookupAttributes": [attribute]})
        cloudtrail.lookup_events(LookupAttributes=[attribute])
    key: Any = cloudtrail.meta.service_model.shape_for("LookupAttributeKey")
    assert attribute["AttributeKey"] in key.enum
    Path(options[">"]).write_text(json.dumps(looked_up(), indent=4))


def test_what_the_runbook_says_about_events_that_cannot_be_read_works_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command in its turn; before the last ones the letter is there again."""
    monkeypatch.chdir(tmp_path)
    cut = letter(1, code="INVALID_EVENT", body=json.dumps(joined())[:-2])
    at = office(cut)
    done: list[str] = []
    for line in commands("INVALID_EVENT"):
        told = re.sub(r"\bID\b", "m-1", line).replace("EVENT_ID", RECORD["eventID"]).replace("=ACCOUNT", f"={ACCOUNT}")
        program, *arguments = shlex.split(re.sub(r"'ACCOUNT ", f"'{ACCOUNT} ", told))
        if program == "aws":
            looking_up(arguments)
            continue
        [command, assigned] = arguments
        result = at.run(command, *shlex.split(assigned.removeprefix("ARGS=")))
        assert result.exit_code == 0, f"{line}: {result.output} {result.exception}"
        done.append(command)
        if command == "edit":
            assert json.loads(at.desk.joins[0].body)["Events"], "as it was printed"
            assert at.desk.lying == []
            at.desk.lying = [cut]

    assert done == ["show", "edit", "enforce", "enforce", "drop"]
    assert [each.account_id for each in at.desk.joins] == [ACCOUNT] * 3
    assert at.desk.lying == []
