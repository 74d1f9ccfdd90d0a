"""Pseudonyms of accounts, principals and names."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from schemas.values import Text


class Pseudonym(BaseModel):
    """A pseudonym of an account, a principal or a name: HMAC-SHA-256 with a secret that is derived from a KMS key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: The prefix is `acct-` for accounts, `prin-` for principals, and `name-` for names of sessions and users. In
    #: records of version 1 it is always `acct-`.
    value: Annotated[str, Field(pattern=r"^(acct|prin|name)-[0-9a-f]{32}$")]
    #: The id of the KMS key.
    key_version: Text
