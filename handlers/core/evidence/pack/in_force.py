"""What was in force in a period: configurations with their approvals, and exceptions with their owners and ends."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest

from handlers.core.errors import JoinguardError
from handlers.core.evidence.pack.ports import KnownException, ReadExceptions
from handlers.core.evidence.pack.reading import begin, end
from handlers.core.ports import Pseudonyms
from handlers.core.redaction import holds_account_id, redact_words
from schemas.configuration import Configuration
from schemas.evidence import Evidence
from schemas.ids import Sha256
from schemas.pack import Deployment, ExceptionInForce, Period


def deployments(records: Iterable[tuple[str, Configuration]], period: Period) -> list[Deployment]:
    """Return the configurations in force in a period: the last one before it, and those that were deployed in it."""
    known = sorted(records, key=lambda each: (each[1].recorded_at, each[0]))
    untils = [record.recorded_at for _, record in known[1:]]
    found = [
        Deployment(key=key, record=_safe(record), until=until)
        for (key, record), until in zip_longest(known, untils)
        if record.recorded_at < end(period)
    ]
    return [each for each in found if each.until is None or each.until >= begin(period.first)]


def _safe(record: Configuration) -> Configuration:
    """Return a configuration whose texts hold no account id."""
    return record.model_copy(
        update={
            "stack": redact_words(record.stack),
            "change_set": redact_words(record.change_set) if record.change_set else None,
            "actor_id": redact_words(record.actor_id),
            "reason": redact_words(record.reason),
        }
    )


def guardrails_in_force(found: Sequence[Deployment], evidence: Iterable[Evidence]) -> list[Sha256]:
    """Return the guardrails documents that decided in the period, the last one first; not the short form."""
    short = {each.record.guardrails for each in found if all(policy.sha256 is None for policy in each.record.policies)}
    named = dict.fromkeys(each.record.guardrails for each in reversed(found))
    others = dict.fromkeys(sorted({each.guardrails for each in evidence if each.guardrails}))
    return [each for each in {**named, **others} if each not in short]


def exceptions(  # noqa: PLR0913, PLR0917 - what exceptions depend on
    guardrails: Iterable[Sha256],
    read: ReadExceptions,
    evidence: Iterable[Evidence],
    period: Period,
    pseudonyms: Pseudonyms,
    shown: Callable[[str], str],
) -> tuple[list[ExceptionInForce], list[Sha256]]:
    """Return the exceptions of a period, and the guardrails that could not be read.

    An exception that several versions of the guardrails define is shown as in the last one.
    """
    attempts = Counter(
        name for each in evidence for name in {one for policy in each.policies for one in policy.exceptions or ()}
    )
    known: dict[str, KnownException] = {}
    unread: list[Sha256] = []
    for each in guardrails:
        try:
            for exception in read(each):
                known.setdefault(exception.id, exception)
        except JoinguardError:
            unread.append(each)
    in_force = [each for each in known.values() if _concerns(each, period)]
    found = [_in_force(each, attempts[each.id], pseudonyms, shown) for each in in_force]
    found += [
        ExceptionInForce(id=redact_words(name), attempts=attempts[name]) for name in attempts if name not in known
    ]
    return sorted(found, key=lambda each: each.id), unread


def _concerns(exception: KnownException, period: Period) -> bool:
    return (exception.starts is None or exception.starts <= period.last) and exception.expires >= period.first


def _in_force(
    each: KnownException, attempts: int, pseudonyms: Pseudonyms, shown: Callable[[str], str]
) -> ExceptionInForce:
    return ExceptionInForce(
        id=each.id,
        policies=each.policies,
        accounts=tuple(sorted(shown(pseudonyms.of(account).value) for account in each.account_ids)),
        starts=each.starts,
        expires=each.expires,
        owner=_mailbox(each.owner),
        approved_by=_mailbox(each.approved_by),
        reason=redact_words(each.reason) if each.reason else None,
        attempts=attempts,
    )


def _mailbox(address: str | None) -> str | None:
    """Return a mailbox as the document names it, unless it holds an account id."""
    return redact_words(address) if address and holds_account_id(address) else address
