"""`lock`, `plan`, `snapshot` and `explain` with the template's reading role, against the embedded AWS.

Its accounts have neither `State` nor `Paths`, so this is the way around both. It knows no tags in bulk.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.test_operate import operate, session_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Done, Pipeline

DOCUMENT = """\
version: 1
policies: [{deny}, {other}]
rules:
  - {{id: everyone, attach: [{deny}], match: all, allow_empty: true}}
  - {{id: ou, attach: [{other}], match: [{{ou: "/{ou}/**"}}]}}
"""


def create_policy(pipeline: Pipeline, name: str, content: str) -> str:
    created = pipeline.client("organizations").create_policy(
        Content=content, Description="x", Name=name, Type="SERVICE_CONTROL_POLICY"
    )
    return str(created["Policy"]["PolicySummary"]["Id"])


def test_a_document_is_locked_planned_and_explained_with_the_reading_role(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    organizations, suffix = pipeline.client("organizations"), os.urandom(3).hex()
    root = organizations.list_roots()["Roots"][0]["Id"]
    ou = organizations.create_organizational_unit(ParentId=root, Name=f"ou-{suffix}")["OrganizationalUnit"]["Id"]
    inside, outside = pipeline.account(), pipeline.account()
    organizations.move_account(AccountId=inside, SourceParentId=root, DestinationParentId=ou)
    allow = json.dumps({"Version": "2012-10-17", "Statement": []})
    deny, other = (create_policy(pipeline, f"{name}-{suffix}", allow) for name in ("deny", "other"))
    organizations.attach_policy(PolicyId=deny, TargetId=outside)
    (tmp_path / "x.yaml").write_text(DOCUMENT.format(deny=f"deny-{suffix}", other=f"other-{suffix}", ou=f"ou-{suffix}"))
    role = session_of(pipeline, "OperatorReads")

    def run(*arguments: str) -> Done:
        return operate(pipeline, *arguments, **role)

    def planned(*arguments: str) -> dict[str, Any]:
        done = run("plan", "x.yaml", "--json", "--reveal", *arguments)
        assert done.returncode == 0, done.stderr
        plan: dict[str, Any] = json.loads(done.stdout)
        return plan | {"of": {each["id"]: each for each in plan["policies"]}}

    assert run("lock", "x.yaml").returncode == 0
    assert "up to date" in run("lock", "x.yaml").stderr
    plan = planned("--places")
    assert inside in plan["of"][deny]["get"]
    assert outside not in plan["of"][deny]["get"]
    assert plan["of"][other]["get"] == [inside]
    assert plan["of"][pipeline.at.policy_ids[0]]["in_guardrails"] is False
    assert plan["unread"] == []
    assert (plan["removes"], plan["needs_approval"], plan["only_observed"]) == (False, False, 0)
    observing = planned("--attach-to", "none")
    assert (observing["attachments"], observing["removals"], observing["only_observed"]) == (0, 0, plan["accounts"])
    assert observing["of"][other]["would_get"] == [inside]

    explained = run("explain", inside, "--document", "x.yaml", "--json")
    assert explained.returncode == 1, "it lacks both"
    found = json.loads(explained.stdout)
    assert found["facts"]["ous"] == [root, ou]
    assert [each["ruling"] for each in found["policies"]] == ["REQUIRED", "REQUIRED"]
    moved = json.loads(run("explain", inside, "--document", "x.yaml", "--as-if", "ou=/", "--json").stdout)
    assert [each["ruling"] for each in moved["policies"]] == ["REQUIRED", "NOT_REQUIRED"]

    assert run("snapshot", "organization.json", "x.yaml").returncode == 0
    assert planned("--snapshot", "organization.json")["digest"] == planned("--before", "none")["digest"]

    organizations.update_policy(PolicyId=deny, Content=allow.replace(" ", ""))
    stale = run("lock", "x.yaml", "--check")
    assert stale.returncode == 1
    assert f"the content of deny-{suffix}" in stale.stdout

    # Other tests use the same organization.
    organizations.detach_policy(PolicyId=deny, TargetId=outside)
    for each in (deny, other):
        organizations.delete_policy(PolicyId=each)
