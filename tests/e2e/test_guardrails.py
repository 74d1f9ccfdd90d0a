"""A guardrails document in the embedded AWS: it is locked, deployed, and decides about accounts in each corner.

The stand-in's Organizations has no `Paths`, so the OUs are read by ListParents, and it has no tags in bulk.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from infra.deploy.guardrails import compile_for, policy_arns, upload_guardrails
from infra.deploy.installing import parameters_for
from infra.deploy.preflight import read_account
from infra.deploy.stack import DeployError
from infra.deploy.stages import Target, load_stage
from infra.local.installation import CODE_BUCKET, configure, create_policy
from infra.local.waiting import until
from schemas.outcome import AttachmentResult, OutcomeStatus
from tests.e2e.test_deploy import DENY
from tests.e2e.test_main_job import event_id
from tests.e2e.test_operate import operate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Pipeline

READ, ATTACH = "ListPoliciesForTarget", "AttachPolicy"
DOCUMENT = """\
version: 1
policies:
  - baseline
  - region-lock
  - {{ name: data-perimeter, type: RESOURCE_CONTROL_POLICY }}
rules:
  - {{ id: everyone, attach: [baseline], match: all }}
  - id: production
    attach: [region-lock]
    match: [{{ ou: /Workloads/Prod/** }}, {{ tags: {{ environment: prod }} }}]
    exclude: [{{ ou: /Workloads/Prod/Legacy }}]
  - {{ id: created, attach: [data-perimeter], match: [{{ joined: CREATED, name: perimeter-* }}] }}
exceptions:
  - id: EXC-17
    accounts: ["{exempt}"]
    policies: [region-lock]
    owner: a@example.com
    approved_by: b@example.com
    reason: CHG-1
    expires: 2099-12-31
examples:
  - {{ account: {{ ou: /Workloads/Prod/Web, joined: INVITED, name: web }}, carries: [baseline, region-lock] }}
"""


class Organization:
    """OUs and policies in the embedded AWS, and a stage with a document about them."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self.pipeline, self.folder = pipeline, folder
        self.client = pipeline.client("organizations")
        self.root = self.client.list_roots()["Roots"][0]["Id"]
        self.ous: dict[str, str] = {"/": self.root}
        for path in ("/Workloads", "/Workloads/Prod", "/Workloads/Prod/Web", "/Workloads/Prod/Legacy"):
            above, _, name = path.rpartition("/")
            self.ous[path] = self._ou(self.ous[above or "/"], name)
        self._rename_older_policies()
        self.policies = {name: create_policy(pipeline.aws, name, DENY) for name in ("baseline", "region-lock")}
        content = json.dumps({"Version": "2012-10-17", "Statement": []})
        made = self.client.create_policy(
            Name="data-perimeter", Description="x", Type="RESOURCE_CONTROL_POLICY", Content=content
        )
        self.policies["data-perimeter"] = made["Policy"]["PolicySummary"]["Id"]
        self.exempt = self.account("/Workloads/Prod/Web")
        for name in ("stages", "guardrails"):
            (folder / name).mkdir()
        (folder / "stages" / "rules.yaml").write_text("region: us-east-1\n")
        self.document = folder / "guardrails" / "rules.yaml"
        self.document.write_text(DOCUMENT.format(exempt=self.exempt))

    def _ou(self, above: str, name: str) -> str:
        """Return the id of an OU, which another module may have made in this organization."""
        made = self.client.list_organizational_units_for_parent(ParentId=above)["OrganizationalUnits"]
        ids = [each["Id"] for each in made if each["Name"] == name]
        if ids:
            return str(ids[0])
        return str(self.client.create_organizational_unit(ParentId=above, Name=name)["OrganizationalUnit"]["Id"])

    def _rename_older_policies(self) -> None:
        """Rename policies that another module made in this organization: names must be unique."""
        for kind in ("SERVICE_CONTROL_POLICY", "RESOURCE_CONTROL_POLICY"):
            for each in self.client.list_policies(Filter=kind)["Policies"]:
                if each["Name"] in {"baseline", "region-lock", "data-perimeter"}:
                    self.client.update_policy(PolicyId=each["Id"], Name=f"{each['Name']}-{uuid.uuid4()}")

    def account(self, path: str = "/", *, name: str = "", **tags: str) -> str:
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        number = len(self.client.list_accounts()["Accounts"])
        status = self.client.create_account(
            Email=f"m{number}@example.com", AccountName=name or f"member-{number}", Tags=pairs
        )
        account_id = str(status["CreateAccountStatus"]["AccountId"])
        if path != "/":
            self.client.move_account(AccountId=account_id, SourceParentId=self.root, DestinationParentId=self.ous[path])
        return account_id

    def target(self) -> Target:
        session: Any = _Session(self.pipeline)
        return Target(session, load_stage(str(self.folder / "stages" / "rules.yaml")), 1)

    def deploy(self) -> None:
        target = self.target()
        account = read_account(target)
        guardrails = compile_for(target, "us-east-1", pytest.fail)
        assert guardrails is not None
        key = upload_guardrails(target, CODE_BUCKET, guardrails, owner=account.account_id)
        arns = policy_arns(account, target.stage, guardrails)
        configure(self.pipeline.aws, {"GuardrailsKey": key, "PolicyArns": ",".join(arns), "PolicyIds": ""})

    def carried(self, account_id: str) -> set[str]:
        """Return the names of the document's policies that an account carries."""
        found = [
            each["Id"]
            for policy_type in ("SERVICE_CONTROL_POLICY", "RESOURCE_CONTROL_POLICY")
            for each in self.client.list_policies_for_target(TargetId=account_id, Filter=policy_type)["Policies"]
        ]
        return {name for name, policy_id in self.policies.items() if policy_id in found}


class _Session:
    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def client(self, service: str, **_: object) -> Any:
        return self._pipeline.client(service)


@pytest.fixture(scope="module")
def organization(shared: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organization]:
    parameters = {
        each["ParameterKey"]: each["ParameterValue"]
        for each in shared.client("cloudformation").describe_stacks(StackName="joinguard")["Stacks"][0]["Parameters"]
    }
    made = Organization(shared, tmp_path_factory.mktemp("rules"))
    with pytest.raises(DeployError, match="has no lock file yet"):
        made.deploy()
    locked = operate(shared, "lock", str(made.document))
    assert locked.returncode == 0, locked.stderr
    with pytest.raises(DeployError, match="the policy type RESOURCE_CONTROL_POLICY is not enabled"):
        made.deploy()
    made.client.enable_policy_type(RootId=made.root, PolicyType="RESOURCE_CONTROL_POLICY")
    made.deploy()
    yield made
    made.client.disable_policy_type(RootId=made.root, PolicyType="RESOURCE_CONTROL_POLICY")
    configure(shared.aws, {name: parameters[name] for name in ("GuardrailsKey", "PolicyArns", "PolicyIds")})


@pytest.mark.parametrize(
    ("where", "expected", "reads"),
    [
        ({}, {"baseline"}, 1),
        ({"path": "/Workloads/Prod"}, {"baseline", "region-lock"}, 1),
        ({"path": "/Workloads/Prod/Web"}, {"baseline", "region-lock"}, 1),
        ({"path": "/Workloads/Prod/Legacy", "environment": "prod"}, {"baseline"}, 0),
        ({"environment": "prod"}, {"baseline", "region-lock"}, 1),
        ({"environment": "test"}, {"baseline"}, 1),
        ({"name": "perimeter-1"}, {"baseline", "data-perimeter"}, 1),
    ],
    ids=["root", "OU", "below the OU", "excluded OU", "tag", "another tag", "name and join method, an RCP"],
)
def test_an_account_gets_what_the_rules_say(
    pipeline: Pipeline, organization: Organization, where: dict[str, str], expected: set[str], reads: int
) -> None:
    account_id = organization.account(**where)
    event = pipeline.invited(account_id)

    pipeline.handle(event)

    outcome = pipeline.outcome(event_id(event))
    assert outcome.status is OutcomeStatus.ENFORCED
    assert organization.carried(account_id) == expected
    assert {each.result for each in outcome.policies} == {AttachmentResult.ATTACHED}
    assert outcome.guardrails is not None
    counted = pipeline.relay.counted()
    # The OUs decide about an account in Legacy, so its tags are not read.
    assert counted.get("ListTagsForResource", 0) <= reads
    assert (counted[READ], counted["DescribeAccount"]) == (2, 1)
    [evidence] = pipeline.watch.evidence(event_id(event))
    assert evidence.guardrails == outcome.guardrails


def test_a_move_and_a_change_of_tags_bring_what_the_rules_require_then(
    pipeline: Pipeline, organization: Organization
) -> None:
    moved, tagged = organization.account(), organization.account()
    for account_id in (moved, tagged):
        pipeline.handle(pipeline.invited(account_id))
        assert organization.carried(account_id) == {"baseline"}
    ous = organization.ous
    organization.client.move_account(
        AccountId=moved, SourceParentId=ous["/"], DestinationParentId=ous["/Workloads/Prod/Web"]
    )
    organization.client.tag_resource(ResourceId=tagged, Tags=[{"Key": "environment", "Value": "prod"}])

    move = pipeline.moved(moved, sourceParentId=ous["/"], destinationParentId=ous["/Workloads/Prod/Web"])
    for event, account_id in ((move, moved), (pipeline.tagged(tagged), tagged)):
        pipeline.handle(event)

        assert pipeline.outcome(event_id(event)).status is OutcomeStatus.ENFORCED
        assert organization.carried(account_id) == {"baseline", "region-lock"}


def test_an_exception_takes_a_policy_away(pipeline: Pipeline, organization: Organization) -> None:
    event = pipeline.invited(organization.exempt)

    pipeline.handle(event)

    assert pipeline.outcome(event_id(event)).status is OutcomeStatus.ENFORCED
    assert organization.carried(organization.exempt) == {"baseline"}


def test_unreadable_tags_leave_only_what_they_decide_undecided(pipeline: Pipeline, organization: Organization) -> None:
    account_id = organization.account(environment="prod")
    event = pipeline.invited(account_id)
    pipeline.relay.fail_next("ListTagsForResource", (400, "InvalidInputException"))

    pipeline.handle(event)

    outcome = pipeline.outcome(event_id(event))
    assert outcome.status is OutcomeStatus.FAILED
    assert organization.carried(account_id) == {"baseline"}
    [dead_letter] = pipeline.watch.dead_letters()
    assert dead_letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "InvalidInputException"

    done = operate(pipeline, "redrive", "--all", "--wait", "30s", "--confirm", "--reason", "tags are readable again")
    assert done.returncode == 0, done.stderr
    assert organization.carried(account_id) == {"baseline", "region-lock"}


@pytest.mark.parametrize(
    "action", ["organizations:DescribeAccount", "organizations:ListTagsForResource", "organizations:ListParents"]
)
def test_without_a_permission_to_read_facts_the_message_comes_again(
    pipeline: Pipeline, organization: Organization, action: str
) -> None:
    iam, role = pipeline.client("iam"), pipeline.resource("AttachPoliciesRole")
    before = iam.get_role_policy(RoleName=role, PolicyName="attach-policies")["PolicyDocument"]
    denied = {"Effect": "Deny", "Action": action, "Resource": "*"}
    less = before | {"Statement": [*before["Statement"], denied]}
    account_id = organization.account()
    event = pipeline.invited(account_id)

    iam.put_role_policy(RoleName=role, PolicyName="attach-policies", PolicyDocument=json.dumps(less))
    try:
        pipeline.watch.put(event)
        until(lambda: pipeline.watch.failing() == [event_id(event)], "the first attempt to begin")
        until(lambda: pipeline.outcome(event_id(event)).fault, "the first attempt to end")
    finally:
        iam.put_role_policy(RoleName=role, PolicyName="attach-policies", PolicyDocument=json.dumps(before))

    outcome = pipeline.outcome(event_id(event))
    assert outcome.status is OutcomeStatus.RETRYING
    assert outcome.fault is not None
    assert outcome.fault.code == "AccessDeniedException"
    assert organization.carried(account_id) == {"baseline"}


def test_a_policy_whose_content_changed_makes_the_lock_stale(organization: Organization) -> None:
    policy_id = organization.policies["baseline"]
    before = organization.client.describe_policy(PolicyId=policy_id)["Policy"]["Content"]
    organization.client.update_policy(PolicyId=policy_id, Content=json.dumps(DENY | {"Id": "changed"}))
    try:
        with pytest.raises(DeployError, match=r"the content of baseline .* changed in the organization"):
            organization.deploy()
    finally:
        organization.client.update_policy(PolicyId=policy_id, Content=before)


def test_the_deployment_passes_the_guardrails_to_the_stack(organization: Organization, tmp_path: Path) -> None:
    target = organization.target()
    package = tmp_path / "x.zip"
    package.write_bytes(b"zip")
    guardrails = compile_for(target, "us-east-1", pytest.fail)
    assert guardrails is not None

    parameters = parameters_for(target, read_account(target), package, guardrails)

    assert (parameters["WatchMoves"], parameters["WatchTags"]) == ("true", "true")
    assert parameters["GuardrailsKey"] == f"joinguard/guardrails/{guardrails.sha256()}.json"
    # Its rules depend on OUs and tags.
    assert (parameters["WatchMoves"], parameters["WatchTags"]) == ("true", "true")
    arns = str(parameters["PolicyArns"]).split(",")
    assert [each.split("/", 2)[2] for each in arns] == [
        f"service_control_policy/{organization.policies['baseline']}",
        f"service_control_policy/{organization.policies['region-lock']}",
        f"resource_control_policy/{organization.policies['data-perimeter']}",
    ]
