"""The guardrails document (infra/guardrails/STAGE.yaml), as people write it, and its lock file."""

import re
from collections import Counter
from collections.abc import Hashable
from datetime import date
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    StrictBool,
    StrictInt,
    StringConstraints,
    Tag,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue

from schemas.compiled_guardrails import POLICIES_PER_ACCOUNT, SCP, JoinMethod, PolicyType, RuleId, WhenNoLonger
from schemas.ids import OU_ID, AccountId, OuId, PolicyId, Sha256

T = TypeVar("T", bound=Hashable)

_DAY: Final = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_POLICY_ID: Final = re.compile("p-[0-9a-zA-Z_]{8,128}")


class InvalidError(ValueError):
    """A value breaks a rule beyond its type; `kind` is for the code that adds the next step."""

    def __init__(self, kind: str, message: str) -> None:
        self.kind = kind
        super().__init__(message)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class _OneOrList:
    """Says in the JSON Schema that one value may stand for a list of one."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        listed = handler(schema)
        return {"anyOf": [listed["items"], listed]}


def _unique(values: tuple[T, ...]) -> tuple[T, ...]:
    repeated = sorted(str(each) for each, count in Counter(values).items() if count > 1)
    if repeated:
        raise InvalidError("repeated", f"names {', '.join(repeated)} more than once")
    return values


def _day(value: Any) -> Any:
    if type(value) is date:
        return value
    try:
        return date.fromisoformat(value) if isinstance(value, str) and _DAY.fullmatch(value) else _no_day()
    except ValueError:
        return _no_day()


def _no_day() -> date:
    raise InvalidError("day", "must be a day, such as 2027-01-31")


def _levels(pattern: str) -> str:
    """Refuse `*` as a part of a name: it stands for a whole level."""
    if any("*" in each and each not in {"*", "**"} for each in pattern.split("/")):
        raise InvalidError("ou", "has * within a name, but * stands for a whole level")
    return pattern


Day: TypeAlias = Annotated[date, BeforeValidator(_day)]
Nonempty: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=256)]
#: A policy's name or id.
PolicyName: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=130)]
_Address = Annotated[str, StringConstraints(pattern=r"^[^\s@]+@[^\s@]+\.[^\s@]+$", max_length=254)]
#: `/`, a path of names, or an id; `*` stands for one level and `**` for any number of levels, none included. An id can
#: only be followed by such levels.
OuPattern: TypeAlias = Annotated[
    str,
    StringConstraints(pattern=rf"^(/|(/[^/]+)+|({OU_ID})(/\*{{1,2}})*)$", max_length=1024),
    AfterValidator(_levels),
]
OuPath: TypeAlias = Annotated[str, StringConstraints(pattern=r"^(/|(/[^/*]+)+)$", max_length=1024)]
_TagKey = Annotated[str, StringConstraints(min_length=1, max_length=128)]
_TagValue = Annotated[str, StringConstraints(max_length=256)]
_Domain = Annotated[str, StringConstraints(pattern=r"^[^\s@]+$", to_lower=True, max_length=254)]
_Names = Annotated[tuple[PolicyName, ...], Field(min_length=1), AfterValidator(_unique)]
_Accounts = Annotated[tuple[AccountId, ...], Field(min_length=1), AfterValidator(_unique)]


_OneOrMore: TypeAlias = Annotated[
    tuple[T, ...], Field(min_length=1), AfterValidator(_unique), BeforeValidator(_listed), _OneOrList()
]


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PolicyEntry(_Written):
    """A policy of the organization, by its name or its id."""

    name: PolicyName | None = None
    id: PolicyId | None = None
    type: PolicyType = SCP

    @property
    def label(self) -> str:
        """What rules and exceptions call it."""
        return self.name or self.id or ""

    @model_validator(mode="after")
    def _has_one_of_both(self) -> "PolicyEntry":
        if bool(self.name) == bool(self.id):
            raise InvalidError("one", "must have either name or id")
        return self


def _entry(value: Any) -> Any:
    """Read a policy that is only a name or an id."""
    if isinstance(value, str):
        return {"id" if _POLICY_ID.fullmatch(value) else "name": value}
    return value


_Entry = Annotated[PolicyEntry, BeforeValidator(_entry, json_schema_input_type=PolicyName | PolicyEntry)]


class Selector(_Written):
    """Selects the accounts that fulfil every key, by any value of that key."""

    account: _OneOrMore[AccountId] = ()
    #: Where the account is.
    ou: _OneOrMore[OuPattern] = ()
    #: By the tag's key; `*` stands for any characters. An account without the tag is not selected.
    tags: Annotated[dict[_TagKey, _OneOrMore[_TagValue]], Field(min_length=1)] = {}
    #: The account's name; `*` stands for any characters.
    name: _OneOrMore[Nonempty] = ()
    #: What follows the @ in the account's e-mail address; `*` stands for any characters.
    email_domain: _OneOrMore[_Domain] = ()
    #: How the account joined the organization.
    joined: _OneOrMore[JoinMethod] = ()

    @model_validator(mode="after")
    def _selects(self) -> "Selector":
        if not self.model_fields_set:
            raise InvalidError("selects_all", "has no key, so it would select every account")
        return self


def _kind(value: Any) -> str:
    return "word" if isinstance(value, str) else "items"


_Selectors = Annotated[tuple[Selector, ...], Field(min_length=1)]
_Match = Annotated[Annotated[Literal["all"], Tag("word")] | Annotated[_Selectors, Tag("items")], Discriminator(_kind)]


class Rule(_Written):
    """Attaches policies to the accounts that one item of `match` selects and no item of `exclude` does."""

    id: RuleId
    attach: _Names
    match: _Match
    exclude: _Selectors = ()
    #: Whether a policy is removed from an account that this rule no longer selects.
    when_no_longer: WhenNoLonger = "keep"
    #: Whether it is right that this rule selects no account today.
    allow_empty: StrictBool = False


class PolicyException(_Written):
    """Takes policies away from accounts, from the beginning of a day to the end of another, in UTC."""

    id: RuleId
    accounts: _Accounts
    policies: _Names
    #: The mailbox of who answers for it.
    owner: _Address
    approved_by: _Address
    reason: Nonempty
    #: The first day; without it, since ever.
    starts: Day | None = None
    #: The last day.
    expires: Day

    @model_validator(mode="after")
    def _starts_first(self) -> "PolicyException":
        if self.starts and self.starts > self.expires:
            raise InvalidError("starts_late", "starts after it expires")
        return self


class Limits(_Written):
    """How much may happen without somebody's approval, and what AWS allows."""

    #: How many policies may be removed in a day without approval of the plan.
    removals: Annotated[StrictInt, Field(ge=0, le=5000)] = 25
    #: How many policies of a type an account can carry, AWS's own included; for types whose limit AWS has changed.
    policies_per_account: dict[PolicyType, Annotated[StrictInt, Field(ge=1, le=100)]] = {}

    def per_account(self) -> dict[PolicyType, int]:
        """Return the limit of each type that has one."""
        return POLICIES_PER_ACCOUNT | self.policies_per_account


