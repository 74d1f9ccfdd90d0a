"""`evidence` with the template's read-only role, against the embedded AWS."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from schemas.pack import MemberState, Pack
from tests.e2e.test_operate import operate, session_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Pipeline


def test_the_read_only_role_makes_a_pack_of_what_happened(pipeline: Pipeline, tmp_path: Path) -> None:
    joined = pipeline.account()
    pipeline.handle(pipeline.invited(joined))
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    reads = session_of(pipeline, "OperatorReads")

    done = operate(
        pipeline, "evidence", str(tmp_path / "pack"), "--from", today, "--to", today, "--reveal", "--json", **reads
    )

    assert json.loads(done.stdout)["reveals"], done.stderr
    pack = Pack.model_validate_json((tmp_path / "pack" / "pack.json").read_bytes())
    [member] = [each for each in pack.members if each.account == joined]
    assert (member.is_new, member.state) == (True, MemberState.COVERED)
    assert set(member.carried or ()) >= set(pipeline.at.policy_ids)
    assert {each.source: each.problem for each in pack.sources if "could not be" in (each.problem or "")} == {}
    assert "ORGANIZATION_UNREAD" not in {each.code for each in pack.unproven}
