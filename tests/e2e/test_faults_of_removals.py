"""The real code of the worker that removes policies, while calls to AWS fail and processes are killed.

After every history: the request has one correct outcome, every removal has evidence, once, the account is evaluated
again, and what the account needs is still attached.
"""

from __future__ import annotations

import json
import os
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pytest

from handlers.aws.dynamodb_ledger import DynamoLedger
from handlers.aws.kms_pseudonyms import KmsPseudonyms
from handlers.core.joins.claims import claims_of
from handlers.core.joins.ports import Settlement
from handlers.core.joins.run import FIRST_RECEIVES
from infra.local.events import event_id
from infra.local.installation import CODE_BUCKET, STACK, build_local, install
from infra.local.organizations import FULL_ACCESS, Organizations, Rules, serving
from infra.local.standin import running
from infra.local.watch import Watch
from schemas.compiled_guardrails import SCP, CompiledGuardrails, CompiledPolicy, CompiledRule, CompiledSelector
from schemas.events import Join
from schemas.outcome import AttachmentResult, OutcomeStatus
from tests.chaos import Break, Chaos, Driver, running_chaos
from tests.e2e.conftest import UNPACED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.local.installation import Installation
    from infra.local.standin import StandIn

NEEDED, FIRST, SECOND = "p-neededby1", "p-notneeded", "p-nolonger1"
#: Longer than any lease.
LATER: Final = 200
#: The minimum number of calls of a request that removes two policies.
MIN_CALLS: Final = 16
#: No account has this id.
NOBODY: Final = CompiledSelector(account=("000000000000",))
GUARDRAILS: Final = CompiledGuardrails(
    policies=tuple(CompiledPolicy(id=each, type=SCP) for each in (NEEDED, FIRST, SECOND)),
    rules=(
        CompiledRule(id="everyone", attach=(NEEDED,), match="all"),
        CompiledRule(id="nobody", attach=(FIRST, SECOND), match=(NOBODY,), when_no_longer="remove"),
    ),
    max_removals=5000,
)


@dataclass(repr=False)
class Remover:
    """The worker that removes policies, with faults in its calls to AWS and to the double of Organizations."""

    chaos: Chaos
    organizations: Organizations
    aws: StandIn
    at: Installation
    watch: Watch
    pseudonyms: KmsPseudonyms
    drivers: list[Driver]
    queues: dict[str, str]
    clock: float = 0.0
    receives: Counter[str] = field(default_factory=Counter)
    #: How many evaluations of each account were requested.
    evaluations: Counter[str] = field(default_factory=Counter)

    def request(self) -> tuple[str, dict[str, Any]]:
        """Return an account to which we attached all policies, and the request to remove what it does not need."""
        account_id = str(uuid.uuid4().int)[:12]
        self.organizations.join(account_id)
        self.organizations.attached[account_id] += [NEEDED, FIRST, SECOND]
        now = datetime.now(UTC) + timedelta(seconds=self.clock)
        event = Join(
            event_id=event_id(),
            event_name="x",
            event_time=now,
            source="aws.organizations",
            account_id=account_id,
        )
        ledger = DynamoLedger(self.aws.client("dynamodb"), self.at.outcomes_table)
        ledger.begin(event, now=now, lease_until=now)
        attached = claims_of(
            account_id, dict.fromkeys((NEEDED, FIRST, SECOND), now), AttachmentResult.ATTACHED, self.pseudonyms
        )
        ledger.settle(event, 1, Settlement(OutcomeStatus.ENFORCED, claims=attached), now=now)
        return account_id, {
            "source": "joinguard.removal",
            "event_id": f"removal-{event_id()}",
            "requested_at": now.isoformat(),
            "account_id": account_id,
            "organization_id": self.at.organization_id,
            "reason": "x",
        }

    def deliver(self, request: dict[str, Any]) -> int:
        """Deliver a request; return 0 if it is done, 1 if it must be retried, less than 0 if the worker was killed."""
        event_id = request["event_id"]
        self.receives[event_id] += 1
        [driver] = self.drivers
        self.chaos.kill = driver.kill
        return driver.deliver(message(request, self.receives[event_id]), ahead=self.clock)

    def break_call(self, number: int, what: Break) -> None:
        self.chaos.calls.clear()
        self.chaos.plan = lambda each, _name: what if each == number else None

    def break_service(self, service: str, what: Break) -> None:
        self.chaos.plan = lambda _number, name: what if name.startswith(service) else None

    def stop_faults(self) -> None:
        self.chaos.plan = lambda _number, _name: None

    def until_done(self, request: dict[str, Any]) -> None:
        for _ in range(6):
            self.clock += LATER
            if self.deliver(request) == 0:
                return
        raise AssertionError("the request is not done after 6 deliveries")

    def assert_removed(self, account_id: str, request: dict[str, Any], context: str) -> None:
        outcome = self.watch.outcome(request["event_id"])
        assert outcome is not None
        assert outcome.status is OutcomeStatus.ENFORCED, context
        assert outcome.intents == {}, context
        assert self.organizations.attached[account_id] == [FULL_ACCESS, NEEDED], context
        claimed = Counter(
            policy.policy_id
            for each in self.watch.evidence(request["event_id"])
            for policy in each.policies
            if policy.result is AttachmentResult.REMOVED
        )
        assert claimed == Counter((FIRST, SECOND)), f"{context}: each removal has evidence, once"
        assert self.evaluations[account_id], f"{context}: the account is evaluated again"

    def note_evaluation(self, name: str, body: bytes, _response: bytes) -> None:
        """Note for which account an evaluation was requested; SQS delivers it only a minute later."""
        if name == "SQS.SendMessage":
            sent = json.loads(body)
            if sent["QueueUrl"] == self.queues["joins"]:
                self.evaluations[json.loads(sent["MessageBody"])["account_id"]] += 1


