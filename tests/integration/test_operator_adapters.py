"""The operator's other adapters: SQS's own move, IAM's policy simulator, Organizations, batches of outcomes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from botocore.stub import Stubber

from handlers.aws.dynamodb_ledger import DynamoLedger
from handlers.aws.dynamodb_outcomes import DynamoOutcomes
from handlers.aws.dynamodb_rows import row_of
from handlers.aws.iam_permissions import IamPermissions
from handlers.aws.organizations_reader import OrganizationsReaderApi
from handlers.aws.sqs_moves import SqsMoves
from handlers.core.errors import PermanentError, RetryableError
from handlers.core.ports import UnreadableRow
from handlers.core.redrive.ports import Account, MoveTask
from schemas.events import Join
from schemas.outcome import FAILING, Closed, Outcome, OutcomeStatus
from schemas.pseudonym import Pseudonym
from tests.fake_queues import outcome
from tests.fakes import ACCOUNT, NOON
from tests.integration.conftest import RESOURCES, client

if TYPE_CHECKING:
    from collections.abc import Iterator

DEAD = "https://sqs.us-east-1.amazonaws.com/111111111111/dead"
ROLE = "arn:aws:iam::111111111111:role/worker"
JOINS = "https://sqs.us-east-1.amazonaws.com/111111111111/joins"


@pytest.fixture
def moving(aws: None) -> Iterator[tuple[SqsMoves, Stubber]]:  # noqa: ARG001 - used for its effect
    """Use Stubber, because neither moto nor the embedded AWS has the move task."""
    sqs = client("sqs")
    with Stubber(sqs) as stub:
        yield SqsMoves(sqs, DEAD, JOINS), stub
        stub.assert_no_pending_responses()


def expect_queue_arn(stub: Stubber, url: str, name: str) -> None:
    expected = {"QueueUrl": url, "AttributeNames": ["QueueArn"]}
    stub.add_response("get_queue_attributes", {"Attributes": {"QueueArn": f"arn:{name}"}}, expected)


def test_a_move_names_its_destination_and_its_rate(moving: tuple[SqsMoves, Stubber]) -> None:
    """Without a destination, moving messages that the worker sent fails (CouldNotDetermineMessageSource)."""
    moves, stub = moving
    expect_queue_arn(stub, DEAD, "dead")
    expect_queue_arn(stub, JOINS, "joins")
    expected = {"SourceArn": "arn:dead", "DestinationArn": "arn:joins", "MaxNumberOfMessagesPerSecond": 2}
    stub.add_response("start_message_move_task", {"TaskHandle": "h"}, expected)

    moves.start(per_second=2)


def test_the_latest_move_has_its_status_and_counts(moving: tuple[SqsMoves, Stubber]) -> None:
    """SQS returns the handle only of a running task, and the number to move only once the task has begun."""
    moves, stub = moving
    expect_queue_arn(stub, DEAD, "dead")
    expected = {"SourceArn": "arn:dead", "MaxResults": 1}
    running = {
        "Status": "RUNNING",
        "TaskHandle": "h",
        "ApproximateNumberOfMessagesMoved": 3,
        "StartedTimestamp": 1795521600000,
    }
    failed = {
        "Status": "FAILED",
        "ApproximateNumberOfMessagesMoved": 3,
        "ApproximateNumberOfMessagesToMove": 9,
        "FailureReason": "AWS.SimpleQueueService.NonExistentQueue",
    }
    for results in ([running], [failed], []):
        stub.add_response("list_message_move_tasks", {"Results": results}, expected)

    assert moves.latest() == MoveTask("RUNNING", 3, None, "h", None, 1795521600000)
    assert moves.latest() == MoveTask("FAILED", 3, 9, None, "AWS.SimpleQueueService.NonExistentQueue")
    assert moves.latest() is None


def test_a_move_is_cancelled_by_its_handle(moving: tuple[SqsMoves, Stubber]) -> None:
    moves, stub = moving
    stub.add_response("cancel_message_move_task", {"ApproximateNumberOfMessagesMoved": 3}, {"TaskHandle": "h"})

    moves.cancel("h")


def test_a_move_that_sqs_rejects_raises_its_code(moving: tuple[SqsMoves, Stubber]) -> None:
    moves, stub = moving
    expect_queue_arn(stub, DEAD, "dead")
    expect_queue_arn(stub, JOINS, "joins")
    stub.add_client_error("start_message_move_task", "AWS.SimpleQueueService.UnsupportedOperation", "one at a time")

    with pytest.raises(RetryableError, match="UnsupportedOperation"):
        moves.start(per_second=1)


def test_the_simulator_is_asked_about_every_resource_and_every_page(aws: None) -> None:  # noqa: ARG001 - used for its effect
    """Use Stubber, because moto has no simulator, and the stand-in's simulator reads the first resource only."""
    iam = client("iam")
    expected: dict[str, Any] = {"PolicySourceArn": ROLE, "ActionNames": ["a:B"], "ResourceArns": ["r1", "r2", "r3"]}

    def result(resource: str, decision: str) -> dict[str, str]:
        return {"EvalActionName": "a:B", "EvalResourceName": resource, "EvalDecision": decision}

    first = [result("r1", "allowed"), result("r2", "implicitDeny")]
    with Stubber(iam) as stub:
        stub.add_response(
            "simulate_principal_policy", {"EvaluationResults": first, "IsTruncated": True, "Marker": "m"}, expected
        )
        second = {"EvaluationResults": [result("r3", "explicitDeny")]}
        stub.add_response("simulate_principal_policy", second, expected | {"Marker": "m"})

        assert IamPermissions(iam, ROLE).denied("a:B", ["r1", "r2", "r3"]) == ["r2", "r3"]


