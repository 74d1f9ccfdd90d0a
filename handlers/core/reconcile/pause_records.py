"""Compare pauses with the audit records of who began them.

Whoever can write the table of pauses can keep every account from being repaired. Audit records are written once and
locked, so a pause without one was not made by an operator's action.
"""

import json
from collections.abc import Collection, Mapping
from enum import StrEnum

from handlers.core.evidence.history import History, PastAction
from handlers.core.evidence.references import keyed_reference
from handlers.core.ports import Pseudonyms
from schemas.audit import MessageDigest
from schemas.ids import EventId, Sha256
from schemas.pause import Pause, PauseTerms

#: The result of a pause in the record of the action that began it, and of the one that ended it.
BEGUN, ENDED = "begun", "ended"


class PauseVerdict(StrEnum):
    """What the audit records say about a pause in force."""

    #: The action is on record, and the pause is as it was then.
    VALID = "valid"
    #: No such action is on record.
    MISSING = "missing"
    #: The action is on record, and the pause is not as it was then.
    DIFFERS = "differs"
    #: It was ended, on record.
    ENDED = "ended"
    #: The action is on record, and the key that its terms were digested with does not exist any more.
    NOT_COMPARED = "not_compared"


def digest(terms: PauseTerms, pseudonyms: Pseudonyms) -> Sha256:
    """Return the keyed digest of a pause's terms: an audit record must not hold its scope and owner in clear."""
    fields = [terms.id, terms.scope, terms.owner, terms.begun_at.isoformat(), terms.until.isoformat()]
    return pseudonyms.digest("pause", json.dumps(fields, ensure_ascii=False))


def reference(terms: PauseTerms, pseudonyms: Pseudonyms) -> MessageDigest:
    """Return what the audit record of its beginning holds of a pause."""
    return MessageDigest(event_id=terms.id, body_digest=digest(terms, pseudonyms))


def row_reference(name: str, pseudonyms: Pseudonyms) -> EventId:
    """Return what an audit record holds of a row that is not readable: its name can be anything."""
    return keyed_reference("row", name, pseudonyms.digest)


def compare(pauses: Collection[Pause], history: History, pseudonyms: Pseudonyms) -> Mapping[str, PauseVerdict]:
    """Compare pauses in force with the audit records; return the result by the id of the pause.

    Raises JoinguardError if the records cannot be read.
    """
    if not pauses:
        return {}
    actions = history.all_since(min(each.begun_at for each in pauses).date())
    keys = list(pseudonyms.under_each_key())
    return {each.id: _compare(each, actions, {key.key_version: digest(each, key) for key in keys}) for each in pauses}


def _compare(pause: Pause, actions: Collection[PastAction], expected: Mapping[str, Sha256]) -> PauseVerdict:
    """Compare a pause with the record of its beginning, given its digest under each key."""
    recorded = next((each.intended for each in actions if each.intended.act_id == pause.act_id), None)
    begun = None if recorded is None else _digest_of(pause, recorded.letters)
    if recorded is None or begun is None or recorded.action != "pause":
        return PauseVerdict.MISSING
    if any(each.done and _result_of(pause, each.done.letters) == ENDED for each in actions):
        return PauseVerdict.ENDED
    said = (recorded.reason, recorded.actor, recorded.actor_name, recorded.actor_id)
    says = (pause.reason, pause.actor, pause.actor_name, pause.actor_id)
    made_with = recorded.actor.key_version
    if said != says or (made_with in expected and begun != expected[made_with]):
        return PauseVerdict.DIFFERS
    return PauseVerdict.VALID if made_with in expected else PauseVerdict.NOT_COMPARED


def _digest_of(pause: Pause, letters: Collection[MessageDigest]) -> Sha256 | None:
    return next((each.body_digest for each in letters if each.event_id == pause.id), None)


def _result_of(pause: Pause, letters: Collection[MessageDigest]) -> str | None:
    return next((each.result for each in letters if each.event_id == pause.id), None)
