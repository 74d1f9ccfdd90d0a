"""A stage in the embedded AWS that removes policies: its document, its accounts, and its removals."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from boto3.dynamodb.conditions import Key
from click.testing import CliRunner

from handlers.aws.dynamodb_rows import outcome
from handlers.aws.kms_pseudonyms import KmsPseudonyms
from handlers.operate.__main__ import cli
from infra.deploy.guardrails import compile_for, policy_arns, upload_guardrails
from infra.deploy.preflight import read_account
from infra.deploy.stages import Target, load_stage
from infra.local.events import event_id
from infra.local.installation import CODE_BUCKET, configure, create_policy
from infra.local.waiting import until
from schemas.events import RemovalRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from schemas.compiled_guardrails import CompiledGuardrails
    from schemas.outcome import Outcome
    from schemas.plan import ApprovedPlan
    from tests.e2e.conftest import Pipeline

DENY: Final = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "x:Y", "Resource": "*"}]}
SCP: Final = "SERVICE_CONTROL_POLICY"
#: Of an account without tags, the tags decide; of one in production, the name does.
DOCUMENT: Final = """\
version: 1
policies: [{lock}, {handmade}]
rules:
  - id: production
    attach: [{lock}]
    match: [{{ tags: {{ environment: prod }} }}]
    exclude: [{{ name: "excluded-*" }}]
    when_no_longer: remove
  - id: nobody
    attach: [{handmade}]
    match: [{{ tags: {{ environment: never }} }}]
    when_no_longer: remove
