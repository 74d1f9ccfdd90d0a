"""Check which accounts operators have paused, and that the audit records confirm each pause."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from handlers.aws.dynamodb_pauses import DynamoPauses
from handlers.aws.kms_pseudonyms import KmsPseudonyms
from handlers.aws.s3_evidence import S3Archive
from handlers.clock import SystemClock
from handlers.core.evidence.history import History
from handlers.core.reconcile.pause_records import PauseVerdict, compare
from handlers.operate.hints import as_typed
from handlers.operate.installation import former_keys
from handlers.operate.pausing import WARNINGS, moment, scope_of
from handlers.operate.tables import first
from infra.deploy.health.check import Check
from infra.deploy.pseudonym_keys import key_in_force
from schemas.pause import ORGANIZATION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.deploy.health.deployed import Deployed
    from schemas.pause import Pause

PAUSES: Final = "handlers/operate/RUNBOOK.md#a-controller-fights-with-joinguard"
#: The number of pauses that are named.
_NAMED: Final = 5


def pauses(dynamodb: Any, s3: Any, kms: Any, stack: Deployed, stage: str) -> Iterator[Check]:
    """Say who has paused what until when, and check the pauses; yield nothing for stacks that have none."""
    if "Reconciliation" not in stack.declared():
        return
    now = datetime.now(UTC)
    key = key_in_force(stack.parameters, stack.id("PseudonymKey"))
    pseudonyms = KmsPseudonyms(kms, key, stack.parameters["OrganizationId"], former_keys(stack.parameters))
    history = History(S3Archive(s3, stack.id("Evidence")), SystemClock())
    known = DynamoPauses(dynamodb, stack.id("Reconciliation")).read()
    in_force = known.in_force(now)
    verdicts = compare(in_force, history, pseudonyms)
    wrong = [f"row {each} is not readable, so every account counts as paused" for each in sorted(known.unreadable)]
    wrong += [
        f"pause {each.id}: {WARNINGS[verdicts[each.id]]}"
        for each in in_force
        if verdicts[each.id] is not PauseVerdict.VALID
    ]
    text = first(in_force, _NAMED, lambda each: _named(each, pseudonyms)) or "none"
    if wrong:
        yield Check("pauses", "; ".join([*wrong, text]), "wrong", PAUSES)
    elif any(each.scope == ORGANIZATION for each in in_force):
        step = "nothing is repaired until then; if that is no longer meant, `resume ID`"
        yield Check("pauses", text, "wrong", as_typed(step, stage), needs_operator=False)
    else:
        yield Check("pauses", text, "ok", always_shown=bool(in_force))


def _named(pause: Pause, pseudonyms: KmsPseudonyms) -> str:
    scope = scope_of(pause, lambda account_id: pseudonyms.of(account_id).value)
    return f"{pause.id} pauses {scope} until {moment(pause.until)} by {pause.owner}"
