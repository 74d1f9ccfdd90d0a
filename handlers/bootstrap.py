"""The wiring: settings and clients become an Enforcer, once a process, at the first record."""

import os
from datetime import timedelta
from functools import cache

from handlers.aws.clients import client
from handlers.aws.dynamodb_ledger import DynamoLedger
from handlers.aws.dynamodb_pace import DynamoPace
from handlers.aws.kms_pseudonyms import KmsPseudonyms
from handlers.aws.organizations import OrganizationsDirectory
from handlers.aws.s3_evidence import S3Archive
from handlers.aws.sqs_worker import SqsDeadLetters, SqsInbox
from handlers.clock import SystemClock
from handlers.core.joins.attempt import Tools
from handlers.core.joins.enforce import Enforcer
from handlers.core.timing import LocalPace
from handlers.settings import Settings


@cache
def enforcer() -> Enforcer:
    """Build what a function works with; raise SettingsError where the environment is not fit."""
    settings = Settings.from_env(os.environ)
    sqs, dynamodb = client("sqs"), client("dynamodb")
    interval = timedelta(seconds=1 / settings.attachments_per_second)
    tools = Tools(
        policy_ids=settings.policy_ids,
        organization_id=settings.organization_id,
        management_account_id=settings.management_account_id,
        directory=OrganizationsDirectory(client("organizations")),
        ledger=DynamoLedger(dynamodb, settings.outcomes_table),
        archive=S3Archive(client("s3"), settings.evidence_bucket),
        pseudonyms=KmsPseudonyms(client("kms"), settings.pseudonym_key_id, settings.organization_id),
        pace=DynamoPace(dynamodb, settings.pace_table, interval) if settings.pace_table else LocalPace(interval),
        clock=SystemClock(),
    )
    return Enforcer(
        tools=tools,
        inbox=SqsInbox(sqs, settings.queue_url),
        dead_letters=SqsDeadLetters(sqs, settings.dead_letter_queue_url),
    )
