"""The wiring of the operator's tool: from a stack's name to everything that it works with."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from handlers.aws.archive import S3Archive
from handlers.aws.outcomes import OutcomesReader
from handlers.aws.post import SqsPost
from handlers.aws.preflight import Preflight
from handlers.aws.pseudonyms import KmsPseudonyms
from handlers.bootstrap import SystemClock
from handlers.core.acts import Actor, Deed
from handlers.core.letters import DeadLetter
from schemas.act import Act, Action


class OperateError(Exception):
    """It cannot be done; the message says why and what to do."""


@dataclass(frozen=True)
class Workbench:
    """An installation in an operator's hands."""

    post: SqsPost
    archive: S3Archive
    outcomes: OutcomesReader
    preflight: Preflight
    clock: SystemClock
    actor: Actor
    policy_ids: tuple[str, ...]
    organization_id: str
    sqs: Any
    dead_letters_url: str

    def begin(self, action: Action, reason: str, letters: list[DeadLetter]) -> Deed:
        """Put an act on record before it is done."""
        return Deed.begin(self.archive, self.clock, self.actor, action, reason, letters)

    def move_all(self) -> str:
        """Start SQS's own move task from the dead letters to where they came from; return its handle."""
        arn = self._arn(self.dead_letters_url)
        return str(self.sqs.start_message_move_task(SourceArn=arn)["TaskHandle"])

    def moving(self) -> dict[str, Any]:
        """Return how SQS's own latest move task stands."""
        arn = self._arn(self.dead_letters_url)
        return dict(self.sqs.list_message_move_tasks(SourceArn=arn, MaxResults=1)["Results"][0])

    def cancel_move(self, handle: str) -> None:
        """Let SQS move no more; what it has moved stays moved."""
        self.sqs.cancel_message_move_task(TaskHandle=handle)

    def history(self, letter: DeadLetter) -> list[str]:
        """Return what operators did to a letter of this body since it was first seen, oldest first."""
        digest, day = letter.digest().body_sha256, letter.first_seen.date()
        keys: list[str] = []
        while day <= self.clock.now().date():
            keys += [each for each in self.archive.under(f"acts/{day:%Y/%m/%d}/") if each.endswith("/intended.json")]
            day += timedelta(days=1)
        acts = [Act.model_validate_json(self.archive.read(key)) for key in keys]
        return [
            f"{act.recorded_at:%Y-%m-%d %H:%M}Z {act.action} by {act.actor_id}: {act.reason}"
            for act in sorted(acts, key=lambda act: act.recorded_at)
            if digest in {each.body_sha256 for each in act.letters}
        ]

    def _arn(self, url: str) -> str:
        asked = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return str(asked["Attributes"]["QueueArn"])


def open_workbench(stack: str, profile: str | None, region: str | None) -> Workbench:
    """Find a stack's resources with the credentials at hand.

    Raises OperateError where credentials, Region or stack are not right.
    """
    try:
        session = boto3.Session(profile_name=profile, region_name=region)
        caller = session.client("sts").get_caller_identity()
        found = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except (BotoCoreError, ClientError) as error:
        message = (
            f"stack {stack} cannot be reached: {error}. Log in (aws sso login), or say --profile, --region, --stack"
        )
        raise OperateError(message) from error
    at = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}
    told = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])}
    policy_ids = tuple(each for each in at["PolicyIds"].split(",") if each)
    config = Config(retries={"mode": "standard", "total_max_attempts": 5}, max_pool_connections=4)
    sqs = session.client("sqs", config=config)
    pseudonyms = KmsPseudonyms(session.client("kms", config=config), at["PseudonymKeyId"], told["OrganizationId"])
    return Workbench(
        post=SqsPost(
            sqs,
            {"dead letters": at["DeadLetterQueueUrl"], "undelivered": at["UndeliveredQueueUrl"]},
            at["QueueUrl"],
        ),
        archive=S3Archive(session.client("s3", config=config), at["EvidenceBucket"]),
        outcomes=OutcomesReader(session.client("dynamodb", config=config), at["OutcomesTable"]),
        preflight=Preflight(
            session.client("organizations", config=config),
            policy_ids,
            told["OrganizationId"],
            told["ManagementAccountId"],
        ),
        clock=SystemClock(),
        actor=Actor(pseudonyms.of(caller["Arn"]), caller["UserId"].partition(":")[0]),
        policy_ids=policy_ids,
        organization_id=told["OrganizationId"],
        sqs=sqs,
        dead_letters_url=at["DeadLetterQueueUrl"],
    )
