"""Read compiled guardrails, and the facts of an account that they depend on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Protocol

from pydantic import ValidationError

from handlers.core.errors import JoinguardError, PermanentError, RetryableError, fault
from handlers.core.guardrails.evaluate import Decision, Guardrails
from handlers.core.guardrails.facts import Fact, Facts, Unknown
from schemas.compiled_guardrails import CompiledGuardrails
from schemas.ids import AccountId

#: The key of compiled guardrails among what deployments wrote, by their SHA-256.
GUARDRAILS_KEY: Final = "joinguard/guardrails/{}.json"


class Artifacts(Protocol):
    """What a deployment wrote."""

    def read(self, key: str) -> bytes:
        """Return an artifact; raise JoinguardError if it cannot be read or is not what its key says."""


class FactsReader(Protocol):
    """AWS Organizations, as far as facts come from it."""

    def described(self, facts: Facts) -> Facts:
        """Return the facts with name, e-mail address, join method and OUs."""

    def tagged(self, facts: Facts) -> Facts:
        """Return the facts with tags."""


def read_guardrails(artifacts: Artifacts, key: str) -> Guardrails:
    """Return the compiled guardrails under a key; raise JoinguardError if there are none."""
    content = artifacts.read(key)
    try:
        return Guardrails(CompiledGuardrails.model_validate_json(content), sha256=sha256(content).hexdigest())
    except ValidationError as error:
        why = f"{key} does not hold guardrails that this version reads ({error.error_count()} mistakes); deploy again"
        raise PermanentError(fault("INVALID_GUARDRAILS", why)) from error


#: The facts that one call returns; the tags take another call.
DESCRIBED: Final = frozenset(Fact) - {Fact.TAGS}


def read_or_unreadable(artifacts: Artifacts, key: str) -> Guardrails:
    """Return the compiled guardrails under a key, or ones that raise the reason when they are asked.

    For operators: most commands do not need them.
    """
    try:
        return read_guardrails(artifacts, key)
    except JoinguardError as error:
        return _Unreadable(error)


class _Unreadable(Guardrails):
    """Guardrails that could not be read."""

    def __init__(self, error: JoinguardError) -> None:
        """Keep the reason."""
        super().__init__(CompiledGuardrails(policies=(), rules=()))
        self._error = error

    def evaluate(self, facts: Facts, at: datetime) -> Decision:  # noqa: ARG002 - as in Guardrails
        """Raise the reason why the guardrails could not be read."""
        raise self._error


@dataclass(frozen=True)
class Informed:
    """A decision, and why facts that it needs are not known."""

    decision: Decision
    errors: tuple[JoinguardError, ...] = ()

    @property
    def error(self) -> JoinguardError:
        """The reason why something is undecided: one that may pass, if there is one."""
        passing = [each for each in self.errors if isinstance(each, RetryableError)]
        needs = ", ".join(sorted(self.decision.needs))
        unknown = PermanentError(fault("FACTS_UNKNOWN", f"AWS did not return these facts of the account: {needs}"))
        return (*passing, *self.errors, unknown)[0]


def decide(
    guardrails: Guardrails,
    account_id: AccountId,
    at: datetime,
    reader: FactsReader,
    call: Callable[[Callable[[], Facts]], Facts],
) -> Informed:
    """Decide about an account, and read only the facts that the decision needs.

    `call` makes each call of Organizations. A fact that cannot be read is unknown: the decision holds without it as far
    as other facts decide.
    """
    facts, errors = Facts(account_id), list[JoinguardError]()
    decision = guardrails.evaluate(facts, at)
    for needed, read in ((DESCRIBED, reader.described), (frozenset({Fact.TAGS}), reader.tagged)):
        if not decision.needs & needed:
            continue
        try:
            facts = call(_bound(read, facts))
        except JoinguardError as error:
            errors.append(error)
            unreadable: Any = dict.fromkeys(needed, Unknown.UNREADABLE)
            facts = replace(facts, **unreadable)
        decision = guardrails.evaluate(facts, at)
    return Informed(decision, tuple(errors))


def _bound(read: Callable[[Facts], Facts], facts: Facts) -> Callable[[], Facts]:
    return lambda: read(facts)
