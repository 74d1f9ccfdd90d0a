"""Who acts: by which pseudonyms audit records know an operator, and which names of sessions name nobody."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from schemas.audit import AuditRecord
from schemas.outcome import Closed
from schemas.pause import Ended, Pause
from schemas.pseudonym import Pseudonym

#: The names of sessions that tools generate if nobody chooses one, as IAM's StringNotLike in the trust policies of the
#: operators' roles excludes them. Sources: the SDKs' providers for AssumeRole.
GENERATED_NAMES: Final = (
    # The CLI and boto3, and earlier versions of the CLI.
    "botocore-session-*",
    "AWS-CLI-session-*",
    # Java, JavaScript, Kotlin and PHP; Go and Terraform; .NET and PowerShell; Rust; Ruby.
    "aws-sdk-*",
    "aws-go-sdk-*",
    "aws-dotnet-sdk-*",
    "assume-role-*",
    "default_session",
    # A UUID (C++), and nanoseconds since 1970 (aws-vault).
    "????????-????-????-????-????????????",
    "1??????????????????",
)


def name_in(arn: str) -> str:
    """Return the name of the session or user in the ARN of a caller; `root` for the root user."""
    # Neither name can hold a slash or a colon.
    return arn.rpartition(":")[2].rpartition("/")[2]


def is_generated(name: str) -> bool:
    """Return whether a tool generated this name of a session, so that it names nobody."""
    return any(fnmatchcase(name, each) for each in GENERATED_NAMES)


@dataclass(frozen=True)
class Actor:
    """Who acts: pseudonyms of the caller's ARN and of the name in it, and the caller's unique id in IAM."""

    pseudonym: Pseudonym
    name: Pseudonym
    unique_id: str

    def did(self, recorded: AuditRecord | Closed | Pause | Ended) -> bool:
        """Return whether a record names this actor: by name, which is the same in every role, otherwise by ARN."""
        # Records of versions 1 and 2 hold no name.
        return recorded.actor_name == self.name if recorded.actor_name else recorded.actor == self.pseudonym
