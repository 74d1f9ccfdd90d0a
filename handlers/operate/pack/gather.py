"""Gather what an evidence pack is made of from an installation, and make the data of the pack."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from handlers.core.errors import JoinguardError, PermanentError, fault
from handlers.core.evidence.pack.make import Order, Sources, make_pack
from handlers.core.evidence.pack.ports import KnownException, KnownMember, OrganizationNow
from handlers.core.evidence.pack.reading import MAX_BYTES, end
from handlers.core.guardrails.reading import GUARDRAILS_KEY, read_guardrails
from handlers.core.guardrails.snapshot import ACTIVE
from handlers.core.reconcile.coverage import Coverage, Status
from handlers.core.redaction import redact
from handlers.operate.errors import OperateError
from handlers.operate.hints import as_typed
from handlers.operate.pack.sealed import sealed_log
from handlers.operate.planning import written_exceptions
from handlers.operate.progress import counting
from handlers.operate.verifying import compared_by

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from handlers.core.evidence.pack.sealed import Proofs
    from handlers.operate.context import Connection, Context
    from handlers.operate.pack.sealed import Verify
    from handlers.operate.verifying import Compared
    from schemas.compiled_guardrails import CompiledGuardrails
    from schemas.ids import PolicyId, Sha256
    from schemas.pack import Pack, Period
    from schemas.snapshot import Snapshot

#: Parallel reads of objects, how many each makes, and how many objects are in memory at a time.
_PARALLEL: Final = 8
_EACH: Final = 8
_PORTION: Final = _PARALLEL * _EACH


@dataclass(frozen=True)
class Request:
    """The options of `evidence`."""

    folder: pathlib.Path
    period: Period
    reveals: bool
    #: How to verify the log.
    verify: Verify
    #: The stage's document, which says who owns the exceptions, if it is what was in force.
    document: pathlib.Path


@dataclass(frozen=True)
class BucketObjects:
    """The evidence bucket, of which several objects are read at a time."""

    context: Context
    pool: ThreadPoolExecutor

    def under(self, prefix: str) -> Sequence[str]:
        """Return the keys under a prefix, in order; raise JoinguardError if they cannot be listed."""
        return self.context.patiently(partial(self.context.archive.under, prefix))

    def read_all(self, keys: Sequence[str]) -> Iterator[tuple[str, bytes | JoinguardError]]:
        """Yield objects in the order of their keys, each with its bytes or why it cannot be read."""
        for begin in range(0, len(keys), _PORTION):
            portion = keys[begin : begin + _PORTION]
            for read in self.pool.map(self._read, [portion[at : at + _EACH] for at in range(0, len(portion), _EACH)]):
                yield from read

    def _read(self, keys: Sequence[str]) -> list[tuple[str, bytes | JoinguardError]]:
        return [(each, self._read_one(each)) for each in keys]

    def _read_one(self, key: str) -> bytes | JoinguardError:
        try:
            return self.context.patiently(partial(self.context.archive.read, key, limit=MAX_BYTES))
        except JoinguardError as error:
            return error


def gather(request: Request, connection: Connection) -> tuple[Pack, Proofs | None]:
    """Verify the log, read the records of the period, and return the pack's data, and what proves that it was sealed.

    Raises OperateError if account ids are wanted and the organization cannot be read.
    """
    context = connection()
    compared = compared_by(context, connection)
    log = sealed_log(request.verify, request.period, context, compared)
    organization, problem = _organization(compared)
    if request.reveals and organization is None:
        raise OperateError(
            f"--reveal names accounts by their ids, which only AWS Organizations confirms, and it cannot be read "
            f"({problem}). Use credentials that can list the organization's accounts, or leave --reveal out"
        )
    order = Order(
        period=request.period,
        now=context.clock.now(),
        organization_id=context.requirements.organization_id,
        made_by=version("joinguard"),
        reveals=request.reveals,
        # Without an end: evidence of the period can be stored after it.
        verify_command=as_typed(f"`joinguard verify --from {request.period.first}`").strip("`"),
    )
    with counting("reading") as show, ThreadPoolExecutor(_PARALLEL) as pool:
        sources = Sources(
            objects=BucketObjects(context, pool),
            rows=context.outcomes.scan(None),
            pseudonyms=context.pseudonyms,
            read_exceptions=partial(_exceptions, context, request.document, min(order.now, end(order.period))),
            log=log,
            organization=organization,
            organization_problem=problem,
        )
        return make_pack(order, sources, show)


def _organization(compared: Compared) -> tuple[OrganizationNow | None, str | None]:
    """Return the accounts of the organization with what they carry, or why they cannot be read."""
    try:
        coverage, snapshot = compared()
    except JoinguardError as error:
        return None, error.fault.code
    except OperateError as error:
        return None, redact(str(error))
    wanted = {each.id for each in coverage.policies}
    names = {each.id: each.name for each in snapshot.policies if each.id in wanted}
    return OrganizationNow(tuple(_members(coverage, snapshot)), names), None


def _members(coverage: Coverage, snapshot: Snapshot) -> Iterator[KnownMember]:
    required: dict[str, list[PolicyId]] = {}
    carried: dict[str, list[PolicyId]] = {}
    for line in coverage.lines:
        if line.status in {Status.CARRIED, Status.MISSING}:
            required.setdefault(line.account_id, []).append(line.policy_id)
        if line.status is Status.CARRIED:
            carried.setdefault(line.account_id, []).append(line.policy_id)
    for each in snapshot.accounts:
        if each.id != snapshot.management_account_id:
            yield KnownMember(
                account_id=each.id,
                joined_at=each.joined_at,
                is_active=each.state == ACTIVE,
                required=tuple(required.get(each.id, ())),
                carried=tuple(carried.get(each.id, ())),
                is_clear=each.id not in coverage.unclear,
            )


def _exceptions(context: Context, document: pathlib.Path, at: datetime, sha256: Sha256) -> list[KnownException]:
    written = written_exceptions(document, sha256, at)
    found = []
    for each in _compiled(context, sha256).exceptions:
        said = written.get(each.id)
        found.append(
            KnownException(
                id=each.id,
                policies=each.policies,
                account_ids=each.accounts,
                starts=each.starts,
                expires=each.expires,
                owner=said.owner if said else None,
                approved_by=said.approved_by if said else None,
                reason=said.reason if said else None,
            )
        )
    return found


def _compiled(context: Context, sha256: Sha256) -> CompiledGuardrails:
    """Return the guardrails with a hash; raise JoinguardError if they cannot be read."""
    in_force = context.requirements.guardrails
    if in_force.sha256 == sha256:
        return in_force.document
    if context.artifacts is None:
        raise PermanentError(fault("GUARDRAILS_UNREAD", "the stack is of an earlier version"))
    return read_guardrails(context.artifacts, GUARDRAILS_KEY.format(sha256)).document
