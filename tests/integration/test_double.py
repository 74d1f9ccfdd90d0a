"""The double of Organizations rejects what AWS rejects, and the real boto3 can call it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import boto3
import pytest
from botocore.config import Config

from handlers.aws.errors import FAILURES
from handlers.aws.organizations import OrganizationsApi
from handlers.core.errors import AccountNotFoundError, Cause, NotYetEffectiveError, PermanentError, RetryableError
from infra.local.organizations import Fault, Organizations, Rules, serving
from schemas.compiled_guardrails import SCP
from schemas.outcome import AttachmentResult

ACCOUNT, POLICY = "222222222222", "p-aaaaaaaa"
NO_LATENCY: dict[str, Any] = {"read_seconds": 0.0, "write_seconds": 0.0}


class ManualClock:
    """A clock that only `wait` advances."""

    def __init__(self) -> None:
        self.at = 0.0

    def seconds(self) -> float:
        return self.at

    def wait(self, seconds: float) -> None:
        self.at += seconds


def double(**rules: Any) -> Organizations:
    made = Organizations(Rules(**(NO_LATENCY | rules)), ManualClock(), {POLICY, *(f"p-{n:08d}" for n in range(20))})
    made.join(ACCOUNT)
    return made


def attach(made: Organizations, policy_id: str = POLICY, account_id: str = ACCOUNT) -> str:
    answer = made.answer("AttachPolicy", {"PolicyId": policy_id, "TargetId": account_id})
    return (
        "ok"
        if answer.status == 200
        else (answer.body or b"cut").decode(errors="replace").partition('"__type": "')[2].partition('"')[0]
    )


def test_the_double_allows_three_attachments_at_once_and_then_two_a_second() -> None:
    made = double()
    clock = made.clock

    first = [attach(made, f"p-{number:08d}") for number in range(5)]
    clock.wait(1)
    then = [attach(made, f"p-{number:08d}") for number in range(3, 8)]

    assert first == ["ok"] * 3 + ["TooManyRequestsException"] * 2
    assert then == ["ok"] * 2 + ["TooManyRequestsException"] * 3


def test_an_account_has_no_room_for_an_eleventh_policy() -> None:
    made = double(attach_burst=50.0)

    assert [attach(made, f"p-{number:08d}") for number in range(10)] == ["ok"] * 9 + ["ConstraintViolationException"]


@pytest.mark.parametrize(
    ("rules", "policy_id", "account_id", "code"),
    [
        ({"unknown_for": 30.0}, POLICY, ACCOUNT, "TargetNotFoundException"),
        ({}, POLICY, "333333333333", "TargetNotFoundException"),
        ({}, "p-nosuchpolicy", ACCOUNT, "PolicyNotFoundException"),
        ({"type_enabled": False}, POLICY, ACCOUNT, "PolicyTypeNotEnabledException"),
        ({"finalizing_for": 60.0}, POLICY, ACCOUNT, "FinalizingOrganizationException"),
    ],
)
def test_an_impossible_attachment_is_rejected(
    rules: dict[str, Any], policy_id: str, account_id: str, code: str
) -> None:
    assert attach(double(**rules), policy_id, account_id) == code


def test_an_account_is_unknown_for_a_while_after_it_joins_and_again_after_it_leaves() -> None:
    made = double(unknown_for=30.0)
    made.clock.wait(31)

    assert attach(made) == "ok"
    assert attach(made) == "DuplicatePolicyAttachmentException"
    made.leave(ACCOUNT)
    assert attach(made) == "TargetNotFoundException"


def test_the_same_seed_gives_the_same_faults() -> None:
    def run(seed: int) -> list[str]:
        made = double(faults=0.5, seed=seed, attach_burst=1000.0)
        return [attach(made) for _ in range(50)]

    assert run(1) == run(1) != run(2)
    assert len(set(run(1))) >= 5


def real(endpoint: str) -> Any:
    return boto3.client(
        "organizations",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",  # noqa: S106 - not a secret
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}),
    )


def test_boto3_reads_every_page() -> None:
    made = Organizations(Rules(page_size=2, empty_pages=True, read_burst=50.0, attach_burst=50.0, **NO_LATENCY))
    made.policies.update(f"p-{number:08d}" for number in range(5))
    made.join(ACCOUNT)
    with serving(made) as endpoint:
        organizations = OrganizationsApi(real(endpoint))
        results = [organizations.attach(policy_id, ACCOUNT) for policy_id in sorted(made.policies)]

        assert results == [AttachmentResult.ATTACHED] * 5
        found = organizations.attached_policies(ACCOUNT, [SCP])
        assert {each.id for each in found} == made.policies | {"p-FullAWSAccess"}
    assert made.calls == Counter({"AttachPolicy": 5, "ListPoliciesForTarget": 6})


def test_overlapping_writes_conflict() -> None:
    """The second write arrives while the double waits for the first one, on every machine."""
    second: list[str] = []

    class WriteDuringWait(ManualClock):
        def wait(self, seconds: float) -> None:
            if not second:
                second.append("")
                second.append(attach(made, account_id="333333333333"))
            super().wait(seconds)

    made = Organizations(Rules(), WriteDuringWait(), {POLICY})
    made.join(ACCOUNT, "333333333333")

    assert attach(made) == "ok"
    assert second[1:] == ["ConcurrentModificationException"]
    assert attach(made, account_id="333333333333") == "ok", "the first write is over"


@pytest.mark.parametrize("fault", Fault)
def test_the_adapter_can_retry_after_every_fault(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Organizations(Rules(faults=1.0, **NO_LATENCY))
    made.policies.add(POLICY)
    made.join(ACCOUNT)
    monkeypatch.setattr(made._rng, "choice", lambda _faults: fault)  # noqa: SLF001 - chooses the fault
    with serving(made) as endpoint:
        with pytest.raises(RetryableError):
            OrganizationsApi(real(endpoint)).attach(POLICY, ACCOUNT)
        with pytest.raises(FAILURES):
            real(endpoint).list_policies_for_target(TargetId=ACCOUNT, Filter="SERVICE_CONTROL_POLICY")
    carried = POLICY in made.attached[ACCOUNT]
    assert carried is (fault in {Fault.CUT_AFTER, Fault.GATEWAY, Fault.GARBAGE})


def test_an_unknown_rule_is_named_with_the_known_ones() -> None:
    assert Rules.parse("faults=0.2,seed=7,empty_pages=yes") == Rules(faults=0.2, seed=7, empty_pages=True)
    with pytest.raises(ValueError, match="'fault' is not a rule of FAULTS; use one of attach_rate"):
        Rules.parse("fault=1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("faults=2", "faults=2 in FAULTS is not possible; use a number from 0 to 1"),
        ("faults=-0.1", "use a number from 0 to 1"),
        ("faults=nan", "use a number from 0 to 1"),
        ("seed=x", "seed=x in FAULTS is not possible; use a number"),
        ("page_size=0", "use a number above 0"),
        ("attach_rate=inf", "use a number above 0"),
    ],
)
def test_a_rule_with_an_impossible_value_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rules.parse(text)


def test_a_detached_policy_is_gone_and_the_last_one_stays() -> None:
    made = Organizations(Rules(attach_burst=50.0, read_burst=50.0, **NO_LATENCY), policies={POLICY, "p-11111111"})
    made.join(ACCOUNT)
    with serving(made) as endpoint:
        api = OrganizationsApi(real(endpoint))
        api.attach(POLICY, ACCOUNT)

        assert api.detach(POLICY, ACCOUNT) is AttachmentResult.REMOVED
        assert api.detach(POLICY, ACCOUNT) is AttachmentResult.ALREADY_REMOVED
        assert [each.id for each in api.attached_policies(ACCOUNT, [SCP])] == ["p-FullAWSAccess"]
        with pytest.raises(PermanentError) as last:
            api.detach("p-FullAWSAccess", ACCOUNT)
        with pytest.raises(NotYetEffectiveError, match="PolicyNotFoundException"):
            api.detach("p-22222222", ACCOUNT)

    assert last.value.cause is Cause.LAST_POLICY


def test_the_double_knows_since_when_an_account_is_a_member() -> None:
    made = Organizations(Rules(**NO_LATENCY), ManualClock(), started_at=1_000.0)
    made.clock.wait(5)
    made.join(ACCOUNT)
    with serving(made) as endpoint:
        api = OrganizationsApi(real(endpoint))

        assert api.membership(ACCOUNT).since.timestamp() == 1_005
        made.leave(ACCOUNT)
        with pytest.raises(AccountNotFoundError):
            api.membership(ACCOUNT)


def test_detaching_takes_as_long_and_is_as_rare_as_attaching() -> None:
    made = double()
    made.attached[ACCOUNT] += [f"p-{number:08d}" for number in range(5)]

    answers = [made.answer("DetachPolicy", {"PolicyId": f"p-{n:08d}", "TargetId": ACCOUNT}).status for n in range(5)]

    assert answers == [200, 200, 200, 400, 400]
    assert made.refused == Counter({("DetachPolicy", "TooManyRequestsException"): 2})
