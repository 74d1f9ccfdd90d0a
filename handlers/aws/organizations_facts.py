"""AWS Organizations: the facts of one account, for worker and operators."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from botocore.parsers import ResponseParserError

from handlers.aws.errors import organizations_errors
from handlers.core.guardrails.facts import Unknown
from schemas.compiled_guardrails import JoinMethod

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_organizations import OrganizationsClient

    from handlers.core.guardrails.facts import Facts
    from schemas.ids import OuId

_JOIN_METHODS = get_args(JoinMethod)


def described(client: OrganizationsClient, facts: Facts) -> Facts:
    """Return the facts with name, e-mail address, join method and OUs; what AWS leaves out is unreadable."""
    with organizations_errors():
        account: Mapping[str, Any] = client.describe_account(AccountId=facts.account_id)["Account"]
        joined: Any = account.get("JoinedMethod")
        return replace(
            facts,
            name=account.get("Name", Unknown.UNREADABLE),
            email=account.get("Email", Unknown.UNREADABLE),
            joined=joined if joined in _JOIN_METHODS else Unknown.UNREADABLE,
            # Earlier versions of the SDK do not know the paths.
            ous=ous_in_path(account.get("Paths", ())) or _parents(client, facts.account_id),
        )


def tagged(client: OrganizationsClient, facts: Facts) -> Facts:
    """Return the facts with the account's tags."""
    pages = client.get_paginator("list_tags_for_resource").paginate(ResourceId=facts.account_id)
    with organizations_errors():
        return replace(facts, tags={each["Key"]: each["Value"] for page in pages for each in page["Tags"]})


def ous_in_path(paths: Sequence[str]) -> tuple[OuId, ...]:
    """Return the root and the OUs in a path such as o-exampleorgid/r-root/ou-root-aaaaaaaa/111122223333/.

    Returns nothing unless there is exactly one path.
    """
    [path] = paths if len(paths) == 1 else [""]
    return tuple(each for each in path.split("/") if each.startswith(("r-", "ou-")))


def _parents(client: OrganizationsClient, account_id: str) -> tuple[OuId, ...]:
    """Return the root and the OUs of an account, by one call for each level."""
    ous: list[OuId] = []
    child = account_id
    while not child.startswith("r-"):
        pages = client.get_paginator("list_parents").paginate(ChildId=child)
        found = [each["Id"] for page in pages for each in page["Parents"]]
        if not found:
            raise ResponseParserError("the answer has no parent")
        [child] = found
        ous.insert(0, child)
    return tuple(ous)