def message(request: dict[str, Any], receives: int = 1) -> dict[str, Any]:
    """Return a request as a record that Lambda passes to the function."""
    return {
        "messageId": request["event_id"],
        "receiptHandle": "none",
        "body": json.dumps(request),
        "attributes": {"ApproximateReceiveCount": str(receives), "SentTimestamp": "1795521600000"},
        "messageAttributes": {},
    }


@pytest.fixture(scope="module")
def shared() -> Iterator[Remover]:
    organizations = Organizations(Rules(write_seconds=0.0, read_seconds=0.0, attach_rate=1e6, read_rate=1e6))
    organizations.policies.update((NEEDED, FIRST, SECOND))
    with running() as aws, serving(organizations) as endpoint, running_chaos(endpoint, aws.endpoint) as chaos:
        at = install(aws, package=build_local(), log=lambda _: None, changes=UNPACED)
        content = GUARDRAILS.canonical()
        key = f"joinguard/guardrails/{sha256(content).hexdigest()}.json"
        aws.client("s3").put_object(Bucket=CODE_BUCKET, Key=key, Body=content)
        queues = {
            name: aws.client("sqs").create_queue(QueueName=f"{name}-of-this-test")["QueueUrl"]
            for name in ("removals", "joins")
        }
        deployed = aws.client("lambda").get_function_configuration(FunctionName="MemberAccountInitialization")
        environment = deployed["Environment"]["Variables"] | {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ".",
            "WORKER": "remover",
            "GUARDRAILS_KEY": key,
            "QUEUE_URL": queues["removals"],
            "JOINS_QUEUE_URL": queues["joins"],
            "AWS_ENDPOINT_URL": chaos.endpoint,
            "AWS_DEFAULT_REGION": aws.region,
            "AWS_ACCESS_KEY_ID": aws.access_key_id,
            "AWS_SECRET_ACCESS_KEY": aws.secret_access_key,
        }
        found = aws.client("cloudformation").describe_stack_resource(StackName=STACK, LogicalResourceId="PseudonymKey")[
            "StackResourceDetail"
        ]["PhysicalResourceId"]
        pseudonyms = KmsPseudonyms(aws.client("kms"), found, at.organization_id)
        made = Remover(chaos, organizations, aws, at, Watch(aws, at), pseudonyms, [], queues)
        chaos.on_response = made.note_evaluation
        made.drivers.append(Driver(environment, first=message(made.request()[1])))
        yield made
        made.drivers[0].stop()


