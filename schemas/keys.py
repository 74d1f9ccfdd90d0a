"""The keys of objects in the evidence bucket. No key holds an account id.

evidence/YYYY/MM/DD/EVENT/ACCOUNT/ATTEMPT.json    the evidence of one attempt; the day is the event's, in UTC
evidence/rehearsal/YYYY/MM/DD/EVENT/SHA.json      the evidence of a rehearsal; likewise
acts/YYYY/MM/DD/ACTION/intended.json, done.json   the audit records of one action of an operator
backups/YYYY/MM/DD/ACTION.jsonl                   the messages that an action deleted or changed
configuration/YYYY/MM/DD/RECORD.json              what a deployment put in force
sweeps/YYYY/MM/DD/SWEEP.json                      what a sweep found and requested; the day is that of the decision
log/tile/…                                        the tiles and entry bundles of the sealed log (c2sp.org/tlog-tiles)
log/batches/000/000/NUMBER                        the leaves that were added together
log/checkpoints/000/000/NUMBER                    the signed checkpoint after the batch with this number
"""

import re
from datetime import date, datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from schemas.configuration import Configuration
from schemas.evidence import Evidence, RehearsalEvidence
from schemas.ids import EventId

if TYPE_CHECKING:
    # The workers would start later with it.
    from schemas.sweep import SweepReport

#: The account in the key of an event that names none.
NO_ACCOUNT: Final = "none"
#: The account id and event id of the one row of all rehearsals.
REHEARSAL_ROW: Final = (NO_ACCOUNT, "rehearsal")
#: The prefix of the keys of all backups.
BACKUPS: Final = "backups/"
#: The prefix of the sealed log; the paths of tiles and entry bundles follow it.
LOG: Final = "log/"
BATCHES: Final = f"{LOG}batches/"
CHECKPOINTS: Final = f"{LOG}checkpoints/"
#: The prefixes whose objects are sealed.
SealedPrefix: TypeAlias = Literal["acts/", "configuration/", "evidence/", "sweeps/"]
SEALED_PREFIXES: Final[tuple[SealedPrefix, ...]] = get_args(SealedPrefix)
#: The prefixes that are compared with the sealed log. Under its own, nothing is sealed, and nothing may be deleted.
ComparedPrefix: TypeAlias = SealedPrefix | Literal["log/"]
COMPARED_PREFIXES: Final[tuple[ComparedPrefix, ...]] = (*SEALED_PREFIXES, "log/")
#: The number of characters of a SHA-256 that distinguish two objects of one attempt.
_SHORT: Final = 16
_BACKUP: Final = re.compile(r"backups/([0-9]{4})/([0-9]{2})/([0-9]{2})/")
_NUMBERED: Final = re.compile(r"log/(?:batches|checkpoints)/([0-9]{3})/([0-9]{3})/([0-9]{3})")
_OF_EVENT: Final = re.compile(r"evidence/(?:rehearsal/)?[0-9]{4}/[0-9]{2}/[0-9]{2}/([0-9A-Za-z][0-9A-Za-z_-]{0,127})/")
_BESIDE: Final = re.compile(rf"(.+)-[0-9a-f]{{{_SHORT}}}\.json")


def evidence_key(evidence: Evidence) -> str:
    """Return the key of an attempt's evidence.

    The account is part of it since version 2, because events about two accounts can have the same event id.
    """
    account = evidence.account.value if evidence.account else NO_ACCOUNT
    folder = "" if evidence.schema_version == "joinguard/evidence/1" else f"{account}/"
    late = "-late" if evidence.course == "late" else ""
    return f"{event_prefix(evidence.event_time, evidence.event_id)}{folder}{evidence.attempt:04d}{late}.json"


def evidence_keys(evidence: Evidence, sha256: str) -> tuple[str, ...]:
    """Return the keys under which a worker may have written evidence, its own one first, by its SHA-256.

    Evidence of version 1 was never written beside another object.
    """
    own = evidence_key(evidence)
    return (own,) if evidence.schema_version == "joinguard/evidence/1" else (own, key_beside(own, sha256))