class ExampleAccount(_Written):
    """The facts of an account. An account without `tags` has none; other facts that are absent are unknown."""

    id: AccountId | None = None
    ou: OuPath | OuId | None = None
    tags: dict[_TagKey, _TagValue] = {}
    name: Nonempty | None = None
    email: _Address | None = None
    joined: JoinMethod | None = None


class Example(_Written):
    """A test of the rules: the policies that such an account must carry, and no others."""

    account: ExampleAccount
    carries: Annotated[tuple[PolicyName, ...], AfterValidator(_unique)]
    #: The day on which exceptions are taken into account; without it, they are not, so that no test fails by itself.
    day: Day | None = None


class Document(_Written):
    """Which policies which accounts must carry."""

    version: Annotated[Literal[1], BeforeValidator(lambda value: value if type(value) is int else None)]
    #: The most important first: that order decides if an account cannot carry all of them.
    policies: Annotated[tuple[_Entry, ...], Field(min_length=1)]
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    exceptions: tuple[PolicyException, ...] = ()
    limits: Limits = Limits()
    examples: tuple[Example, ...] = ()


class LockedPolicy(_Written):
    """A policy as it was when the document was compiled."""

    #: What the document calls it.
    policy: PolicyName
    id: PolicyId
    type: PolicyType
    #: SHA-256 of its content.
    sha256: Sha256


class Lock(_Written):
    """The lock file: what the names of a document stood for when it was compiled. It is committed and reviewed."""

    schema_version: Literal["joinguard/lock/1"] = "joinguard/lock/1"
    policies: tuple[LockedPolicy, ...]
    #: For each OU pattern of the document, the OUs of its last named level: id by path.
    ous: dict[OuPattern, dict[OuPath, OuId]] = {}
    #: SHA-256 of the compiled guardrails.
    compiled: Sha256
