"""The double of Organizations refuses what the real one refuses, and real boto3 understands it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import boto3
import pytest
from botocore.config import Config

from handlers.aws.errors import FAILURES
from handlers.aws.organizations import OrganizationsDirectory
from handlers.core.errors import RetryableError
from infra.local.organizations import Fault, Organizations, Rules, serving
from schemas.outcome import AttachmentResult

ACCOUNT, POLICY = "222222222222", "p-aaaaaaaa"
AT_ONCE: dict[str, Any] = {"read_seconds": 0.0, "write_seconds": 0.0}


class StandingClock:
    """Moves when a test says so."""

    def __init__(self) -> None:
        self.at = 0.0

    def seconds(self) -> float:
        return self.at

    def wait(self, seconds: float) -> None:
        self.at += seconds


def double(**rules: Any) -> Organizations:
    made = Organizations(Rules(**(AT_ONCE | rules)), StandingClock(), {POLICY, *(f"p-{n:08d}" for n in range(20))})
    made.join(ACCOUNT)
    return made


def attach(made: Organizations, policy_id: str = POLICY, account_id: str = ACCOUNT) -> str:
    answer = made.answer("AttachPolicy", {"PolicyId": policy_id, "TargetId": account_id})
    return (
        "ok"
        if answer.status == 200
        else (answer.body or b"cut").decode(errors="replace").partition('"__type": "')[2].partition('"')[0]
    )


def test_three_attachments_at_once_then_two_a_second() -> None:
    made = double()
    clock = made.clock

    first = [attach(made, f"p-{number:08d}") for number in range(5)]
    clock.wait(1)
    then = [attach(made, f"p-{number:08d}") for number in range(3, 8)]

    assert first == ["ok"] * 3 + ["TooManyRequestsException"] * 2
    assert then == ["ok"] * 2 + ["TooManyRequestsException"] * 3


def test_the_eleventh_policy_does_not_fit() -> None:
    made = double(attach_burst=50.0)

    assert [attach(made, f"p-{number:08d}") for number in range(10)] == ["ok"] * 9 + ["ConstraintViolationException"]


@pytest.mark.parametrize(
    ("rules", "policy_id", "account_id", "says"),
    [
        ({"unknown_for": 30.0}, POLICY, ACCOUNT, "TargetNotFoundException"),
        ({}, POLICY, "333333333333", "TargetNotFoundException"),
        ({}, "p-nosuchpolicy", ACCOUNT, "PolicyNotFoundException"),
        ({"type_enabled": False}, POLICY, ACCOUNT, "PolicyTypeNotEnabledException"),
        ({"finalizing_for": 60.0}, POLICY, ACCOUNT, "FinalizingOrganizationException"),
    ],
)
def test_what_does_not_fit_is_refused(rules: dict[str, Any], policy_id: str, account_id: str, says: str) -> None:
    assert attach(double(**rules), policy_id, account_id) == says


def test_an_account_is_found_after_a_while_and_not_after_it_left() -> None:
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
        aws_secret_access_key="x",  # noqa: S106 - no secret
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}),
    )


def test_real_boto3_pages_through_it() -> None:
    made = Organizations(Rules(page_size=2, empty_pages=True, read_burst=50.0, attach_burst=50.0, **AT_ONCE))
    made.policies.update(f"p-{number:08d}" for number in range(5))
    made.join(ACCOUNT)
    with serving(made) as endpoint:
        directory = OrganizationsDirectory(real(endpoint))
        results = [directory.attach(policy_id, ACCOUNT) for policy_id in sorted(made.policies)]

        assert results == [AttachmentResult.ATTACHED] * 5
        assert directory.attached_policies(ACCOUNT) == made.policies | {"p-FullAWSAccess"}
    assert made.calls == Counter({"AttachPolicy": 5, "ListPoliciesForTarget": 6})


def test_writes_that_overlap_conflict() -> None:
    """The second comes while the first is being made, whatever the machine's clock says."""
    said: list[str] = []

    class Meanwhile(StandingClock):
        def wait(self, seconds: float) -> None:
            if not said:
                said.append("")
                said.append(attach(made, account_id="333333333333"))
            super().wait(seconds)

    made = Organizations(Rules(), Meanwhile(), {POLICY})
    made.join(ACCOUNT, "333333333333")

    assert attach(made) == "ok"
    assert said[1:] == ["ConcurrentModificationException"]
    assert attach(made, account_id="333333333333") == "ok", "later"


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_is_passing_for_the_adapter(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Organizations(Rules(faults=1.0, **AT_ONCE))
    made.policies.add(POLICY)
    made.join(ACCOUNT)
    monkeypatch.setattr(made._rng, "choice", lambda _faults: fault)  # noqa: SLF001 - the double's own dice
    with serving(made) as endpoint:
        with pytest.raises(RetryableError):
            OrganizationsDirectory(real(endpoint)).attach(POLICY, ACCOUNT)
        with pytest.raises(FAILURES):
            real(endpoint).list_policies_for_target(TargetId=ACCOUNT, Filter="SERVICE_CONTROL_POLICY")
    carried = POLICY in made.attached[ACCOUNT]
    assert carried is (fault in {Fault.CUT_AFTER, Fault.GATEWAY, Fault.GARBAGE})


def test_unknown_rules_are_named() -> None:
    assert Rules.parse("faults=0.2,seed=7,empty_pages=yes") == Rules(faults=0.2, seed=7, empty_pages=True)
    with pytest.raises(ValueError, match="'fault' is not a rule of FAULTS; use one of attach_rate"):
        Rules.parse("fault=1")
