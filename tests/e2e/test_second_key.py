"""A second key for pseudonyms in the embedded AWS: introduced, then the first one disabled, as before it is deleted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import boto3
import pytest

from infra.deploy.health import records
from infra.deploy.health.deployed import read_contents, read_stack
from infra.deploy.preflight import Account
from infra.deploy.pseudonym_keys import problems
from infra.deploy.stages import Stage, Target
from infra.local.installation import STACK, configure
from schemas.outcome import OutcomeStatus
from tests.e2e.test_operate import operate, session_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.deploy.health.check import Check
    from tests.e2e.conftest import Pipeline

WHY: Final = ("--reason", "INC-123")


class Keys:
    """The stack's own key, and a second one, by their ids and ARNs."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.kms, self.pipeline = pipeline.client("kms"), pipeline
        self.first = pipeline.resource("PseudonymKey")
        made = self.kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]
        self.second = str(made["KeyId"])

    def arn(self, key: str) -> str:
        return f"arn:aws:kms:{self.pipeline.aws.region}:{self.pipeline.at.management_account_id}:key/{key}"

    def introduce(self) -> None:
        parameters = {"PseudonymKeyArn": self.arn(self.second), "FormerPseudonymKeyArns": self.arn(self.first)}
        configure(self.pipeline.aws, parameters)

    def back(self) -> None:
        self.kms.enable_key(KeyId=self.first)
        configure(self.pipeline.aws, {"PseudonymKeyArn": "", "FormerPseudonymKeyArns": ""})


@pytest.fixture
def keys(pipeline: Pipeline) -> Iterator[Keys]:
    made = Keys(pipeline)
    yield made
    made.back()


def shown(pipeline: Pipeline, account_id: str) -> list[dict[str, Any]]:
    """Return the evidence of an account, as an operator sees it."""
    done = operate(pipeline, "outcome", account_id, "--json", **session_of(pipeline, "OperatorReads"))
    assert done.returncode == 0, done.stderr or done.stdout
    return [each for event in json.loads(done.stdout)["events"] for each in event["evidence"]]


def key_of(pipeline: Pipeline, key: str) -> str:
    """Return the key that made the pseudonyms of a piece of evidence."""
    body = pipeline.client("s3").get_object(Bucket=pipeline.at.evidence_bucket, Key=key)["Body"].read()
    return str(json.loads(body)["account"]["key_version"])


def joined(pipeline: Pipeline) -> str:
    account_id = pipeline.account()
    event = pipeline.invited(account_id)
    pipeline.handle(event)
    assert pipeline.outcome(event["detail"]["eventID"]).status is OutcomeStatus.ENFORCED
    return account_id


def status(pipeline: Pipeline) -> list[Check]:
    cloudformation = pipeline.client("cloudformation")
    stack = read_contents(cloudformation, read_stack(cloudformation, STACK))
    return list(records.pseudonym_keys(pipeline.client("kms"), stack))


def test_a_second_key_is_introduced_and_the_first_one_is_lost(pipeline: Pipeline, keys: Keys) -> None:
    before = joined(pipeline)
    keys.introduce()
    after = joined(pipeline)

    [earlier], [later] = shown(pipeline, before), shown(pipeline, after)
    assert [key_of(pipeline, each["key"]) for each in (earlier, later)] == [keys.first, keys.second]
    assert [each["verdict"] for each in (earlier, later)] == ["valid", "valid"]
    values = [each["key"].split("/")[-2] for each in (earlier, later)]
    resolver = session_of(pipeline, "Resolver")
    resolved = operate(pipeline, "resolve", *values, "--json", *WHY, **resolver)
    assert [each["name"] for each in json.loads(resolved.stdout)] == [before, after]
    made = operate(pipeline, "pseudonym", before, "--json", *WHY, **resolver)
    assert [each["key_version"] for each in json.loads(made.stdout)] == [keys.second, keys.first]
    assert [(each.what, each.state) for each in status(pipeline)] == [
        ("pseudonym key", "ok"),
        ("former pseudonym key", "ok"),
    ]

    keys.kms.disable_key(KeyId=keys.first)

    last = joined(pipeline)
    assert [each["verdict"] for account_id in (before, after, last) for each in shown(pipeline, account_id)] == [
        "valid",
        "valid",
        "valid",
    ]
    lost = operate(pipeline, "resolve", *values, *WHY, **resolver)
    assert lost.returncode == 1
    assert after in lost.stdout
    assert before not in lost.stdout
    assert f"key {keys.first} does not exist any more" in " ".join(lost.stderr.split())
    assert [(each.found, each.state) for each in status(pipeline)] == [
        ("Enabled", "ok"),
        (f"{keys.first}: Disabled", "ok"),
    ]


def test_the_deployment_refuses_to_drop_a_key_that_exists(
    pipeline: Pipeline, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", pipeline.aws.endpoint)
    session = boto3.Session(
        aws_access_key_id=pipeline.aws.access_key_id, aws_secret_access_key=pipeline.aws.secret_access_key
    )
    region, management = pipeline.aws.region, pipeline.at.management_account_id
    account = Account(management, "aws", region, pipeline.at.organization_id, management, all_features=True)

    def refused(**parameters: str) -> list[str]:
        stage = Stage(name="prod", region=region, parameters=parameters)
        assert stage.stack == STACK
        return list(problems(Target(session, stage), account))

    first, second = keys.arn(keys.first), keys.arn(keys.second)
    assert refused() == []
    [dropped] = refused(PseudonymKeyArn=second)
    assert first in dropped
    assert "add it to FormerPseudonymKeyArns" in dropped
    assert refused(PseudonymKeyArn=second, FormerPseudonymKeyArns=first) == []
    [both] = refused(PseudonymKeyArn=first, FormerPseudonymKeyArns=first)
    assert "names the key of PseudonymKeyArn" in both
    [unknown] = refused(PseudonymKeyArn=f"{second[:-4]}0000", FormerPseudonymKeyArns=first)
    assert "is not an enabled HMAC_256 key" in unknown
    keys.introduce()
    [back] = refused()
    assert second in back
    keys.kms.disable_key(KeyId=keys.first)
    assert refused(PseudonymKeyArn=second) == [], "a key that is lost may be dropped"
