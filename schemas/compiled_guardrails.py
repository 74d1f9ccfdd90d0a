"""The compiled guardrails, which the evaluator reads: policies and OUs by id, without any person's address.

The worker imports this module, so pydantic builds the validators only when they are first used (`defer_build`).
"""

from datetime import date
from hashlib import sha256
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from schemas.ids import AccountId, OuId, PolicyId, Sha256
from schemas.values import canonical_json

#: The policy types that AttachPolicy accepts (botocore 1.44).
PolicyType: TypeAlias = Literal[
    "SERVICE_CONTROL_POLICY",
    "RESOURCE_CONTROL_POLICY",
    "TAG_POLICY",
    "BACKUP_POLICY",
    "AISERVICES_OPT_OUT_POLICY",
    "CHATBOT_POLICY",
    "DECLARATIVE_POLICY_EC2",
    "SECURITYHUB_POLICY",
    "SECURITYHUB_CSPM_POLICY",
    "INSPECTOR_POLICY",
    "UPGRADE_ROLLOUT_POLICY",
    "BEDROCK_POLICY",
    "S3_POLICY",
    "NETWORK_SECURITY_DIRECTOR_POLICY",
    "GUARDDUTY_POLICY",
]
JoinMethod: TypeAlias = Literal["INVITED", "CREATED"]
WhenNoLonger: TypeAlias = Literal["keep", "remove"]
#: The id of a rule or an exception.
RuleId: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

SCP: Final[PolicyType] = "SERVICE_CONTROL_POLICY"
#: How many policies of a type AWS allows on an account, AWS's own policy included
#: (https://docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html; SCPs since May 2026). A type
#: that is not listed is not limited by Joinguard: AWS rejects what exceeds its limit.
POLICIES_PER_ACCOUNT: Final[dict[PolicyType, int]] = {
    SCP: 10,
    "RESOURCE_CONTROL_POLICY": 5,
    "TAG_POLICY": 10,
    "BACKUP_POLICY": 10,
    "AISERVICES_OPT_OUT_POLICY": 5,
    "CHATBOT_POLICY": 5,
    "DECLARATIVE_POLICY_EC2": 10,
}


class _Compiled(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class CompiledPolicy(_Compiled):
    """A policy that a rule attaches."""

    id: PolicyId
    type: PolicyType
    #: SHA-256 of the policy's content when the document was compiled; absent in the short form.
    sha256: Sha256 | None = None


class OuRange(_Compiled):
    """The accounts that are a number of levels below an OU; 0 levels: in the OU itself."""

    id: OuId
    min_levels: Annotated[int, Field(ge=0)] = 0
    #: None: any number.
    max_levels: Annotated[int, Field(ge=0)] | None = 0


class CompiledSelector(_Compiled):
    """Selects the accounts that fulfil every key that is not empty, by any value of that key."""

    account: tuple[AccountId, ...] = ()
    ou: tuple[OuRange, ...] | None = None
    #: By the tag's key. In values, names and domains, `*` stands for any characters.
    tags: dict[str, tuple[str, ...]] = {}
    name: tuple[str, ...] = ()
    email_domain: tuple[str, ...] = ()
    joined: tuple[JoinMethod, ...] = ()


class CompiledRule(_Compiled):
    """Attaches policies to the accounts that `match` selects and `exclude` does not."""

    id: RuleId
    attach: tuple[PolicyId, ...]
    match: Literal["all"] | tuple[CompiledSelector, ...]
    exclude: tuple[CompiledSelector, ...] = ()
    when_no_longer: WhenNoLonger = "keep"


class CompiledException(_Compiled):
    """Takes policies away from accounts, from the beginning of a day to the end of another, in UTC."""

    id: RuleId
    accounts: tuple[AccountId, ...]
    policies: tuple[PolicyId, ...]
    starts: date | None = None
    expires: date


class CompiledGuardrails(_Compiled):
    """Which policies which accounts must carry."""

    schema_version: Literal["joinguard/guardrails/1"] = "joinguard/guardrails/1"
    #: The most important first.
    policies: tuple[CompiledPolicy, ...]
    rules: tuple[CompiledRule, ...]
    exceptions: tuple[CompiledException, ...] = ()
    #: How many policies of each type an account can carry, AWS's own included.
    policies_per_account: dict[PolicyType, int] = {}
    #: How many policies may be removed in a day, in UTC, without approval of the plan.
    max_removals: Annotated[int, Field(ge=0)] = 0

    def canonical(self) -> bytes:
        """Return the canonical JSON, with every field."""
        return canonical_json(self.model_dump(mode="json"))

    def sha256(self) -> Sha256:
        """Return the SHA-256 of the canonical JSON, by which outcomes and evidence name these guardrails."""
        return sha256(self.canonical()).hexdigest()


def for_everyone(policy_ids: tuple[PolicyId, ...]) -> CompiledGuardrails:
    """Return the short form: SCPs that every account must carry. The ids must be valid, as `Settings` checks."""
    # Without validation, because building the validators would delay the worker's start.
    everyone = CompiledRule.model_construct(id="everyone", attach=policy_ids, match="all")
    return CompiledGuardrails.model_construct(
        policies=tuple(CompiledPolicy.model_construct(id=each, type=SCP) for each in policy_ids), rules=(everyone,)
    )
