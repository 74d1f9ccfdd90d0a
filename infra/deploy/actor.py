"""Who runs the deployment's commands, as audit records name an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.core.evidence.actor import Actor, name_in
from handlers.core.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from handlers.aws.kms_pseudonyms import KmsPseudonyms


def actor_of(identity: Mapping[str, str], pseudonyms: KmsPseudonyms) -> Actor:
    """Return pseudonyms of the caller that STS identifies, and its unique id in IAM.

    Raises JoinguardError if KMS does not derive them.
    """
    arn = identity["Arn"]
    return Actor(pseudonyms.principal(arn), pseudonyms.name(name_in(arn)), unique_id_of(identity))


def unique_id_of(identity: Mapping[str, str]) -> str:
    """Return the unique id in IAM of the caller that STS identifies."""
    # The part before the colon. The rest is the session's name, often an e-mail address.
    return redact(identity["UserId"].partition(":")[0])
