r"""The identifiers of AWS Organizations as types.

The patterns are those of botocore's service model, anchored on both ends (as published, some
bind to one alternative only). `[0-9]` instead of `\d`: the latter also takes other scripts' digits.
"""

from typing import Annotated

from pydantic import StringConstraints

#: Ten years of new ids have not changed this: exactly twelve digits.
AccountId = Annotated[str, StringConstraints(pattern=r"^[0-9]{12}$")]
OrganizationId = Annotated[str, StringConstraints(pattern=r"^o-[a-z0-9]{10,32}$")]
PolicyId = Annotated[str, StringConstraints(pattern=r"^p-[0-9a-zA-Z_]{8,128}$")]
#: CloudTrail's `eventID`, a UUID today. It becomes part of keys, so only what is safe there.
EventId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z_-]{0,127}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