@pytest.fixture
def remover(shared: Remover) -> Iterator[Remover]:
    """Yield the worker without faults."""
    shared.stop_faults()
    shared.chaos.calls.clear()
    yield shared
    shared.stop_faults()
    shared.watch.clear()


def test_a_removal_makes_the_calls_that_these_tests_break(remover: Remover) -> None:
    account_id, request = remover.request()
    remover.clock += LATER
    assert remover.deliver(request) == 0

    calls = [each for each in remover.chaos.calls if each != "DynamoDB.UpdateItem"]
    assert calls == [
        "KMS.GenerateMac",
        "Organizations.ListPoliciesForTarget",
        "Organizations.DescribeAccount",
        "DynamoDB.Query",
        *["Organizations.DetachPolicy"] * 2,
        "S3.PUT",
        "SQS.SendMessage",
    ]
    assert len(remover.chaos.calls) >= MIN_CALLS
    assert remover.chaos.calls[-1] == "DynamoDB.UpdateItem", "the outcome is the last"
    remover.assert_removed(account_id, request, "without faults")


def each_call_broken(remover: Remover, what: Break) -> Iterator[tuple[str, dict[str, Any], int, str]]:
    """Deliver one new request per call, with that call broken; yield account, request, result, and call.

    The number of calls varies, because a turn and the count of removals take one or more calls to the pace's table.
    """
    for number in count(1):
        account_id, request = remover.request()
        remover.clock += LATER
        remover.break_call(number, what)
        result = remover.deliver(request)
        calls = list(remover.chaos.calls)
        remover.stop_faults()
        if len(calls) < number:
            assert number > MIN_CALLS
            return
        yield account_id, request, result, calls[number - 1]


@pytest.mark.parametrize("what", [Break.KILL_BEFORE, Break.KILL_AFTER])
def test_the_next_delivery_repairs_a_kill_before_or_after_any_call(remover: Remover, what: Break) -> None:
    for account_id, request, result, call in each_call_broken(remover, what):
        assert result < 0, f"not killed at {call}"

        remover.until_done(request)

        remover.assert_removed(account_id, request, f"{what} {call}")
    assert remover.watch.dead_letter_count() == 0


FAULTS: Final = [what for what in Break if what not in {Break.KILL_BEFORE, Break.KILL_AFTER}]


@pytest.mark.parametrize("what", FAULTS)
def test_a_single_failure_of_any_call_loses_nothing(remover: Remover, what: Break) -> None:
    for account_id, request, _, call in each_call_broken(remover, what):
        assert remover.watch.dead_letter_count() == 0, call

        remover.until_done(request)

        remover.assert_removed(account_id, request, f"{what} {call}")


@pytest.mark.parametrize("what", FAULTS)
def test_a_service_that_keeps_failing_removes_nothing_or_loses_nothing(remover: Remover, what: Break) -> None:
    for service in ("KMS", "DynamoDB", "Organizations", "S3", "SQS.SendMessage"):
        account_id, request = remover.request()
        remover.break_service(service, what)
        results = []
        for _ in range(FIRST_RECEIVES + 1):
            remover.clock += LATER
            results.append(remover.deliver(request))
        remover.stop_faults()
        dead_letters = remover.watch.dead_letters()
        # After the first receives, a denial by Organizations is permanent.
        denied = what is Break.DENIED and service == "Organizations"
        assert results == [1] * FIRST_RECEIVES + [int(not denied)], service
        codes = [each["MessageAttributes"]["ERROR_CODE"]["StringValue"] for each in dead_letters]
        assert codes == ["AccessDeniedException"] * denied, service
        for dead_letter in dead_letters:
            remover.watch.delete(dead_letter)

        remover.until_done(request)

        remover.assert_removed(account_id, request, f"{what} {service}")
