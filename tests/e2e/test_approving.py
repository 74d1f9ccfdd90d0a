"""A stage that removes policies is planned, approved and deployed, against the embedded AWS."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from infra.deploy.build import ROOT
from infra.deploy.stack import find
from infra.deploy.template import dump
from infra.local.complete import for_stand_in
from infra.local.installation import create_policy
from infra.local.standin import running
from schemas.plan import ApprovedPlan
from tests.e2e.test_deploy import DENY, Console, create_trail
from tests.e2e.test_deploy_cycle import configurations, resources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Done

STACK = "joinguard-removing"
DOCUMENT = """\
version: 1
policies: [deny-x, deny-y]
rules:
  - {{ id: everyone, attach: [deny-x], match: all }}
  - {{ id: chosen, attach: [deny-y], match: [{{ account: "{chosen}" }}], when_no_longer: remove }}
limits: {{ removals: 1 }}
"""


@dataclass
class Removing:
    """A stage whose document lets three accounts lose a policy, of which it allows one a day."""

    console: Console
    document: Path
    losing: list[str]
    policy_id: str

    def deploy(self, *arguments: str, **parameters: str) -> Done:
        stage = self.console.stage("removing", PolicyIds="", **{"AttachTo": "all"} | parameters)
        return self.console.run("deploy", "--stage", stage, *self.options(), "--yes", *arguments)

    def options(self) -> list[str]:
        options = self.console.options()
        path = self.console.folder / "removing-template.yaml"
        path.write_text(template())
        return [*options[:-1], str(path)]

    @property
    def parameters(self) -> dict[str, str]:
        stack = find(self.console.aws.client("cloudformation"), STACK)
        assert stack is not None
        return dict(stack.parameters)


def template() -> str:
    """Return the template with the parameters of removals, and an effect of the approved plan."""
    loaded = json.loads(for_stand_in((ROOT / "infra" / "template.yaml").read_text()))
    declared: dict[str, Any] = loaded["Parameters"]
    for name, default in (("RemovePolicies", "false"), ("ApprovedPlanKey", "")):
        declared.setdefault(name, {"Type": "String", "Default": default})
    variables = loaded["Resources"]["AttachPolicies"]["Properties"]["Environment"]["Variables"]
    variables |= {"APPROVED_PLAN_OF_TEST": {"Ref": "ApprovedPlanKey"}, "REMOVES_OF_TEST": {"Ref": "RemovePolicies"}}
    return dump(loaded)


@pytest.fixture(scope="module")
def removing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Removing]:
    with running() as aws:
        create_trail(aws)
        folder = tmp_path_factory.mktemp("removing") / "stages"
        folder.mkdir()
        console = Console(aws, folder, create_policy(aws, "deny-x", DENY))
        policy_id = create_policy(aws, "deny-y", DENY | {"Id": "y"})
        organizations = aws.client("organizations")
        accounts = []
        for number in range(4):
            made = organizations.create_account(Email=f"r{number}@example.com", AccountName=f"r-{number}")
            accounts.append(str(made["CreateAccountStatus"]["AccountId"]))
            organizations.attach_policy(PolicyId=policy_id, TargetId=accounts[-1])
        document = folder.parent / "guardrails" / "removing.yaml"
        document.parent.mkdir()
        document.write_text(DOCUMENT.format(chosen=accounts[0]))
        command = [sys.executable, "-m", "handlers.operate", "--region", "us-east-1", "lock", str(document)]
        subprocess.run(command, cwd=ROOT, env=os.environ | console.environment(), capture_output=True, check=True)  # noqa: S603 - our own command
        yield Removing(console, document, sorted(accounts[1:]), policy_id)


def digest_in(done: Done) -> str:
    found = re.search(r"guardrails plan ([0-9a-f]{64}): ", done.stderr)
    assert found, done.stderr
    return found[1]


def test_removals_above_the_limit_are_deployed_only_with_the_approval_of_their_plan(removing: Removing) -> None:
    console, on = removing.console, {"RemovePolicies": "true"}

    useless = removing.deploy("--approve", "0" * 12)
    assert useless.returncode == 1
    assert 'its RemovePolicies is not "true"; remove --approve, or set RemovePolicies' in useless.stderr
    off = removing.deploy()
    assert off.returncode == 0, off.stderr
    assert "at most 3 removals (only of what Joinguard attached; limits.removals is 1)" in off.stderr
    assert 'note: nothing is removed, because RemovePolicies is not "true" in the stage' in off.stderr
    assert removing.parameters["ApprovedPlanKey"] == ""

    # The guardrails are in force already.
    refused = removing.deploy(**on)
    digest = digest_in(refused)
    assert digest == digest_in(off)
    assert refused.returncode == 1
    assert "the plan has at most 3 removals, more than limits.removals (1)" in refused.stderr
    assert f"make deploy STAGE=removing ARGS='--approve {digest}'" in refused.stderr
    other = removing.deploy("--approve", "0" * 64, **on)
    assert other.returncode == 1
    assert f"is not the digest of this plan, which is {digest}" in other.stderr
    assert removing.parameters["RemovePolicies"] == "false"

    planned = removing.deploy("--approve", digest[:12], "--plan-only", **on)
    assert planned.returncode == 0, planned.stderr
    assert f"with this change set, approved: plan {digest[:12]}, 3 removals, until 20" in planned.stderr
    assert "deploying removes nothing by itself" in planned.stderr
    stage = str(console.folder / "removing.yaml")
    apply = ("--pause", "1", "--apply", planned.stdout.strip(), "--yes")
    applied = console.run("deploy", "--stage", stage, *apply)
    assert applied.returncode == 0, applied.stderr
    said = f"with this change set, approved: plan {digest[:12]}, until 20"
    assert said in applied.stderr.partition("update of stack")[0]
    assert "next: each account gets and loses policies at its next event" in applied.stderr
    parameters = removing.parameters
    assert parameters["ApprovedPlanKey"] == f"joinguard/plans/{digest}.json"
    s3 = console.aws.client("s3")
    body = s3.get_object(Bucket=parameters["CodeBucket"], Key=parameters["ApprovedPlanKey"])["Body"].read()
    approved = ApprovedPlan.model_validate_json(body)
    assert (approved.sha256(), approved.canonical()) == (digest, body)
    assert approved.remove == {removing.policy_id: tuple(removing.losing)}

    found = configurations(console, resources(console, STACK)["Evidence"])
    assert sorted((bool(each.removes), each.approved_plan, each.plan) for each in found) == [
        (False, None, digest),
        (True, digest, digest),
    ]


def test_an_approval_continues_until_something_that_its_plan_depends_on_changes(removing: Removing) -> None:
    """Continues with the installation of the test before."""
    on, before = {"RemovePolicies": "true"}, removing.parameters["ApprovedPlanKey"]
    assert before

    unchanged = removing.deploy(**on)
    code = removing.deploy(LogRetentionDays="30", **on)
    assert "nothing to change" in unchanged.stderr
    assert (unchanged.returncode, code.returncode) == (0, 0), code.stderr
    assert "guardrails plan" not in unchanged.stderr + code.stderr
    assert "with this change set, approved: plan " in code.stderr
    assert ", as before" in code.stderr
    assert "with this change set" not in unchanged.stderr
    assert removing.parameters["ApprovedPlanKey"] == before

    fewer = removing.deploy(AttachTo=removing.losing[0], **on)
    assert fewer.returncode == 0, fewer.stderr
    assert "note: 3 accounts are only observed (AttachTo)" in " ".join(fewer.stderr.split())
    ended = before.removeprefix("joinguard/plans/")[:12]
    assert f"the approval of plan {ended} ends" in fewer.stderr
    assert removing.parameters["ApprovedPlanKey"] == ""

    # Without need, an approval is accepted.
    again = removing.deploy("--approve", digest_in(fewer), AttachTo=removing.losing[0], **on)
    assert again.returncode == 0, again.stderr
    assert f"approved: plan {digest_in(fewer)[:12]}, 1 removal, until 20" in again.stderr
    assert removing.parameters["ApprovedPlanKey"] == f"joinguard/plans/{digest_in(fewer)}.json"

    off = removing.deploy(AttachTo=removing.losing[0])
    assert off.returncode == 0, off.stderr
    assert removing.parameters["ApprovedPlanKey"] == ""
