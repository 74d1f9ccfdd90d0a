"""Find the account that a call moved to another OU, or whose tags it changed.

The account is in the request, under the names of botocore's model of Organizations (2016-11-28); the response is empty.
Only accounts are moved: Organizations has no call that moves an OU.
"""

import re
from collections.abc import Mapping
from typing import Final

from schemas.document import InvalidEventError, Node
from schemas.events import Change
from schemas.naming import ACCOUNT_ID_RULE, HIDDEN, account_id, is_ou_id

#: The id of a taggable resource other than an account: a kind, a hyphen, and the rest. An account id has only digits.
_RESOURCE: Final = re.compile(r"([a-z]{1,8})-[0-9a-zA-Z_-]{1,128}")
#: The resources that Organizations can tag, by the kind in their ids (botocore, `TaggableResourceId`).
_KINDS: Final[Mapping[str, str]] = {
    "ou": "an OU",
    "p": "a policy",
    "r": "the root",
    "rp": "the resource policy",
    "rt": "a responsibility transfer",
}
_RESOURCE_RULE: Final = f"{ACCOUNT_ID_RULE}, or the id of another resource: letters, a hyphen, and letters or digits"


def account_of_call(name: str, record: Node) -> tuple[str | None, str]:
    """Return the account that a call changed, or None and what it changed instead.

    Raises InvalidEventError if the call names neither an account nor another resource.
    """
    parameters = record["requestParameters"]
    if name == "MoveAccount":
        return _required(parameters["accountId"], ACCOUNT_ID_RULE), ""
    resource = parameters["resourceId"]
    other = _RESOURCE.fullmatch(resource.string or "")
    if other:
        return None, _KINDS.get(other[1], "another resource")
    return _required(resource, _RESOURCE_RULE), ""


def change_of(record: Node) -> Change:
    """Return what a call changed, as far as its record shows it.

    Nothing here decides which account is evaluated, so whatever is missing, hidden or ambiguous is left out.
    """
    try:
        parameters = record["requestParameters"]
        parent = parameters["destinationParentId"].string
        tags = {each["key"].string: each["value"].string for each in parameters["tags"]}
        removed = [each.string for each in parameters["tagKeys"]]
    except InvalidEventError:
        return Change()
    return Change(
        parent_id=parent if is_ou_id(parent) else None,
        tags={key: value for key, value in tags.items() if key is not None and value not in {None, HIDDEN}}
        | {key: None for key in removed if key is not None},
    )


def _required(node: Node, rule: str) -> str:
    account = account_id(node)
    if account is None:
        raise InvalidEventError((node.path, rule))
    return account
