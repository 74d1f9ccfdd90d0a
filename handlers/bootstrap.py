"""Create the workers from the settings, once in each process, at its first invocation."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from random import SystemRandom
from typing import TYPE_CHECKING, Any, TypeAlias

from handlers.aws.clients import client
from handlers.aws.dynamodb_account_outcomes import DynamoAccountOutcomes
from handlers.aws.dynamodb_ledger import DynamoLedger
from handlers.aws.dynamodb_pace import DynamoPace
from handlers.aws.kms_pseudonyms import KmsPseudonyms
from handlers.aws.organizations import OrganizationsApi
from handlers.aws.s3_artifacts import S3Artifacts
from handlers.aws.s3_evidence import S3Archive
from handlers.aws.sqs_worker import SqsDeadLetters, SqsEvaluations, SqsInbox, SqsRemovals
from handlers.clock import SystemClock
from handlers.core.errors import JoinguardError
from handlers.core.guardrails.evaluate import Guardrails, Requirements
from handlers.core.guardrails.reading import read_guardrails
from handlers.core.guardrails.scope import Scope
from handlers.core.joins.attach import AttachDependencies, Enforcer
from handlers.core.joins.yielding import YieldingPace
from handlers.settings import (
    CommonSettings,
    RemoverSettings,
    SealSettings,
    Settings,
    SettingsError,
    SweepSettings,
    WorkerSettings,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from handlers.core.evidence.sealing import Sealer
    from handlers.core.guardrails.facts import Fact
    from handlers.core.guardrails.pauses import KnownPauses
    from handlers.core.guardrails.ports import Journal
    from handlers.core.joins.remove import Remover
    from handlers.core.reconcile.sweep import Sweeper
    from schemas.ids import Sha256
    from schemas.plan import ApprovedPlan

#: Returns the client of a service, the same one each time.
_Clients: TypeAlias = Callable[[str], Any]


@cache
def enforcer(queue_arn: str = "") -> Enforcer:
    """Return the worker that attaches policies, for the messages of a queue; by default, of the queue of live joins.

    For another queue, it lets live joins go first. Raises SettingsError if a setting is missing or invalid.
    """
    settings, clients = Settings.from_env(os.environ), cache(client)
    if queue_arn:
        joins, queue = enforcer(), queue_arn.rpartition(":")[2]
        base, _, joins_queue = settings.queue_url.rpartition("/")
        if queue == joins_queue:
            return joins
        pace = YieldingPace(_pace(settings, clients), joins.dependencies.clock)
        # The queue is in the same account and Region. A variable with its URL would not fit into the environment of a
        # function that attaches to the most account ids.
        inbox = SqsInbox(clients("sqs"), f"{base}/{queue}")
        return replace(joins, dependencies=replace(joins.dependencies, pace=pace), inbox=inbox)
    url = settings.removals_queue_url
    return Enforcer(
        dependencies=AttachDependencies(
            **_dependencies(settings, clients),
            outcomes=DynamoAccountOutcomes(clients("dynamodb"), settings.outcomes_table),
            pauses=_Pauses(settings.reconciliation_table, clients),
            restore_limit=_RestoreLimit(settings, clients),
            max_restores=settings.max_restores,
            removals=SqsRemovals(clients("sqs"), url) if url else None,
        ),
        **_worker(settings, clients),
    )


@cache
def remover() -> "Remover":
    """Return the worker that removes policies; raise SettingsError if a setting is missing or invalid."""
    # The worker that attaches policies would start later with them.
    from handlers.aws.dynamodb_claims import DynamoClaims  # noqa: PLC0415 - as above
    from handlers.aws.dynamodb_limit import DynamoDailyLimit  # noqa: PLC0415 - as above
    from handlers.core.joins.remove import RemoveDependencies, Remover  # noqa: PLC0415 - as above

    settings, clients = RemoverSettings.from_env(os.environ), cache(client)
    return Remover(
        dependencies=RemoveDependencies(
            **_dependencies(settings, clients),
            detachments=OrganizationsApi(clients("organizations")),
            claims=DynamoClaims(clients("dynamodb"), settings.outcomes_table),
            limit=DynamoDailyLimit(clients("dynamodb"), settings.pace_table),
            evaluations=SqsEvaluations(clients("sqs"), settings.joins_queue_url),
            approved=_approved_plan(settings, clients),
            approved_until=settings.approved_plan_until,
        ),
        **_worker(settings, clients),
    )


@cache
def sweeper() -> "Sweeper":
    """Return the sweep; raise SettingsError if a setting is missing or invalid."""
    # The workers would start later with them.
    from handlers.aws.dynamodb_outcomes import DynamoOutcomes  # noqa: PLC0415 - as above
    from handlers.aws.dynamodb_sweep import DynamoSweepStore  # noqa: PLC0415 - as above
    from handlers.aws.organizations_in_bulk import ORGANIZATIONS_REGIONS, OrganizationInBulk  # noqa: PLC0415 - as above
    from handlers.aws.sqs_repairs import SqsRepairs  # noqa: PLC0415 - as above
    from handlers.core.reconcile.sweep import SweepDependencies, Sweeper  # noqa: PLC0415 - as above
    from schemas.sweep import SweepMode  # noqa: PLC0415 - as above

    settings, clients = SweepSettings.from_env(os.environ), cache(client)
    organizations, clock, rng = clients("organizations"), SystemClock(), SystemRandom()
    region = ORGANIZATIONS_REGIONS.get(organizations.meta.partition)
    tagging = client("resourcegroupstaggingapi", region)

    def open_reader(journal: "Journal", until: datetime, facts: "Collection[Fact]") -> OrganizationInBulk:
        return OrganizationInBulk(organizations, tagging, clock, rng, journal=journal, until=until, facts=facts)

    return Sweeper(
        _requirements(settings, clients, removes=settings.remove_policies),
        SweepMode(settings.sweep),
        timedelta(minutes=settings.sweep_minutes),
        SweepDependencies(
            store=DynamoSweepStore(clients("dynamodb"), settings.reconciliation_table),
            open_reader=open_reader,
            outcomes=DynamoOutcomes(clients("dynamodb"), settings.outcomes_table),
            repairs=SqsRepairs(clients("sqs"), settings.repairs_queue_url),
            pauses=_Pauses(settings.reconciliation_table, clients),
            archive=S3Archive(clients("s3"), settings.evidence_bucket),
            pseudonyms=_pseudonyms(settings, clients),
            clock=clock,
        ),
        reads_tags_in_bulk=settings.account_id == settings.management_account_id,
    )


@cache
def sealer() -> "Sealer":
    """Return what seals evidence; raise SettingsError if a setting is missing or invalid."""
    # The other functions would start later with them.
    from handlers.aws.checkpoint_copies import S3CheckpointCopies, SnsCheckpointCopies  # noqa: PLC0415 - as above
    from handlers.aws.dynamodb_sealed import DynamoSealedIndex  # noqa: PLC0415 - as above
    from handlers.aws.kms_signer import KmsSigner  # noqa: PLC0415 - as above
    from handlers.aws.s3_objects import S3EvidenceObjects  # noqa: PLC0415 - as above
    from handlers.aws.sqs_announcements import SqsAnnouncements  # noqa: PLC0415 - as above
    from handlers.core.evidence.sealing import SealDependencies, Sealer  # noqa: PLC0415 - as above

    settings, clients = SealSettings.from_env(os.environ), cache(client)
    bucket, topic = settings.checkpoint_bucket, settings.checkpoint_topic_arn
    return Sealer(
        settings.log_name,
        SealDependencies(
            log=S3Archive(clients("s3"), settings.evidence_bucket),
            objects=S3EvidenceObjects(clients("s3"), settings.evidence_bucket, settings.data_key_arn),
            announcements=SqsAnnouncements(clients("sqs"), settings.announcements_queue_url),
            index=DynamoSealedIndex(clients("dynamodb"), settings.sealed_table),
            signer=KmsSigner(clients("kms"), settings.seal_key_id),
            copies=S3CheckpointCopies(clients("s3"), bucket) if bucket else None,
            topic=SnsCheckpointCopies(client("sns", topic.split(":")[3]), topic) if topic else None,
            clock=SystemClock(),
        ),
    )


class _Pauses:
    """The pauses. Joins do not need them, so that the worker loads what reads them only when something is put back."""

    def __init__(self, table: str, clients: _Clients) -> None:
        self._table = table
        self._clients = clients

    def read(self) -> "KnownPauses":
        """Return all pauses."""
        from handlers.aws.dynamodb_pauses import DynamoPauses  # noqa: PLC0415 - as above

        return DynamoPauses(self._clients("dynamodb"), self._table).read()


class _RestoreLimit:
    """The limit of restores, which the worker loads only when something is put back."""

    def __init__(self, settings: Settings, clients: _Clients) -> None:
        self._settings = settings
        self._clients = clients

    def take(self, account: "Sha256", now: datetime) -> bool:
        """Count an account, unless it was counted today; return False if more lost policies than change at once."""
        from handlers.aws.dynamodb_limit import RESTORES, DynamoDailyLimit  # noqa: PLC0415 - as above
        from handlers.aws.dynamodb_sweep import DynamoSweepStore  # noqa: PLC0415 - as above
        from handlers.core.guardrails.limits import at_once  # noqa: PLC0415 - as above

        settings, dynamodb = self._settings, self._clients("dynamodb")
        state = DynamoSweepStore(dynamodb, settings.reconciliation_table).read()
        members = state.last.members if state and state.last else 0
        return DynamoDailyLimit(dynamodb, settings.pace_table, RESTORES).take(account, at_once(members), now)


def _requirements(settings: CommonSettings, clients: _Clients, *, removes: bool = False) -> Requirements:
    return Requirements(
        _guardrails(settings, clients),
        settings.organization_id,
        settings.management_account_id,
        Scope.parse(settings.attach_to),
        removes,
    )


def _worker(settings: WorkerSettings, clients: _Clients) -> dict[str, Any]:
    return {
        "requirements": _requirements(settings, clients),
        "inbox": SqsInbox(clients("sqs"), settings.queue_url),
        "dead_letters": SqsDeadLetters(clients("sqs"), settings.dead_letter_queue_url),
    }


def _dependencies(settings: WorkerSettings, clients: _Clients) -> dict[str, Any]:
    dynamodb = clients("dynamodb")
    return {
        "organizations": OrganizationsApi(clients("organizations")),
        "ledger": DynamoLedger(dynamodb, settings.outcomes_table),
        "archive": S3Archive(clients("s3"), settings.evidence_bucket),
        "pseudonyms": _pseudonyms(settings, clients),
        "pace": _pace(settings, clients),
        "clock": SystemClock(),
    }


def _pseudonyms(settings: CommonSettings, clients: _Clients) -> KmsPseudonyms:
    key_id, former = settings.pseudonym_key_id, settings.former_pseudonym_keys
    return KmsPseudonyms(clients("kms"), key_id, settings.organization_id, former)


def _pace(settings: WorkerSettings, clients: _Clients) -> DynamoPace:
    interval = timedelta(seconds=1 / settings.attachments_per_second)
    return DynamoPace(clients("dynamodb"), settings.pace_table, interval)


def _guardrails(settings: CommonSettings, clients: _Clients) -> Guardrails:
    """Return the compiled guardrails, or those of the short form."""
    if not settings.guardrails_key:
        return Guardrails.for_everyone(settings.policy_ids)
    try:
        return read_guardrails(S3Artifacts(clients("s3"), settings.artifacts_bucket), settings.guardrails_key)
    except JoinguardError as error:
        # Without the cause, whose traceback may hold an ARN.
        raise SettingsError(f"GUARDRAILS_KEY: cannot read the guardrails: {error}. Deploy again") from None


def _approved_plan(settings: RemoverSettings, clients: _Clients) -> "ApprovedPlan | None":
    if not settings.approved_plan_key:
        return None
    from handlers.core.guardrails.approval import read_approved_plan  # noqa: PLC0415 - as above

    try:
        return read_approved_plan(S3Artifacts(clients("s3"), settings.artifacts_bucket), settings.approved_plan_key)
    except JoinguardError as error:
        # Without the cause, as above.
        raise SettingsError(f"APPROVED_PLAN_KEY: cannot read the approved plan: {error}. Deploy again") from None
