r"""The identifiers of AWS Organizations as types.

The patterns are those of botocore's service model, but anchored at both ends: in the model, some anchors apply to one
alternative only. They use `[0-9]`, because `\d` also matches digits of other scripts.
"""

from typing import Annotated, Final

from pydantic import StringConstraints

AccountId = Annotated[str, StringConstraints(pattern=r"^[0-9]{12}$")]
OrganizationId = Annotated[str, StringConstraints(pattern=r"^o-[a-z0-9]{10,32}$")]
PolicyId = Annotated[str, StringConstraints(pattern=r"^p-[0-9a-zA-Z_]{8,128}$")]
#: CloudTrail's `eventID`, currently a UUID. It becomes part of object keys, so only characters that are safe there.
EventId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z_-]{0,127}$")]
#: The id of an operator's action, in its audit records and their keys.
ActionId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z-]{1,64}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
#: The accounts that policies are attached to: every account, none, or these: at most 130, because they are in the
#: function's environment, to which Lambda gives 4 KB (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
ATTACH_TO: Final = "all|none|[0-9]{12}(,[0-9]{12}){0,129}"
OU_ID: Final = "ou-[0-9a-z]{4,32}-[a-z0-9]{8,32}|r-[0-9a-z]{4,32}"
#: An organizational unit, or the root, which the evaluator treats as the outermost one.
OuId = Annotated[str, StringConstraints(pattern=f"^({OU_ID})$")]