exceptions: [{exceptions}]
limits: {{ removals: {removals} }}
"""


class Removing:
    """An organization with two policies, and a stage whose document says when to remove them."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self.pipeline, self.folder = pipeline, folder
        self.client = pipeline.client("organizations")
        # Another test may have such a stage in the same organization.
        suffix = os.urandom(4).hex()
        self.names = {"lock": f"removing-lock-{suffix}", "handmade": f"removing-handmade-{suffix}"}
        self.lock, self.handmade = (create_policy(pipeline.aws, name, DENY) for name in self.names.values())
        for name in ("stages", "guardrails"):
            (folder / name).mkdir()
        (folder / "stages" / "removing.yaml").write_text('region: us-east-1\nparameters: { RemovePolicies: "true" }\n')

    def deploy(
        self,
        *,
        removals: int = 1000,
        exceptions: str = "",
        approved: Callable[[CompiledGuardrails], ApprovedPlan] | None = None,
    ) -> None:
        """Lock and deploy the document with a limit of removals a day, exceptions, and a plan that was approved."""
        document = self.folder / "guardrails" / "removing.yaml"
        document.write_text(DOCUMENT.format(removals=removals, exceptions=exceptions, **self.names))
        keys = {
            "AWS_ENDPOINT_URL": self.pipeline.aws.endpoint,
            "AWS_DEFAULT_REGION": self.pipeline.aws.region,
            "AWS_ACCESS_KEY_ID": self.pipeline.aws.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.pipeline.aws.secret_access_key,
        }
        locked = CliRunner().invoke(cli, ["lock", str(document)], env=keys)
        assert locked.exit_code == 0, locked.output
        session: Any = _Session(self.pipeline)
        target = Target(session, load_stage(str(self.folder / "stages" / "removing.yaml")), 1)
        account = read_account(target)
        # An exception that is over is a note.
        guardrails = compile_for(target, "us-east-1", lambda _note: None)
        assert guardrails is not None
        key = upload_guardrails(target, CODE_BUCKET, guardrails, owner=account.account_id)
        arns = ",".join(policy_arns(account, target.stage, guardrails))
        named = {
            "GuardrailsKey": key,
            "PolicyArns": arns,
            "PolicyIds": "",
            "ApprovedPlanKey": "",
            "ApprovedPlanUntil": "",
        }
        if approved:
            plan = approved(guardrails)
            named["ApprovedPlanKey"] = f"joinguard/plans/{plan.sha256()}.json"
            named["ApprovedPlanUntil"] = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
            self.pipeline.client("s3").put_object(
                Bucket=CODE_BUCKET,
                Key=named["ApprovedPlanKey"],
                Body=plan.canonical(),
                ChecksumAlgorithm="SHA256",
            )
        configure(self.pipeline.aws, target.stage.parameters | named)

    def account(self, kind: str = "member", **tags: str) -> str:
        """Create an account with these tags and a name that begins with its kind; return its id."""
        name = f"{kind}-{os.urandom(4).hex()}"
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        status = self.client.create_account(Email=f"{name}@example.com", AccountName=name, Tags=pairs)
        return str(status["CreateAccountStatus"]["AccountId"])

    def attach(self, policy_id: str, account_id: str) -> None:
        """Attach a policy by hand."""
        self.client.attach_policy(PolicyId=policy_id, TargetId=account_id)

    def attached(self, account_id: str) -> set[str]:
        """Return which of the document's policies an account carries."""
        found = self.client.list_policies_for_target(TargetId=account_id, Filter=SCP)["Policies"]
        return {each["Id"] for each in found} & {self.lock, self.handmade}

    def outcomes(self, account_id: str) -> list[Outcome]:
        """Return the outcomes of an account's events."""
        table = self.pipeline.aws.resource("dynamodb").Table(self.pipeline.at.outcomes_table)
        found = table.query(KeyConditionExpression=Key("account_id").eq(account_id), ConsistentRead=True)
        return [outcome(each) for each in found["Items"]]

    def removal(self, account_id: str) -> Outcome:
        """Wait until the request to remove an account's policies is decided; return its outcome."""
        found: list[Outcome] = []

        def is_decided() -> bool:
            found[:] = [each for each in self.outcomes(account_id) if each.event_name == "RemovalRequest"]
            return any(each.done_at for each in found)

        until(is_decided, "the outcome of a removal")
        [only] = found
        return only

    def request(self, account_id: str) -> RemovalRequest:
        """Return a request to remove what an account does not need."""
        return RemovalRequest(
            source="joinguard.removal",
            event_id=f"removal-{event_id()}",
            requested_at=datetime.now(UTC),
            account_id=account_id,
            organization_id=self.pipeline.at.organization_id,
            reason="test",
        )

    def send(self, body: str) -> str:
        """Put a message on the queue of the removing worker; return its id."""
        url = self.pipeline.resource("Removals")
        sent = self.pipeline.client("sqs").send_message(QueueUrl=url, MessageBody=body)
        return str(sent["MessageId"])

    def pseudonyms(self) -> KmsPseudonyms:
        """Return the installation's pseudonyms."""
        key = self.pipeline.resource("PseudonymKey")
        return KmsPseudonyms(self.pipeline.client("kms"), key, self.pipeline.at.organization_id)

    def delayed_joins(self) -> int:
        """Return the number of messages on the joins queue that SQS does not deliver yet."""
        name = "ApproximateNumberOfMessagesDelayed"
        url = self.pipeline.at.queue_url
        found = self.pipeline.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=[name])
        return int(found["Attributes"][name])

    @contextmanager
    def policy_without(self, role: str, policy: str, *, action: str, sid: str = "") -> Iterator[None]:
        """Take an action from a role's policy, or only from one statement, until the block ends."""
        iam, name = self.pipeline.client("iam"), self.pipeline.resource(role)
        before = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        less = json.loads(json.dumps(before))
        for statement in less["Statement"]:
            if sid in {"", statement["Sid"]}:
                listed = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
                statement["Action"] = [each for each in listed if each.removesuffix("Batch") != action]
        less["Statement"] = [each for each in less["Statement"] if each["Action"]]
        assert less != before
        iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(less))
        try:
            yield
        finally:
            iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(before))


class _Session:
    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def client(self, service: str, **_: object) -> Any:
        return self._pipeline.client(service)


@contextmanager
def removing_stage(pipeline: Pipeline, folder: Path) -> Iterator[Removing]:
    """Deploy a stage that removes policies, and what was deployed before at the end."""
    stacks = pipeline.client("cloudformation").describe_stacks(StackName="joinguard")["Stacks"]
    before = {each["ParameterKey"]: each["ParameterValue"] for each in stacks[0]["Parameters"]}
    made = Removing(pipeline, folder)
    made.deploy()
    yield made
    names = ("ApprovedPlanKey", "ApprovedPlanUntil", "GuardrailsKey", "PolicyArns", "PolicyIds", "RemovePolicies")
    configure(pipeline.aws, {name: before[name] for name in names})
