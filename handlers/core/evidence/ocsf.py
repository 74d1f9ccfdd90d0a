"""Records as events of the Open Cybersecurity Schema Framework (OCSF), for the tools that collect security events.

The classes are Entity Management (what was changed, and who asked for it) and Compliance Finding (whether the
organization is as it must be). API Activity requires the address of the caller, which no record holds.
Source of names and numbers: https://schema.ocsf.io/1.8.0
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeAlias

from schemas.audit import Action, AuditRecord, MessageDigest
from schemas.configuration import Configuration
from schemas.evidence import Evidence, RecordedFault, RecordedPolicy, RehearsalEvidence
from schemas.outcome import AttachmentResult, Called, OutcomeStatus
from schemas.pseudonym import Pseudonym
from schemas.sealed import ObjectKind, sealed_kind
from schemas.sweep import FaultOfOrganization, NamedGap, SweepEvidence

VERSION: Final = "1.8.0"
#: An event in JSON's types.
OcsfEvent: TypeAlias = dict[str, Any]

_PROFILES: Final = ("cloud", "security_control")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHA_256: Final = 3


class _Class(NamedTuple):
    uid: int
    name: str
    category_uid: int
    category_name: str


_ENTITY_MANAGEMENT: Final = _Class(3004, "Entity Management", 3, "Identity & Access Management")
_COMPLIANCE_FINDING: Final = _Class(2003, "Compliance Finding", 2, "Findings")


class _Activity(IntEnum):
    """The activities of Entity Management that records report; 1 is that of a new finding, too."""

    CREATE = 1
    READ = 2
    UPDATE = 3
    DELETE = 4
    MOVE = 5
    ENROLL = 6
    UNENROLL = 7
    DISABLE = 9
    SUSPEND = 12
    RESUME = 13
    OTHER = 99


class _Severity(IntEnum):
    INFORMATIONAL = 1
    MEDIUM = 3
    HIGH = 4


class _Status(NamedTuple):
    number: int
    name: str


_UNKNOWN: Final = _Status(0, "Unknown")
_SUCCESS: Final = _Status(1, "Success")
_FAILURE: Final = _Status(2, "Failure")
#: The status of a finding that nobody has looked at.
_NEW: Final = _Status(1, "New")
_PASS: Final = _Status(1, "Pass")
_WARNING: Final = _Status(2, "Warning")
_FAIL: Final = _Status(3, "Fail")


class _Meaning(NamedTuple):
    """What a result says."""

    activity: _Activity
    status: _Status
    severity: _Severity
    #: Whether the policy is attached then; None if that is not known.
    is_applied: bool | None


_UNCHANGED: Final = (_Activity.READ, _SUCCESS, _Severity.INFORMATIONAL)
_CHANGED: Final = (_Activity.UPDATE, _SUCCESS, _Severity.INFORMATIONAL)
_RESULTS: Final[Mapping[AttachmentResult, _Meaning]] = {
    AttachmentResult.ATTACHED: _Meaning(*_CHANGED, is_applied=True),
    AttachmentResult.ALREADY_ATTACHED: _Meaning(*_UNCHANGED, is_applied=True),
    AttachmentResult.WOULD_ATTACH: _Meaning(*_UNCHANGED, is_applied=False),
    AttachmentResult.REMOVAL_REQUESTED: _Meaning(*_UNCHANGED, is_applied=True),
    AttachmentResult.REMOVED: _Meaning(*_CHANGED, is_applied=False),
    AttachmentResult.ALREADY_REMOVED: _Meaning(*_UNCHANGED, is_applied=False),
    AttachmentResult.KEPT: _Meaning(*_UNCHANGED, is_applied=True),
    AttachmentResult.FAILED: _Meaning(_Activity.UPDATE, _FAILURE, _Severity.HIGH, is_applied=None),
    AttachmentResult.UNKNOWN: _Meaning(_Activity.UPDATE, _UNKNOWN, _Severity.MEDIUM, is_applied=None),
}
_ATTEMPTS: Final[Mapping[OutcomeStatus, tuple[_Status, _Severity]]] = {
    OutcomeStatus.FAILED: (_FAILURE, _Severity.HIGH),
    OutcomeStatus.RETRYING: (_UNKNOWN, _Severity.MEDIUM),
}
#: By the name of the call that an event reports.
_CALLS: Final[Mapping[str, _Activity]] = {
    "DeletePolicy": _Activity.DELETE,
    "DisablePolicyType": _Activity.DISABLE,
}
_ACTIONS: Final[Mapping[Action, _Activity]] = {
    "redrive": _Activity.MOVE,
    "drop": _Activity.DELETE,
    "restore": _Activity.CREATE,
    "edit": _Activity.UPDATE,
    "enforce": _Activity.CREATE,
    "move": _Activity.MOVE,
    "cancel": _Activity.OTHER,
    "close": _Activity.UPDATE,
    "pause": _Activity.SUSPEND,
    "resume": _Activity.RESUME,
    "sweep": _Activity.OTHER,
    "pseudonym": _Activity.READ,
    "resolve": _Activity.READ,
}
#: What actions are about, if not messages.
_SUBJECTS: Final[Mapping[Action, str]] = {
    "pause": "Pause",
    "resume": "Pause",
    "pseudonym": "Pseudonym",
    "resolve": "Pseudonym",
}
_FAULTS: Final = {"POLICY_UNREAD": _WARNING, "UNREAD": _WARNING}


def events(key: str, body: bytes) -> Iterator[OcsfEvent]:
    """Return the events of a record, by the key of its object in the evidence bucket.

    Raises ValueError if no part of Joinguard writes this key, or if the object is not the record that its key names.
    """
    stored = _Object(key, sha256(body).hexdigest())
    match sealed_kind(key):
        case ObjectKind.EVIDENCE:
            return _of_evidence(stored, Evidence.model_validate_json(body))
        case ObjectKind.REHEARSAL:
            return _of_rehearsal(stored, RehearsalEvidence.model_validate_json(body))
        case ObjectKind.AUDIT:
            return _of_action(stored, AuditRecord.model_validate_json(body))
        case ObjectKind.CONFIGURATION:
            return _of_configuration(stored, Configuration.model_validate_json(body))
        case ObjectKind.SWEEP:
            return _of_sweep(stored, SweepEvidence.model_validate_json(body))
        case None:
            raise ValueError("no part of Joinguard writes this key")


@dataclass(frozen=True)
class _Object:
    """An object in the evidence bucket."""

    key: str
    sha256: str


@dataclass(frozen=True)
class _Source:
    """What the events of a record have in common."""

    stored: _Object
    at: datetime
    version: str
    #: What relates events of several records.
    correlation: str
    organization_id: str | None = None

    def event(
        self,
        part: str,
        described: _Class,
        activity: _Activity,
        severity: _Severity,
        status: _Status,
        **attributes: object,
    ) -> OcsfEvent:
        """Return an event; `part` names the part of the record that it reports, so that its uid is unique and stays."""
        key, organization = self.stored.key, self.organization_id
        metadata = {
            "version": VERSION,
            "product": {"name": "Joinguard", "vendor_name": "Joinguard"},
            "profiles": list(_PROFILES),
            "uid": f"{key}#{part}",
            "original_event_uid": key,
            "correlation_uid": self.correlation,
            "log_name": key.partition("/")[0],
            "log_version": self.version,
            "logged_time": _milliseconds(self.at),
            "tenant_uid": organization,
        }
        return _present(
            {
                "category_uid": described.category_uid,
                "category_name": described.category_name,
                "class_uid": described.uid,
                "class_name": described.name,
                "activity_id": activity.value,
                "activity_name": activity.name.capitalize(),
                "type_uid": described.uid * 100 + activity.value,
                "type_name": f"{described.name}: {activity.name.capitalize()}",
                "severity_id": severity.value,
                "severity": severity.name.capitalize(),
                "status_id": status.number,
                "status": status.name,
                "time": _milliseconds(self.at),
                "metadata": _present(metadata),
                "cloud": _present({"provider": "AWS", "org": {"uid": organization} if organization else None}),
                "raw_data_hash": {"algorithm_id": _SHA_256, "algorithm": "SHA-256", "value": self.stored.sha256},
                **attributes,
            }
        )


def _of_evidence(stored: _Object, evidence: Evidence) -> Iterator[OcsfEvent]:
    source = _Source(stored, evidence.recorded_at, evidence.schema_version, evidence.event_id, evidence.organization_id)
    common = {
        "entity": _account(evidence.account) if evidence.account else _organization(evidence.organization_id),
        "actor": {"app_name": "Joinguard"},
        "start_time": _milliseconds(evidence.event_time),
        "unmapped": evidence.model_dump(mode="json", exclude_none=True, exclude={"policies"}),
    }
    if evidence.departure or not evidence.policies:
        activity = _Activity.UNENROLL if evidence.departure else _Activity.READ
        status, severity = _ATTEMPTS.get(evidence.status, (_SUCCESS, _Severity.INFORMATIONAL))
        message = f"{evidence.event_name}: {evidence.status}"
        faulty = _fault(evidence.fault) | {"message": message}
        yield source.event("attempt", _ENTITY_MANAGEMENT, activity, severity, status, **common | faulty)
    for number, policy in enumerate(evidence.policies):
        yield _policy_event(source, f"policies/{number}", policy, common)
    if evidence.called:
        yield _called_event(source, evidence, evidence.called, common)


def _policy_event(source: _Source, part: str, policy: RecordedPolicy, common: OcsfEvent) -> OcsfEvent:
    meaning = _RESULTS[policy.result]
    attributes = (
        common
        | _fault(policy.fault)
        | {
            "message": f"{policy.policy_id}: {policy.result}",
            "policy": _present({"uid": policy.policy_id, "is_applied": meaning.is_applied}),
            "unmapped": common["unmapped"] | {"policy": policy.model_dump(mode="json", exclude_none=True)},
        }
    )
    activity, status, severity, _ = meaning
    return source.event(part, _ENTITY_MANAGEMENT, activity, severity, status, **attributes)


def _called_event(source: _Source, evidence: Evidence, called: Called, common: OcsfEvent) -> OcsfEvent:
    """Return the call that somebody else made, which the evidence is about."""
    policy = _present({"uid": called.policy_id, "type": called.policy_type})
    attributes = common | {
        "message": f"{evidence.event_name} was called",
        "actor": {"user": _user(called.principal)} if called.principal else None,
        "api": {"operation": evidence.event_name, "service": {"name": "organizations.amazonaws.com"}},
        "policy": policy or None,
        "start_time": None,
        "time": _milliseconds(evidence.event_time),
    }
    activity = _CALLS.get(evidence.event_name, _Activity.UPDATE)
    return source.event("called", _ENTITY_MANAGEMENT, activity, _Severity.MEDIUM, _SUCCESS, **attributes)


def _of_rehearsal(stored: _Object, evidence: RehearsalEvidence) -> Iterator[OcsfEvent]:
    source = _Source(stored, evidence.recorded_at, evidence.schema_version, evidence.event_id, evidence.organization_id)
    yield _finding(
        source,
        "rehearsal",
        _PASS,
        uid=evidence.event_id,
        control="Events reach the worker",
        message="A rehearsal came through",
        resource=_resource(evidence.organization_id, "AWS Organization"),
        start_time=_milliseconds(evidence.event_time),
        unmapped=evidence.model_dump(mode="json", exclude_none=True),
    )


def _of_action(stored: _Object, record: AuditRecord) -> Iterator[OcsfEvent]:
    source = _Source(stored, record.recorded_at, record.schema_version, record.act_id)
    activity = _ACTIONS[record.action]
    subject = _SUBJECTS.get(record.action, "Message")
    common = {
        "actor": {"user": _user(record.actor, record.actor_name, record.actor_id)},
        "comment": record.reason,
        "unmapped": record.model_dump(mode="json", exclude_none=True, exclude={"letters"}),
    }
    whole = {
        "entity": {"type_id": 99, "type": "Action", "uid": record.act_id, "name": record.action},
        "message": f"{record.action}: {record.ended or record.phase}",
    }
    status = _of_end(record)
    severity = _Severity.MEDIUM if status == _FAILURE else _Severity.INFORMATIONAL
    yield source.event("action", _ENTITY_MANAGEMENT, activity, severity, status, **common | whole)
    for number, message in enumerate(record.letters):
        result = _Status(99, message.result or record.phase)
        attributes = common | {
            "entity": _message(message, subject),
            "message": f"{record.action}: {result.name}",
            "status_code": message.error_code,
        }
        part = f"letters/{number}"
        quiet = _Severity.INFORMATIONAL
        yield source.event(part, _ENTITY_MANAGEMENT, activity, quiet, result, **attributes)


def _of_end(record: AuditRecord) -> _Status:
    if record.phase == "intended":
        return _Status(99, record.phase)
    return _SUCCESS if record.ended == "completed" else _FAILURE


def _of_configuration(stored: _Object, record: Configuration) -> Iterator[OcsfEvent]:
    source = _Source(stored, record.recorded_at, record.schema_version, record.record_id)
    yield source.event(
        "configuration",
        _ENTITY_MANAGEMENT,
        _Activity.UPDATE,
        _Severity.INFORMATIONAL,
        _SUCCESS,
        entity={"type_id": 5, "type": "Policy", "name": "guardrails", "uid": record.guardrails},
        actor={"user": _user(record.actor, record.actor_name, record.actor_id)},
        comment=record.reason or None,
        message=f"stack {record.stack} was deployed",
        unmapped=record.model_dump(mode="json", exclude_none=True),
    )


def _of_sweep(stored: _Object, evidence: SweepEvidence) -> Iterator[OcsfEvent]:
    report = evidence.report
    source = _Source(stored, report.decided_at, report.schema_version, report.sweep_id, report.organization_id)
    unclear = _WARNING if report.unclear or report.faults else _PASS
    yield _finding(
        source,
        "report",
        _FAIL if report.with_gaps else unclear,
        uid=f"{report.organization_id}/coverage",
        control=_COVERAGE,
        message=f"{report.covered} of {report.members} accounts carry their policies",
        resource=_resource(report.organization_id, "AWS Organization"),
        start_time=_milliseconds(report.begun_at),
        unmapped=report.model_dump(mode="json", exclude_none=True),
    )
    for number, found in enumerate(report.faults):
        yield _fault_of_organization(source, f"faults/{number}", found)
    for number, gap in enumerate(evidence.gaps):
        yield _gap(source, f"gaps/{number}", gap)
    changes = (("appeared", _Activity.ENROLL, evidence.appeared), ("departed", _Activity.UNENROLL, evidence.departed))
    for name, activity, accounts in changes:
        for number, account in enumerate(accounts):
            yield source.event(
                f"{name}/{number}",
                _ENTITY_MANAGEMENT,
                activity,
                _Severity.INFORMATIONAL,
                _SUCCESS,
                entity=_account(account),
                actor={"app_name": "Joinguard"},
                message=f"since the last sweep: {name}",
            )


_COVERAGE: Final = "Every account carries its policies"


def _fault_of_organization(source: _Source, part: str, found: FaultOfOrganization) -> OcsfEvent:
    return _finding(
        source,
        part,
        _FAULTS.get(found.kind, _FAIL),
        uid=f"{source.organization_id}/{found.kind}/{found.what}",
        control=_COVERAGE,
        message=f"{found.kind}: {found.what}",
        resource=_resource(found.what, "AWS Organization"),
        status_code=found.kind,
    )


def _gap(source: _Source, part: str, gap: NamedGap) -> OcsfEvent:
    return _finding(
        source,
        part,
        _FAIL,
        uid=f"{gap.account.value}/{gap.policy_id}",
        control=_COVERAGE,
        message=f"{gap.policy_id} is missing: {gap.cause}",
        resource=_resource(gap.account.value, "AWS Account", gap.account),
        status_code=gap.cause,
        policy={"uid": gap.policy_id, "is_applied": False},
    )


_SEVERITIES: Final = {_PASS: _Severity.INFORMATIONAL, _WARNING: _Severity.MEDIUM, _FAIL: _Severity.HIGH}


def _finding(  # noqa: PLR0913 - the attributes of a finding
    source: _Source,
    part: str,
    result: _Status,
    *,
    uid: str,
    control: str,
    message: str,
    resource: OcsfEvent,
    **attributes: object,
) -> OcsfEvent:
    """Return a finding; its uid is the same in each sweep that finds it, so that consumers can group findings."""
    return source.event(
        part,
        _COMPLIANCE_FINDING,
        _Activity.CREATE,
        _SEVERITIES[result],
        _NEW,
        finding_info={"uid": uid, "title": control, "desc": message},
        compliance={"control": control, "status_id": result.number, "status": result.name},
        message=message,
        resources=[resource],
        **attributes,
    )


def _account(account: Pseudonym) -> OcsfEvent:
    return {"type_id": 99, "type": "AWS Account", "uid": account.value, "data": {"key_version": account.key_version}}


def _organization(organization_id: str) -> OcsfEvent:
    return {"type_id": 4, "type": "Organization", "uid": organization_id, "org": {"uid": organization_id}}


def _message(message: MessageDigest, subject: str) -> OcsfEvent:
    data = message.model_dump(mode="json", exclude_none=True)
    uid = message.event_id or message.message_id
    return _present({"type_id": 99, "type": subject, "name": subject, "uid": uid, "data": data})


def _resource(uid: str, kind: str, account: Pseudonym | None = None) -> OcsfEvent:
    data = {"key_version": account.key_version} if account else None
    return _present({"uid": uid, "type": kind, "data": data})


def _user(principal: Pseudonym, name: Pseudonym | None = None, unique_id: str | None = None) -> OcsfEvent:
    return _present({"uid": principal.value, "name": name.value if name else None, "uid_alt": unique_id})


def _fault(fault: RecordedFault | None) -> OcsfEvent:
    if fault is None:
        return {}
    return _present({"status_code": fault.code, "status_detail": fault.message or fault.reason})


def _milliseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)


def _present(attributes: Mapping[str, Any]) -> OcsfEvent:
    return {name: value for name, value in attributes.items() if value is not None}
