"""Check the guardrails in force: whether they can be read, and which exceptions are over and not yet undone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from handlers.aws.organizations_reader import OrganizationsReaderApi
from handlers.aws.s3_artifacts import S3Artifacts
from handlers.core.errors import AccountNotFoundError, JoinguardError
from handlers.core.guardrails.reading import decide, read_guardrails
from handlers.core.plurals import count
from handlers.operate.hints import as_typed
from infra.deploy.health.check import Check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from handlers.core.guardrails.evaluate import Guardrails
    from infra.deploy.health.deployed import Deployed
    from schemas.compiled_guardrails import CompiledGuardrails

#: The accounts that are read, two calls for each.
_MAX_READ: Final = 50
#: How many characters of a SHA-256 people see.
_SHORT: Final = 12


def guardrails(s3: Any, organizations: Any, stack: Deployed, stage: str) -> Iterator[Check]:
    """Check the compiled guardrails, and say what a stage removes; yield nothing if the stack has the short form."""
    key = stack.parameters.get("GuardrailsKey")
    if not key:
        return
    try:
        found = read_guardrails(S3Artifacts(s3, stack.parameters["CodeBucket"]), key)
    except JoinguardError as error:
        yield Check("guardrails", f"cannot be read: {error}", "wrong", as_typed("run `make deploy`", stage))
        return
    document = found.document
    counted = f"{count(len(document.rules), 'rule')}, {count(len(document.exceptions), 'exception')}"
    text = f"{found.sha256[:_SHORT]}, {counted}"
    lacking, unknown = _ended(found, OrganizationsReaderApi(organizations), datetime.now(UTC))
    over = [
        f"exception {name} is over, and {', '.join(accounts)} {'lack' if accounts[1:] else 'lacks'} its policies"
        for name, accounts in lacking.items()
    ]
    listed = "; ".join([text, *over, *unknown])
    if over:
        step = "run `enforce ACCOUNT` for each of them, and take the exception out of the document"
        yield Check("guardrails", listed, "wrong", as_typed(step, stage))
    elif unknown:
        step = "take exceptions that are over out of the document, and request their accounts with `enforce ACCOUNT`"
        yield Check("guardrails", listed, "unknown", as_typed(step, stage))
    else:
        yield Check("guardrails", listed, "ok")
    yield from _removals(document, stack.parameters, datetime.now(UTC))


def _removals(document: CompiledGuardrails, parameters: Mapping[str, str], now: datetime) -> Iterator[Check]:
    """Say how many policies a stage that removes may remove in a day, and which plan is approved."""
    if parameters.get("RemovePolicies") != "true":
        return
    plan = parameters.get("ApprovedPlanKey", "").rpartition("/")[2].removesuffix(".json")[:_SHORT]
    until = parameters.get("ApprovedPlanUntil", "")
    if not plan:
        approved = "no approved plan"
    elif not until:
        approved = f"plan {plan} approved"
    elif until < now.date().isoformat():
        approved = f"the approval of plan {plan} ended on {until}"
    else:
        approved = f"plan {plan} approved until {until}"
    yield Check("removals", f"on, limit {document.max_removals:,} a day, {approved}", "ok", always_shown=True)


def _ended(
    found: Guardrails, organizations: OrganizationsReaderApi, now: datetime
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the accounts that lack what an exception that is over had taken away, and what could not be found out."""
    over = [each for each in found.document.exceptions if each.expires < now.date()]
    pairs = [(each, account) for each in over for account in each.accounts]
    lacking: dict[str, list[str]] = {}
    unknown = (
        [f"{len(pairs) - _MAX_READ} accounts of exceptions that are over were not read"] if pairs[_MAX_READ:] else []
    )
    for exception, account in pairs[:_MAX_READ]:
        try:
            carried = {each.id for each in organizations.attached_policies(account, found.policy_types)}
        except AccountNotFoundError:
            continue  # It has left the organization.
        except JoinguardError as error:
            unknown.append(f"exception {exception.id} is over, and {account} cannot be read: {error.fault.code}")
            continue
        decision = decide(found, account, now, organizations, lambda read: read()).decision
        if set(decision.missing(carried)) & set(exception.policies):
            lacking.setdefault(exception.id, []).append(account)
        elif set(decision.undecided) & set(exception.policies) - carried:
            unknown.append(f"exception {exception.id} is over, and the facts of {account} cannot be read")
    return lacking, unknown
