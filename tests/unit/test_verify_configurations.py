"""Guardrails that decided must be on record: each with a configuration that a deployment wrote."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from handlers.core.evidence.verify_objects import Period
from schemas.configuration import Configuration
from schemas.evidence import Evidence
from schemas.keys import configuration_key, evidence_key, sweep_key
from schemas.outcome import OutcomeStatus
from schemas.pseudonym import Pseudonym
from schemas.sweep import SweepEvidence, SweepMode, SweepReport
from tests.fakes import ACCOUNT, ORGANIZATION
from tests.verifying import VerifyWorld

if TYPE_CHECKING:
    from schemas.verification import Verification

OURS, OTHERS = "a" * 64, "b" * 64
SOMEBODY = Pseudonym(value="prin-" + "0" * 32, key_version="key-1")
HOURS = timedelta(hours=1).total_seconds()


class World(VerifyWorld):
    """A bucket with configurations, evidence that names guardrails, and sweeps; it is sealed every half an hour."""

    def deploy(self, guardrails: str) -> str:
        """Record what a deployment put in force; return the key."""
        number = len(self.bucket.versions)
        record = Configuration(
            record_id=f"{number:032x}",
            stack="joinguard",
            guardrails=guardrails,
            policies=(),
            attaches_to="all",
            actor=SOMEBODY,
            actor_name=SOMEBODY,
            actor_id="AIDA",
            recorded_at=self.clock.now(),
        )
        key = configuration_key(record)
        self.bucket.put(key, record.model_dump_json(exclude_none=True).encode())
        return key

    def decide(self, guardrails: str | None, event: str = "decided") -> str:
        """Write evidence of a decision; return its key."""
        evidence = Evidence(
            event_id=event,
            event_name="AcceptHandshake",
            event_time=self.clock.now(),
            source="aws.organizations",
            account=self.pseudonyms.of(ACCOUNT),
            organization_id=ORGANIZATION,
            attempt=1,
            status=OutcomeStatus.ENFORCED,
            guardrails=guardrails,
            recorded_at=self.clock.now(),
        )
        self.bucket.put(key := evidence_key(evidence), evidence.model_dump_json(exclude_none=True).encode())
        return key

    def sweep(self, guardrails: str) -> str:
        """Write the evidence of a sweep; return its key."""
        report = SweepReport(
            sweep_id="sweep-" + "a" * 32,
            organization_id=ORGANIZATION,
            guardrails=guardrails,
            mode=SweepMode.REPORT,
            begun_at=self.clock.now(),
            decided_at=self.clock.now(),
            members=0,
            covered=0,
            with_gaps=0,
            unclear=0,
            requested=0,
        )
        body = SweepEvidence(report=report).model_dump_json(exclude_none=True).encode()
        self.bucket.put(key := sweep_key(report), body)
        return key

    def wait(self, hours: float) -> None:
        """Seal every half an hour."""
        for _ in range(int(hours * 2)):
            self.seal()
            self.clock.advance(HOURS / 2)

    def offline(self) -> Verification:
        """Verify without outcomes: the evidence here has none."""
        return self.verification(is_offline=True)


@pytest.fixture
def w() -> World:
    world = World()
    world.deploy(OURS)
    world.wait(1)
    return world


def found(verification: Verification) -> list[tuple[str, str]]:
    return [(each.kind.value, each.what) for each in verification.findings]


def test_guardrails_that_a_deployment_recorded_are_no_finding(w: World) -> None:
    w.decide(OURS)
    w.sweep(OURS)
    w.decide(None, "no-join")
    w.wait(5)

    verified = w.offline()

    assert (verified.findings, verified.left_out) == ((), {})


@pytest.mark.parametrize("what", ["evidence", "a sweep"])
def test_guardrails_that_nobody_recorded_are_found(w: World, what: str) -> None:
    w.decide(OURS, "before")
    key = w.decide(OTHERS) if what == "evidence" else w.sweep(OTHERS)
    w.wait(5)

    verified = w.offline()

    assert found(verified) == [("missing", key)]
    [finding] = verified.findings
    assert OTHERS in finding.meaning
    assert "ExecuteChangeSet" in finding.next_step


def test_guardrails_are_found_once_with_the_first_object_and_the_number_of_all(w: World) -> None:
    key = w.decide(OTHERS, "z-first")
    w.wait(1)
    for number in range(20):
        w.decide(OTHERS, f"event-{number}")
    w.wait(5)

    [finding] = w.offline().findings

    assert finding.what == key
    assert "in 21 pieces of evidence" in finding.meaning


def test_a_record_may_be_written_after_what_it_put_in_force_has_decided(w: World) -> None:
    w.decide(OTHERS)
    w.wait(2)
    assert w.offline().findings == (), "the deployment may not have ended"

    w.deploy(OTHERS)
    w.wait(5)
    assert w.offline().findings == ()


def test_evidence_of_versions_without_records_is_not_compared() -> None:
    world = World()
    world.decide(OTHERS)
    world.wait(5)
    before = world.offline()
    assert (before.findings, "--record" in before.left_out["configurations"]) == ((), True)

    world.deploy(OURS)
    world.wait(5)
    assert (world.offline().findings, world.offline().left_out) == ((), {})


def test_a_record_of_before_the_period_counts(w: World) -> None:
    w.wait(48)
    begin = w.clock.now()
    w.decide(OURS)
    key = w.decide(OTHERS, "other")
    w.wait(5)

    verified = w.verification(is_offline=True, period=Period(begin, None))

    assert (found(verified), verified.valid) == ([("missing", key)], 2)


def test_evidence_outside_of_the_period_is_not_compared(w: World) -> None:
    w.decide(OTHERS)
    w.wait(5)

    assert w.verification(is_offline=True, period=Period(w.clock.now(), None)).findings == ()


@pytest.mark.parametrize("change", ["deleted", "changed"])
def test_a_record_that_is_not_as_it_was_sealed_does_not_count(w: World, change: str) -> None:
    record = w.deploy(OTHERS)
    key = w.decide(OTHERS)
    w.wait(5)
    [version] = w.bucket.versions[record]
    if change == "deleted":
        del w.bucket.versions[record]
    else:
        version.body = (version.body or b"").replace(b"AIDA", b"AIDB")

    kind = "missing" if change == "deleted" else "changed"
    assert set(found(w.offline())) == {(kind, record), ("missing", key)}


def test_a_record_counts_as_it_was_sealed_first(w: World) -> None:
    record = w.deploy(OURS)
    body = w.bucket.versions[record][0].body or b""
    w.wait(1)
    w.bucket.put(record, body.replace(OURS.encode(), OTHERS.encode()))
    key = w.decide(OTHERS)
    w.wait(5)

    assert set(found(w.offline())) == {("inserted", record), ("missing", key)}


def test_records_in_the_archive_leave_the_comparison_out(w: World) -> None:
    record = w.deploy(OTHERS)
    w.decide(OTHERS)
    w.wait(5)
    w.sealed_bucket.archived.add(record)

    verified = w.offline()

    assert verified.findings == ()
    assert verified.left_out["configurations"] == "1 of the records must be restored in S3 before they can be read"


def test_a_quick_verification_reads_no_records(w: World) -> None:
    w.decide(OTHERS)
    w.wait(5)
    w.sealed_bucket.fetched.clear()

    assert w.verification(is_offline=True, is_quick=True).findings == ()
    assert not [each for each in w.sealed_bucket.fetched if each.startswith("configuration/")]


def test_what_an_interrupted_verification_read_is_said_to_be_left_out(w: World) -> None:
    for number in range(1100):
        w.decide(OURS, f"event-{number:04d}")
    w.decide(OTHERS, "a")
    w.wait(5)
    w.sealed_bucket.interrupt_after = len([each for each in w.bucket.versions if each.startswith("log/")]) + 1095
    with pytest.raises(KeyboardInterrupt):
        w.offline()
    w.sealed_bucket.interrupt_after = None

    resumed, anew = w.offline(), w.offline()

    assert "verify once more" in resumed.left_out["configurations"]
    assert (anew.left_out, [each.kind for each in anew.findings]) == ({}, ["missing"])
