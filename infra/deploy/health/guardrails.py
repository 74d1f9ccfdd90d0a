"""Check the guardrails in force: whether they can be read, and which exceptions are over and not yet undone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from handlers.aws.organizations_reader import OrganizationsReaderApi
from handlers.aws.s3_artifacts import S3Artifacts
from handlers.core.errors import JoinguardError
from handlers.core.guardrails.reading import decide, read_guardrails
from infra.deploy.health.check import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handlers.core.guardrails.evaluate import Guardrails
    from infra.deploy.health.deployed import Deployed

#: More than an organization has exceptions that ended and were not taken out.
_MAX_READ: Final = 50


def guardrails(s3: Any, organizations: Any, stack: Deployed) -> Iterator[Check]:
    """Check the compiled guardrails; yield nothing if the stack has the short form."""
    key = stack.parameters.get("GuardrailsKey")
    if not key:
        return
    try:
        found = read_guardrails(S3Artifacts(s3, stack.parameters["CodeBucket"]), key)
        lacking = _lacking(found, OrganizationsReaderApi(organizations), datetime.now(UTC))
    except JoinguardError as error:
        yield Check("guardrails", f"cannot be read: {error}", "wrong", "run `make deploy`")
        return
    document = found.document
    text = f"{found.sha256[:12]}, {len(document.rules)} rules, {len(document.exceptions)} exceptions"
    if not lacking:
        yield Check("guardrails", text, "ok")
        return
    over = "; ".join(f"exception {name} is over, and {', '.join(accounts)} lack" for name, accounts in lacking.items())
    step = "run `make enforce ARGS=ACCOUNT` for each of them, and take the exception out of the document"
    yield Check("guardrails", f"{text}; {over} its policies", "wrong", step)


def _lacking(found: Guardrails, organizations: OrganizationsReaderApi, now: datetime) -> dict[str, list[str]]:
    """Return the accounts that lack policies which an exception that is over had taken away, by exception."""
    over = [each for each in found.document.exceptions if each.expires < now.date()]
    lacking: dict[str, list[str]] = {}
    for exception, account in [(each, account) for each in over for account in each.accounts][:_MAX_READ]:
        carried = {each.id for each in organizations.attached_policies(account, found.policy_types)}
        decision = decide(found, account, now, organizations, lambda read: read()).decision
        if set(decision.missing(carried)) & set(exception.policies):
            lacking.setdefault(exception.id, []).append(account)
    return lacking
