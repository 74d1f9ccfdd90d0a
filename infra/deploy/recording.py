"""Record what a deployment put in force as evidence, in the evidence bucket."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from handlers.aws.kms_pseudonyms import KmsPseudonyms
from handlers.aws.s3_evidence import S3Archive
from handlers.core.errors import JoinguardError
from handlers.core.redaction import redact_words
from handlers.operate.errors import OperateError
from handlers.operate.planning import read_guardrails
from infra.deploy.actor import actor_of
from infra.deploy.guardrails import in_force
from infra.deploy.installing import AND, COMMIT, PLAN
from infra.deploy.stack import DeployError, find, outputs
from schemas.configuration import Configuration, ConfiguredPolicy
from schemas.keys import configuration_key

if TYPE_CHECKING:
    from pathlib import Path

    from infra.deploy.stack import Plan
    from infra.deploy.stages import Target
    from schemas.ids import Sha256


def record_configuration(target: Target, reason: str, executed: Plan | None) -> str:
    """Write what the stack's parameters put in force, by whom and why; return the key.

    Raises DeployError with the next step if it cannot be written. The deployment is complete nevertheless.
    """
    cloudformation, stage = target.client("cloudformation"), target.stage
    stack = find(cloudformation, stage.stack)
    if stack is None:
        raise DeployError(f"there is no stack {stage.stack}; run `make deploy STAGE={stage.name}`")
    made = outputs(cloudformation, stage.stack)
    try:
        guardrails = in_force(target)
        if guardrails is None:
            raise DeployError(
                f"the configuration in force is not on record, because {stack}; when that has ended, run "
                f"`make deploy STAGE={stage.name} ARGS=--record`"
            )
        pseudonyms = KmsPseudonyms(target.client("kms"), made["PseudonymKeyId"], stack.parameters["OrganizationId"])
        actor = actor_of(target.client("sts").get_caller_identity(), pseudonyms)
        configuration = Configuration(
            record_id=uuid.uuid4().hex,
            stack=stage.stack,
            change_set=executed.change_set.rpartition("/")[2] if executed else None,
            guardrails=guardrails.sha256,
            document_digest=_document_digest(stage.document, guardrails.sha256, pseudonyms),
            policies=tuple(
                ConfiguredPolicy(policy_id=each.id, sha256=each.sha256) for each in guardrails.document.policies
            ),
            attaches_to=_attaches_to(stack.parameters.get("AttachTo", "all")),
            removes=stack.parameters.get("RemovePolicies") == "true",
            approved_plan=_digest_in(stack.parameters.get("ApprovedPlanKey", "")),
            code=_digest_in(stack.parameters.get("CodeKey", "")),
            commit=_named_in(executed, COMMIT),
            plan=_named_in(executed, PLAN),
            actor=actor.pseudonym,
            actor_name=actor.name,
            actor_id=actor.unique_id,
            reason=redact_words(reason),
            recorded_at=datetime.now(UTC),
        )
        key, body = configuration_key(configuration), configuration.model_dump_json(exclude_none=True).encode()
        if S3Archive(target.client("s3"), made["EvidenceBucket"]).record(key, body) != sha256(body).hexdigest():
            raise DeployError(f"the key {key} holds another object; find out who wrote it")
    except (JoinguardError, BotoCoreError, ClientError) as error:
        raise DeployError(
            f"the deployment is complete, but its configuration is not on record: {error}. Use credentials that may "
            "call s3:PutObject on configuration/* of the evidence bucket, kms:GenerateMac and kms:GenerateDataKey with "
            f"the stack's keys, and run `make deploy STAGE={stage.name} ARGS=--record`"
        ) from error
    return key


def _document_digest(document: Path | None, in_force: Sha256, pseudonyms: KmsPseudonyms) -> Sha256 | None:
    """Return the digest of the document that is in force; None if the one here, with its lock file, is another.

    A change set can be executed from another commit than the one that made it.
    """
    try:
        if document is None or read_guardrails(document, datetime.now(UTC)).sha256() != in_force:
            return None
    except OperateError:
        return None
    return pseudonyms.digest("document", document.read_text())


def _attaches_to(attach_to: str) -> Any:
    return attach_to if attach_to in {"all", "none"} else len(attach_to.split(","))


def _named_in(executed: Plan | None, what: str) -> str | None:
    """Return the plan or the commit that a change set was made of: only `make deploy` writes such a description."""
    parts = executed.description.split(AND) if executed else []
    found = [each.removeprefix(what) for each in parts if each.startswith(what)]
    return found[0] if found else None


def _digest_in(key: str) -> str | None:
    found = re.search("[0-9a-f]{64}", key)
    return found[0] if found else None
