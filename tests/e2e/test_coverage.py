"""`coverage` and `enforce --gaps` with the template's roles, against the embedded AWS.

Its accounts have no `Paths`, so the OUs are read one by one. It knows no tags in bulk.
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from tests.e2e.test_operate import WAIT, audit_records, operate, session_of

if TYPE_CHECKING:
    from tests.e2e.conftest import Pipeline


def causes(fields: dict[str, Any], account_id: str) -> dict[str, str]:
    """Return the causes of the gaps of an account, by the ids of the policies."""
    found = [each["policies"] for each in fields["gaps"] if each["account"] == account_id]
    return {each["id"]: each["cause"] for policies in found for each in policies}


def test_coverage_shows_each_gap_with_its_cause_and_enforce_repairs_them(pipeline: Pipeline) -> None:
    enforced, never_seen, drifted = (pipeline.account() for _ in range(3))
    for each in (enforced, drifted):
        pipeline.handle(pipeline.invited(each))
    first, second = pipeline.at.policy_ids[:2]
    pipeline.client("organizations").detach_policy(PolicyId=first, TargetId=drifted)
    reads, acts = session_of(pipeline, "OperatorReads"), session_of(pipeline, "OperatorActs")

    done = operate(pipeline, "coverage", "--json", "--reveal", **reads)

    assert done.returncode == 1, done.stderr
    fields = json.loads(done.stdout)
    assert causes(fields, enforced) == {}
    assert causes(fields, never_seen) == dict.fromkeys(pipeline.at.policy_ids, "NEVER_SEEN")
    assert causes(fields, drifted) == {first: "DRIFTED"}
    assert (fields["unread"], fields["unclear"]) == ([], 0)
    table = operate(pipeline, "coverage", "--csv", **reads)
    rows = list(csv.DictReader(io.StringIO(table.stdout)))
    assert len(rows) == fields["evaluated"] * len(pipeline.at.policy_ids)
    assert not [each for each in (enforced, never_seen, drifted) if each in table.stdout]
    assert all(each["joined_at"] for each in rows)

    planned = operate(pipeline, "enforce", "--gaps", "--policy", second, "--reveal", "--json", **reads)
    assert planned.returncode == 0, planned.stderr
    chosen = {each["account"] for each in json.loads(planned.stdout)["requests"]}
    assert never_seen in chosen
    assert chosen.isdisjoint({enforced, drifted}), "they carry this policy"

    confirm = ("--confirm", "--reason", "the coverage, INC-123")
    repaired = operate(pipeline, "enforce", "--gaps", *WAIT, *confirm, **acts)
    assert repaired.returncode == 0, repaired.stderr
    assert pipeline.watch.attached(never_seen) >= set(pipeline.at.policy_ids)
    assert pipeline.watch.attached(drifted) >= set(pipeline.at.policy_ids)
    assert "the coverage, INC-123" in {each.reason for each in audit_records(pipeline)}

    after = operate(pipeline, "coverage", **reads)
    assert after.returncode == 0, after.stdout + after.stderr
    assert "each carries every required policy" in after.stderr