def simulated(*results: dict[str, Any]) -> list[str]:
    iam = client("iam")
    with Stubber(iam) as stub:
        stub.add_response("simulate_principal_policy", {"EvaluationResults": list(results)})
        return IamPermissions(iam, ROLE).denied("a:B", ["r1", "r2"])


def several(decision: str, *, by_organizations: bool = True, **resources: str) -> dict[str, Any]:
    """Return a result about several resources: the decision beside them is not about all of them."""
    specific = [{"EvalResourceName": name, "EvalResourceDecision": each} for name, each in resources.items()]
    return {
        "EvalActionName": "a:B",
        "EvalResourceName": "*",
        "EvalDecision": decision,
        "ResourceSpecificResults": specific,
        "OrganizationsDecisionDetail": {"AllowedByOrganizations": by_organizations},
    }


def test_the_simulators_decision_on_each_resource_counts_not_the_one_on_all_of_them(aws: None) -> None:  # noqa: ARG001 - used for its effect
    assert simulated(several("allowed", r1="allowed", r2="implicitDeny")) == ["r2"]
    assert simulated(several("implicitDeny", r1="allowed", r2="allowed")) == []


def test_a_denial_because_of_an_scp_is_unknown_since_the_simulator_ignores_its_conditions(aws: None) -> None:  # noqa: ARG001 - used for its effect
    with pytest.raises(PermanentError, match=r"IAM\.DeniedByOrganizations"):
        simulated(several("implicitDeny", by_organizations=False, r1="allowed", r2="implicitDeny"))
    assert simulated(several("allowed", by_organizations=False, r1="allowed", r2="allowed")) == []


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"State": "ACTIVE", "Status": "SUSPENDED"}, "ACTIVE"),
        ({"Status": "SUSPENDED"}, "SUSPENDED"),
        ({"State": "CLOSED"}, "CLOSED"),
    ],
)
def test_an_accounts_state_is_read_or_its_retired_status_if_it_has_no_state(
    aws: None,  # noqa: ARG001 - used for its effect
    answer: dict[str, str],
    state: str,
) -> None:
    organizations = client("organizations")
    with Stubber(organizations) as stub:
        stub.add_response("describe_account", {"Account": answer | {"Arn": "arn:account"}})

        assert OrganizationsReaderApi(organizations).account("222222222222") == Account("arn:account", state)


