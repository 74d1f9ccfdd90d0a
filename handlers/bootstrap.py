"""Create the Enforcer from the settings, once in each process, at its first invocation."""

import os
from datetime import timedelta
from functools import cache

from handlers.aws.clients import client
from handlers.aws.dynamodb_ledger import DynamoLedger
from handlers.aws.dynamodb_pace import DynamoPace
from handlers.aws.kms_pseudonyms import KmsPseudonyms
from handlers.aws.organizations import OrganizationsApi
from handlers.aws.s3_artifacts import S3Artifacts
from handlers.aws.s3_evidence import S3Archive
from handlers.aws.sqs_worker import SqsDeadLetters, SqsInbox
from handlers.clock import SystemClock
from handlers.core.errors import JoinguardError
from handlers.core.guardrails.evaluate import Guardrails, Requirements
from handlers.core.guardrails.reading import read_guardrails
from handlers.core.guardrails.scope import Scope
from handlers.core.joins.attempt import Dependencies
from handlers.core.joins.enforce import Enforcer
from handlers.settings import Settings, SettingsError


@cache
def enforcer() -> Enforcer:
    """Return the Enforcer; raise SettingsError if an environment variable is missing or invalid."""
    settings = Settings.from_env(os.environ)
    sqs, dynamodb = client("sqs"), client("dynamodb")
    return Enforcer(
        requirements=Requirements(
            _guardrails(settings),
            settings.organization_id,
            settings.management_account_id,
            Scope.parse(settings.attach_to),
        ),
        dependencies=Dependencies(
            organizations=OrganizationsApi(client("organizations")),
            ledger=DynamoLedger(dynamodb, settings.outcomes_table),
            archive=S3Archive(client("s3"), settings.evidence_bucket),
            pseudonyms=KmsPseudonyms(client("kms"), settings.pseudonym_key_id, settings.organization_id),
            pace=DynamoPace(dynamodb, settings.pace_table, timedelta(seconds=1 / settings.attachments_per_second)),
            clock=SystemClock(),
        ),
        inbox=SqsInbox(sqs, settings.queue_url),
        dead_letters=SqsDeadLetters(sqs, settings.dead_letter_queue_url),
    )


def _guardrails(settings: Settings) -> Guardrails:
    """Return the compiled guardrails, or those of the short form."""
    if not settings.guardrails_key:
        return Guardrails.for_everyone(settings.policy_ids)
    try:
        return read_guardrails(S3Artifacts(client("s3"), settings.artifacts_bucket), settings.guardrails_key)
    except JoinguardError as error:
        # Without the cause, whose traceback may hold an ARN.
        raise SettingsError(f"GUARDRAILS_KEY: cannot read the guardrails: {error}. Deploy again") from None
