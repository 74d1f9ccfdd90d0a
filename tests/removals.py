"""Both workers with a guardrails document, the fakes that they share, and the queues between them."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from handlers.core.guardrails.evaluate import Guardrails
from handlers.core.guardrails.facts import Facts
from handlers.core.joins.remove import RemoveDependencies, Remover
from handlers.core.timing import Budget
from schemas.compiled_guardrails import (
    SCP,
    CompiledException,
    CompiledGuardrails,
    CompiledPolicy,
    CompiledRule,
    CompiledSelector,
)
from tests.fakes import ACCOUNT, FakeLimit, FakeRequests, Steps, World, joined, message

if TYPE_CHECKING:
    from datetime import date

    from handlers.core.joins.worker import Handled
    from schemas.compiled_guardrails import PolicyType
    from schemas.plan import ApprovedPlan

#: Attached to every account.
BASE = "p-baseline1"
#: Attached to accounts with the tag, and removed from others.
REGIONS, EDGE = "p-regions11", "p-edgerules"
#: Attached to accounts with the tag, and kept on others.
KEPT = "p-keptforever"
PROD = CompiledSelector(tags={"environment": ("prod",)})


def document(
    *exceptions: CompiledException, removals: int = 25, types: dict[str, PolicyType] | None = None
) -> CompiledGuardrails:
    """Return guardrails with a rule for every account, one that removes, and one that keeps."""
    known = types or {}
    return CompiledGuardrails(
        policies=tuple(CompiledPolicy(id=each, type=known.get(each, SCP)) for each in (BASE, REGIONS, EDGE, KEPT)),
        rules=(
            CompiledRule(id="everyone", attach=(BASE,), match="all"),
            CompiledRule(id="prod", attach=(REGIONS, EDGE), match=(PROD,), when_no_longer="remove"),
            CompiledRule(id="kept", attach=(KEPT,), match=(PROD,)),
        ),
        exceptions=exceptions,
        max_removals=removals,
    )


class TwoWorkers(World):
    """The worker that attaches policies, the one that removes them, and what both work with."""

    def __init__(
        self,
        *exceptions: CompiledException,
        removals: int = 25,
        types: dict[str, PolicyType] | None = None,
        steps: Steps | None = None,
        seed: int = 1,
    ) -> None:
        super().__init__(steps=steps, seed=seed)
        self.organizations.types |= types or {}
        self.removals = FakeRequests(self.steps, "request removal")
        self.evaluations = FakeRequests(self.steps, "request evaluation")
        self.limit = FakeLimit(self.steps)
        shared = self.enforcer.dependencies
        self.enforcer = dataclasses.replace(
            self.enforcer, dependencies=dataclasses.replace(shared, removals=self.removals)
        )
        self.remover = Remover(
            requirements=self.enforcer.requirements,
            dependencies=RemoveDependencies(
                organizations=shared.organizations,
                ledger=shared.ledger,
                archive=shared.archive,
                pseudonyms=shared.pseudonyms,
                pace=shared.pace,
                clock=shared.clock,
                rng=shared.rng,
                detachments=self.organizations,
                claims=self.ledger,
                limit=self.limit,
                evaluations=self.evaluations,
            ),
            inbox=self.inbox,
            dead_letters=self.dead_letters,
            rng=self.enforcer.rng,
        )
        self.use(document(*exceptions, removals=removals, types=types))
        self.tag(environment="prod")

    def use(
        self, guardrails: CompiledGuardrails, approved: ApprovedPlan | None = None, *, until: date | None = None
    ) -> None:
        """Deploy other guardrails, and an approved plan."""
        requirements = dataclasses.replace(self.enforcer.requirements, guardrails=Guardrails(guardrails))
        self.enforcer = dataclasses.replace(self.enforcer, requirements=requirements)
        dependencies = dataclasses.replace(self.remover.dependencies, approved=approved, approved_until=until)
        self.remover = dataclasses.replace(self.remover, requirements=requirements, dependencies=dependencies)

    def tag(self, account_id: str = ACCOUNT, **tags: str) -> None:
        """Give an account these tags, and no others."""
        self.organizations.facts[account_id] = Facts(account_id, tags=tags)

    def join(self, account_id: str = ACCOUNT, *, event_id: str = "event-1") -> None:
        """Let an account with the tag get its policies from us."""
        self.organizations.attached.setdefault(account_id, ["p-FullAWSAccess"])
        self.tag(account_id, environment="prod")
        self.handle(joined(account_id, event_id=event_id))

    def retire(self, account_id: str = ACCOUNT, *, event_id: str = "event-2") -> Handled:
        """Take the tag from an account, and evaluate it again."""
        self.tag(account_id, environment="test")
        return self.handle(joined(account_id, event_id=event_id))

    def remove(self, body: str | None = None, *, receives: int = 1, seconds: float = 60) -> Handled:
        """Deliver a request to the worker that removes policies: by default, the first one in its queue."""
        budget = Budget(self.clock, milliseconds=round(seconds * 1000), records=1)
        return self.remover.handle(message(body or self.removals.bodies[0], receives=receives), budget)

    def request_id(self, number: int = 0) -> str:
        """Return the event id of a request to remove policies."""
        return str(json.loads(self.removals.bodies[number])["event_id"])