def test_a_missing_object_is_none_and_denied_access_is_an_error(aws: None) -> None:  # noqa: ARG001 - used for its effect
    organizations = client("organizations")
    reader = OrganizationsReaderApi(organizations)
    with Stubber(organizations) as stub:
        stub.add_client_error("describe_account", "AccountNotFoundException")
        assert reader.account("222222222222") is None
        stub.add_client_error("describe_policy", "PolicyNotFoundException")
        assert reader.policy_arn("p-aaaaaaaa") is None
        stub.add_client_error("describe_policy", "AccessDeniedException")
        with pytest.raises(PermanentError, match="AccessDeniedException"):
            reader.policy_arn("p-aaaaaaaa")


@pytest.mark.parametrize(("status", "enabled"), [("ENABLED", True), ("PENDING_DISABLE", False)])
def test_policies_are_enabled_if_the_root_lists_them_as_enabled(
    aws: None,  # noqa: ARG001 - used for its effect
    status: str,
    enabled: bool,  # noqa: FBT001 - pytest passes a parameter
) -> None:
    organizations = client("organizations")
    types = [{"Type": "TAG_POLICY", "Status": "ENABLED"}, {"Type": "SERVICE_CONTROL_POLICY", "Status": status}]
    with Stubber(organizations) as stub:
        stub.add_response("list_roots", {"Roots": [{"Id": "r-root", "PolicyTypes": types}]})

        found = OrganizationsReaderApi(organizations).enabled_types()
        assert found == {"TAG_POLICY", *(["SERVICE_CONTROL_POLICY"] if enabled else [])}


def test_one_call_returns_the_outcomes_of_many_events(table: Any) -> None:
    ledger = DynamoLedger(client("dynamodb"), table.name)
    joins = [
        Join(
            event_id=f"event-{number}",
            event_name="AcceptHandshake",
            event_time=NOON,
            source="aws.organizations",
            account_id=f"{number:012d}",
        )
        for number in range(100)
    ]
    for join in joins[:60]:
        ledger.begin(join, now=NOON, lease_until=NOON)

    found = DynamoOutcomes(client("dynamodb"), table.name).of_events(
        [(join.account_id, join.event_id) for join in joins]
    )

    assert set(found) == {(join.account_id, join.event_id) for join in joins[:60]}
    assert {each.status for each in found.values() if isinstance(each, Outcome)} == {OutcomeStatus.RETRYING}


def test_an_unreadable_row_is_returned_as_unreadable_and_hides_no_other(table: Any) -> None:
    ledger = DynamoLedger(client("dynamodb"), table.name)
    join = Join(
        event_id="event-1",
        event_name="AcceptHandshake",
        event_time=NOON,
        source="aws.organizations",
        account_id="222222222222",
    )
    ledger.begin(join, now=NOON, lease_until=NOON)
    malformed: list[dict[str, Any]] = [{}, {"attempts": "many"}, {"status": "WELL"}, {"policies": {"a": [None]}}]
    for number, values in enumerate(malformed, 2):
        row: dict[str, Any] = {"event_id": f"event-{number}", "failing": "RETRYING", "updated_at": "\x1b[2J"}
        table.put_item(Item={"account_id": "222222222222"} | row | values)
    reader = DynamoOutcomes(client("dynamodb"), table.name)
    unreadable = {UnreadableRow("222222222222", f"event-{number}") for number in range(2, 6)}

    of_events = reader.of_events([("222222222222", f"event-{number}") for number in range(1, 7)])

    for found in (reader.of_account("222222222222"), reader.failing(OutcomeStatus.RETRYING), of_events.values()):
        rows = list(found)
        assert {each for each in rows if isinstance(each, UnreadableRow)} == unreadable
        assert [each.event_id for each in rows if isinstance(each, Outcome)] == ["event-1"]


