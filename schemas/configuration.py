"""The configuration that a deployment put in force: evidence of what decided from then on, and who approved it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.ids import ActionId, PolicyId, Sha256
from schemas.pseudonym import Pseudonym
from schemas.values import Moment, Text


class ConfiguredPolicy(BaseModel):
    """A policy that the worker may attach."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy_id: PolicyId
    #: SHA-256 of its content when the guardrails were locked. Absent in the short form.
    sha256: Sha256 | None = None


class Configuration(BaseModel):
    """One deployment of a stack. Holds no account id, e-mail address or ARN."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Version 2 has `removes`, `approved_plan` and `commit`.
    schema_version: Literal["joinguard/configuration/1", "joinguard/configuration/2"] = "joinguard/configuration/2"
    record_id: ActionId
    stack: Text
    #: CloudFormation's id of the change set that was executed. Absent if the configuration was recorded later.
    change_set: Text | None = None
    #: SHA-256 of the compiled guardrails, by which outcomes and evidence name them; of the short form, too.
    guardrails: Sha256
    #: HMAC-SHA-256 of the guardrails document with the secret of the pseudonyms, since a document can name accounts.
    #: Absent in the short form, and if the document where it was deployed from is not the one in force.
    document_digest: Sha256 | None = None
    policies: tuple[ConfiguredPolicy, ...]
    #: Which accounts the worker attaches policies to: all, none, or the number of those that are named.
    attaches_to: Literal["all", "none"] | Annotated[int, Field(ge=1)]
    #: Whether policies that accounts need no longer are removed. Absent in version 1, when nothing removed policies.
    removes: bool | None = None
    #: The digest of the plan whose removals are approved, by this deployment or by an earlier one.
    approved_plan: Sha256 | None = None
    #: SHA-256 of the function's zip.
    code: Sha256 | None = None
    #: The commit of the code, the document, its lock file, the stage and the template. Absent if they were deployed
    #: from a working tree, and if the configuration was recorded later.
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")] | None = None
    #: The digest of the plan that was shown. Absent in the short form, and if the change set was made earlier.
    plan: Sha256 | None = None
    #: Who deployed, as in audit records.
    actor: Pseudonym
    actor_name: Pseudonym
    actor_id: Text
    reason: Annotated[str, Field(max_length=1024)] = ""
    recorded_at: Moment
