"""The contracts as JSON Schemas, for readers who do not use Python."""

from typing import Any, Final

from pydantic import BaseModel

from schemas.audit import AuditRecord
from schemas.compiled_guardrails import CompiledGuardrails
from schemas.configuration import Configuration
from schemas.dead_letter import DeadLetterAttributes
from schemas.events import DepartureRequest, JoinRequest, OrganizationsEvent, RehearsalEvent, RemovalRequest
from schemas.evidence import Evidence, RehearsalEvidence
from schemas.guardrails import Document, Lock
from schemas.outcome import Outcome
from schemas.pack import Manifest, Pack
from schemas.pause import Pause
from schemas.plan import ApprovedPlan
from schemas.sealed import SealedBatch, SealedDeletion, SealedObject
from schemas.snapshot import Snapshot
from schemas.sweep import SweepEvidence
from schemas.verification import Verification

#: By the name of the file in `schemas/json`, without its suffix.
CONTRACTS: Final[dict[str, type[BaseModel]]] = {
    "organizations-event": OrganizationsEvent,
    "join-request": JoinRequest,
    "removal-request": RemovalRequest,
    "departure-request": DepartureRequest,
    "rehearsal": RehearsalEvent,
    "outcome": Outcome,
    "evidence": Evidence,
    "rehearsal-evidence": RehearsalEvidence,
    "act": AuditRecord,
    "configuration": Configuration,
    "dead-letter-attributes": DeadLetterAttributes,
    "guardrails": Document,
    "guardrails-lock": Lock,
    "guardrails-compiled": CompiledGuardrails,
    "plan": ApprovedPlan,
    "pause": Pause,
    "snapshot": Snapshot,
    "sweep": SweepEvidence,
    "leaf-object": SealedObject,
    "leaf-deletion": SealedDeletion,
    "leaf-batch": SealedBatch,
    "verification": Verification,
    "pack": Pack,
    "pack-manifest": Manifest,
}
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return a JSON Schema for each contract."""
    return {name: {"$schema": _DIALECT} | model.model_json_schema() for name, model in CONTRACTS.items()}