@pytest.mark.parametrize("status", [None, *OutcomeStatus])
def test_a_scan_returns_the_outcomes_of_all_pages_with_a_status_or_any(
    table: Any, status: OutcomeStatus | None
) -> None:
    for number, each in enumerate(OutcomeStatus):
        known = outcome(("222222222222", f"event-{number}"), each, fault={"code": "C", "message": "x" * 1000})
        # More than the one megabyte of a page.
        for copy in range(160):
            row = row_of(known.model_copy(update={"event_id": f"event-{number}-{copy}", "source": "x" * 1000}))
            table.put_item(Item=row)

    reader = DynamoOutcomes(client("dynamodb"), table.name)
    found = list(reader.scan(status))

    assert all(isinstance(each, Outcome) and status in {None, each.status} for each in found)
    assert len({each.event_id for each in found}) == len(found) == 160 * (len(OutcomeStatus) if status is None else 1)
    if status in FAILING:
        assert reader.count(status) == 160


def test_the_accounts_of_all_rows_are_found_once_and_only_their_keys_are_read(table: Any) -> None:
    for number in range(320):
        # More than the one megabyte of a page.
        item = {"account_id": f"22222222222{number % 3}", "event_id": f"event-{number}", "source": "x" * 4000}
        table.put_item(Item=item | {"attempts": "not a row of ours"})
    dynamodb = client("dynamodb")
    requests: list[str] = []
    dynamodb.meta.events.register("before-call.dynamodb", lambda params, **_: requests.append(str(params["body"])))

    found = list(DynamoOutcomes(dynamodb, table.name).account_ids())

    assert sorted(found) == ["222222222220", "222222222221", "222222222222"]
    # The role's policy allows nothing else.
    assert len(requests) > 1
    assert all('"Select": "SPECIFIC_ATTRIBUTES"' in each for each in requests)
    assert all('"ProjectionExpression": "account_id"' in each for each in requests)


def test_unprocessed_keys_are_requested_again(aws: None) -> None:  # noqa: ARG001 - used for its effect
    """Use Stubber. Without a second request, an unprocessed key would look like an event that was never begun."""
    dynamodb = client("dynamodb")
    later = {"outcomes": {"Keys": [{"account_id": {"S": "222222222222"}, "event_id": {"S": "event-1"}}]}}
    with Stubber(dynamodb) as stub:
        stub.add_response("batch_get_item", {"Responses": {}, "UnprocessedKeys": later})
        stub.add_response("batch_get_item", {"Responses": {"outcomes": []}}, {"RequestItems": later})
        reader = DynamoOutcomes(dynamodb, "outcomes")
        assert reader.of_events([("222222222222", "event-1")]) == {}

        for _ in range(4):
            stub.add_response("batch_get_item", {"Responses": {}, "UnprocessedKeys": later})
        with pytest.raises(RetryableError, match="UnprocessedKeys") as raised:
            reader.of_events([("222222222222", "event-1")])
    assert raised.value.soon


def test_the_role_of_operators_allows_only_the_attributes_that_closing_and_reopening_write(table: Any) -> None:
    """moto does not check `dynamodb:Attributes`, so the attributes of the requests are compared with the role."""
    policies = RESOURCES["OperatorActs"]["Properties"]["Policies"]
    [statement] = [
        each for policy in policies for each in policy["PolicyDocument"]["Statement"] if each["Sid"] == "CloseOutcomes"
    ]
    allowed = set(statement["Condition"]["ForAllValues:StringEquals"]["dynamodb:Attributes"])
    dynamodb, requests = client("dynamodb"), list[dict[str, Any]]()
    dynamodb.meta.events.register("before-parameter-build.dynamodb", lambda params, **_: requests.append(params))
    outcomes = DynamoOutcomes(dynamodb, table.name)
    key = (ACCOUNT, "event-1")
    closed = Closed(
        actor=Pseudonym(value=f"prin-{'0' * 32}", key_version="k"), actor_id="x", act_id="act-1", closed_at=NOON
    )

    outcomes.close([key], closed)
    outcomes.reopen([key], "act-1", NOON)

    used: set[str] = set()
    for each in requests:
        text = f"{each['UpdateExpression']} {each['ConditionExpression']}"
        # Neither placeholders, nor inner attributes, nor functions.
        names = set(re.findall(r"(?<![:#.\w])[a-z_]+(?![\w(])", text))
        used |= names | set(each["ExpressionAttributeNames"].values()) | set(each["Key"])
        assert "ReturnValues" not in each
    assert used == allowed