def event_prefix(event_time: datetime, event_id: EventId) -> str:
    """Return the prefix of the keys of all evidence of an event."""
    return f"evidence/{_day(event_time)}/{event_id}/"


def event_in(key: str) -> EventId | None:
    """Return the event in the key of evidence, also of that of a rehearsal; None for any other key."""
    found = _OF_EVENT.match(key)
    return found[1] if found else None


def rehearsal_key(evidence: RehearsalEvidence, sha256: str) -> str:
    """Return the key of a rehearsal's evidence, by its SHA-256: each delivery of a message has evidence of its own."""
    return f"{rehearsal_prefix(evidence.event_time, evidence.event_id)}{sha256[:_SHORT]}.json"


def rehearsal_prefix(event_time: datetime, event_id: EventId) -> str:
    """Return the prefix of the keys of all evidence of a rehearsal."""
    return f"evidence/rehearsal/{_day(event_time)}/{event_id}/"


def key_beside(key: str, sha256: str) -> str:
    """Return the key for evidence whose own key holds another object."""
    return f"{key.removesuffix('.json')}-{sha256[:_SHORT]}.json"


def own_key(key: str) -> str | None:
    """Return the own key of evidence that was written beside it; None for any other key."""
    found = _BESIDE.fullmatch(key)
    return f"{found[1]}.json" if found else None


def audit_key(begun_at: date, action_id: str, phase: str) -> str:
    """Return the key of an audit record; both phases of an action are under the day on which it began."""
    return f"{audit_prefix(begun_at)}{action_id}/{phase}.json"


def done_key(intended_key: str) -> str:
    """Return the key of the `done` record, by the key of the `intended` one."""
    return intended_key.replace("/intended.json", "/done.json")


def audit_prefix(day: date) -> str:
    """Return the prefix of the keys of a day's audit records."""
    return f"acts/{_day(day)}/"


def record_prefixes(day: date) -> tuple[str, ...]:
    """Return the prefixes of the keys of all records of a day."""
    return tuple(f"{each}{_day(day)}/" for each in (*SEALED_PREFIXES, "evidence/rehearsal/"))


def configuration_key(configuration: Configuration) -> str:
    """Return the key of the configuration that a deployment put in force; the day is that of the record, in UTC."""
    return f"configuration/{_day(configuration.recorded_at)}/{configuration.record_id}.json"


def sweep_key(report: "SweepReport") -> str:
    """Return the key of the evidence of a sweep."""
    return f"sweeps/{_day(report.decided_at)}/{report.sweep_id}.json"


def backup_key(begun_at: date, action_id: str) -> str:
    """Return the key of an action's backup."""
    return f"{BACKUPS}{_day(begun_at)}/{action_id}.jsonl"


def backup_action(key: str) -> str:
    """Return the id of the action that made a backup."""
    return key.rpartition("/")[2].removesuffix(".jsonl")


def backup_day(key: str) -> date:
    """Return the day of a backup; the earliest possible day if the key names none."""
    found = _BACKUP.match(key)
    try:
        return date(*map(int, found.groups())) if found else date.min
    except ValueError:
        return date.min


def batch_key(number: int) -> str:
    """Return the key of a batch of the sealed log."""
    return f"{BATCHES}{_numbered(number)}"


def checkpoint_key(number: int) -> str:
    """Return the key of the checkpoint after the batch with this number."""
    return f"{CHECKPOINTS}{_numbered(number)}"


def log_number(key: str) -> int | None:
    """Return the number in the key of a batch or a checkpoint; None for any other key."""
    found = _NUMBERED.fullmatch(key)
    return int("".join(found.groups())) if found else None


def _numbered(number: int) -> str:
    digits = f"{number:09d}"
    return f"{digits[:3]}/{digits[3:6]}/{digits[6:]}"


def _day(day: date) -> str:
    return day.isoformat()[: len("YYYY-MM-DD")].replace("-", "/")
