"""What `plan` and `snapshot` do: read the organization or a recorded one, and plan a document against it."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from handlers.core.guardrails.compile import Organization, Problem, StaleLockError, compiled, ou_patterns
from handlers.core.guardrails.evaluate import Guardrails
from handlers.core.guardrails.facts import Fact, Facts
from handlers.core.guardrails.lock import LockCheck, check_lock
from handlers.core.guardrails.names import policy_types
from handlers.core.guardrails.plan import Plan, make_plan
from handlers.core.guardrails.scope import Scope
from handlers.core.guardrails.snapshot import (
    Progress,
    Wanted,
    facts_of,
    organization_of,
    take_snapshot,
    with_attached,
    with_tags,
)
from handlers.operate.errors import NotInstalledError, OperateError
from handlers.operate.files import read_file, whole_file
from handlers.operate.guardrails_document import GuardrailsError, Loaded, Mistake, load, shown
from handlers.operate.guardrails_files import lock_path, read_lock
from handlers.operate.hints import as_typed
from handlers.operate.output import stderr
from handlers.operate.plan_output import Format, Labels, Report, print_report
from handlers.operate.progress import reading
from schemas.compiled_guardrails import SCP, CompiledGuardrails
from schemas.guardrails import Lock, PolicyException
from schemas.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from handlers.operate.context import Connection, OrganizationContext
    from schemas.compiled_guardrails import PolicyType
    from schemas.ids import Sha256

#: What --before takes for an organization without guardrails.
NONE: Final = "none"
#: Attachments a second, if no installation says so: what AWS allows.
_PER_SECOND: Final = 2.0
_CHANGES: Final = 2
_NOBODY: Final = "000000000000"
_RECORD: Final = "Record one: `joinguard snapshot FILE`"
_GUARDRAILS: Final = "Name compiled guardrails (JSON), or a document (.yaml) with its lock file"


@dataclass(frozen=True)
class Request:
    """The options of `plan`."""

    document: pathlib.Path
    #: A recorded organization; None to read it.
    snapshot: pathlib.Path | None
    #: `none`, or a file with the guardrails in force; None to ask the installation.
    before: str | None
    #: The accounts to attach to; None to ask the installation.
    scope: Scope | None
    #: Whether policies are removed; None to ask the installation.
    removes: bool | None
    reads_places: bool
    form: Format
    reveals: bool
    detailed_exitcode: bool

    @classmethod
    def of(  # noqa: PLR0913 - the options of the command
        cls,
        *,
        document: pathlib.Path,
        snapshot: pathlib.Path | None,
        before: str | None,
        attach_to: Scope | None,
        removes: bool | None,
        places: bool,
        markdown: bool,
        as_json: bool,
        reveal: bool,
        detailed_exitcode: bool,
    ) -> Request:
        """Take the options as click passes them."""
        form = Format.MARKDOWN if markdown else Format.JSON if as_json else Format.TABLE
        return cls(document, snapshot, before, attach_to, removes, places, form, reveal, detailed_exitcode)


@dataclass(frozen=True)
class _Resolved:
    """A document whose names were found."""

    lock: Lock
    guardrails: CompiledGuardrails
    check: LockCheck


@dataclass(frozen=True)
class InForce:
    """The guardrails in force, and what of an installation a plan depends on."""

    guardrails: CompiledGuardrails | None
    per_second: float = _PER_SECOND
    scope: Scope = field(default_factory=Scope)
    #: Whether the installation removes policies; None if no installation was asked.
    removes: bool | None = None

    def plan(self, after: CompiledGuardrails, snapshot: Snapshot, at: datetime) -> Plan:
        """Plan the change to other guardrails."""
        return make_plan(self.guardrails, after, snapshot, at, self.per_second, scope=self.scope)


def plan(request: Request, connection: Connection) -> int:
    """Plan a document, and print the plan; return the exit status."""
    now = connection.now()
    in_force = _in_force(request, now, connection)
    if request.snapshot:
        report = recorded_report(request.document, in_force, read_snapshot(request.snapshot), now)
    else:
        report = live_report(request.document, in_force, connection.organization(), reads_places=request.reads_places)
    print_report(report, request.form, reveals=request.reveals)
    if report.problems:
        return 1
    done = report.plan.is_empty and report.plan.is_decided
    return _CHANGES if request.detailed_exitcode and not done else 0


def live_report(
    document: pathlib.Path, in_force: InForce, context: OrganizationContext, *, reads_places: bool = False
) -> Report:
    """Plan a document against the organization as it is now.

    Raises GuardrailsError if the document has mistakes or names what is not there, before the long part of the reading.
    """
    now = context.clock.now()
    loaded, lock = load(document, now), read_lock(lock_path(document))
    with reading() as progress:
        online = _Online(loaded, lock, in_force, context, progress)
        resolved, made, snapshot = online.plan(now, reads_places=reads_places)
    return _report(document, loaded, resolved, made, snapshot, removes=in_force.removes, reads_places=reads_places)


def recorded_report(document: pathlib.Path, in_force: InForce, snapshot: Snapshot, now: datetime) -> Report:
    """Plan a document against a recorded organization; raise GuardrailsError as above."""
    loaded, lock = load(document, now), read_lock(lock_path(document))
    if missing := set(policy_types(loaded.document)).difference(snapshot.read_types):
        raise OperateError(f"the recording has no policies of {', '.join(sorted(missing))}. {_RECORD}")
    resolved = _resolved(loaded, lock, organization_of(snapshot))
    made = in_force.plan(resolved.guardrails, snapshot, now)
    return _report(document, loaded, resolved, made, snapshot, removes=in_force.removes)


def _report(  # noqa: PLR0913 - the parts of a report
    document: pathlib.Path,
    loaded: Loaded,
    resolved: _Resolved,
    made: Plan,
    snapshot: Snapshot,
    *,
    removes: bool | None,
    reads_places: bool = False,
) -> Report:
    return Report(
        made,
        Labels.of(resolved.lock, snapshot),
        problems=tuple(map(loaded.source.mistake, (*resolved.check.problems, *_problems(loaded, made)))),
        notes=(*loaded.notes, *_lock_notes(document, loaded, resolved.check)),
        removes=removes,
        reads_places=reads_places,
    )


def record(context: OrganizationContext, path: pathlib.Path, document: pathlib.Path, *, force: bool) -> Snapshot:
    """Read the whole organization, and write it to a file that only its owner can read.

    Raises OperateError if the file is there, or cannot be written; then nothing is read.
    """
    if path.exists() and not force:
        raise OperateError(f"{shown(path)} is already there. Choose another name, or add --force")
    types = policy_types(load(document, context.clock.now()).document) if document.exists() else [SCP]
    # The file comes first, because reading takes minutes.
    with whole_file(path) as file:
        with reading() as progress:
            snapshot = take_snapshot(context.reader, Wanted(types), context.clock, progress)
            in_bulk = context.account_id == snapshot.management_account_id
            snapshot = with_tags(snapshot, context.reader, lambda _account: True, progress, in_bulk=in_bulk)
        file.write(snapshot.model_dump_json(exclude_none=True))
    return snapshot


def read_snapshot(path: pathlib.Path) -> Snapshot:
    """Read a recorded organization; raise OperateError if the file is not one."""
    try:
        return Snapshot.model_validate_json(read_file(path))
    except OSError as error:
        raise OperateError(f"cannot read {shown(path)}: {error.strerror}. {_RECORD}") from error
    except ValidationError as error:
        raise OperateError(f"{shown(path)} is not a recorded organization. {_RECORD}") from error


def read_guardrails(path: pathlib.Path, at: datetime) -> CompiledGuardrails:
    """Read compiled guardrails, or a document with its lock file; raise OperateError if the file is neither."""
    if path.suffix in {".yaml", ".yml"}:
        lock = read_lock(lock_path(path))
        if not lock:
            raise OperateError(f"{shown(path)} has no lock file. Run `joinguard lock {shown(path)}`")
        try:
            return compiled(load(path, at).document, lock)
        except StaleLockError as error:
            raise OperateError(f"{shown(path)}: {error}") from error
    try:
        return CompiledGuardrails.model_validate_json(read_file(path))
    except OSError as error:
        raise OperateError(f"cannot read the guardrails {shown(path)}: {error.strerror}. {_GUARDRAILS}") from error
    except ValidationError as error:
        raise OperateError(f"{shown(path)} holds no compiled guardrails. {_GUARDRAILS}") from error


def exception_owners(path: pathlib.Path, in_force: Sha256, at: datetime) -> Mapping[str, str]:
    """Return who owns the exceptions, by their ids, if a document is what is in force; otherwise nothing."""
    return {name: each.owner for name, each in written_exceptions(path, in_force, at).items()}


def written_exceptions(path: pathlib.Path, compiled_as: Sha256, at: datetime) -> Mapping[str, PolicyException]:
    """Return the exceptions as people wrote them, by their ids, if a document compiles to a hash; otherwise nothing.

    The compiled guardrails hold no person's address.
    """
    try:
        lock = read_lock(lock_path(path))
        document = load(path, at).document if lock and lock.compiled == compiled_as else None
    except OperateError:
        return {}
    return {each.id: each for each in document.exceptions} if document else {}


def _in_force(request: Request, at: datetime, connection: Connection) -> InForce:
    found = _compared_with(request, at, connection)
    return replace(
        found,
        scope=request.scope or found.scope,
        removes=found.removes if request.removes is None else request.removes,
    )


def _compared_with(request: Request, at: datetime, connection: Connection) -> InForce:
    if request.before == NONE or (request.snapshot and not request.before):
        return InForce(None)
    if request.before:
        return InForce(read_guardrails(pathlib.Path(request.before), at))
    try:
        installation = connection()
    except NotInstalledError as error:
        stderr.print(
            f"nothing is installed yet, so the plan compares with no guardrails, as with --before none ({error})",
            style="yellow",
        )
        return InForce(None)
    # Guardrails that could not be read look empty, and raise the reason when they are asked.
    requirements = installation.requirements
    requirements.guardrails.evaluate(Facts(_NOBODY), at)
    return InForce(
        requirements.guardrails.document,
        installation.attachments_per_second,
        requirements.scope,
        removes=requirements.removes,
    )


class _Online:
    """A plan against the organization as it is."""

    def __init__(
        self, loaded: Loaded, lock: Lock | None, in_force: InForce, context: OrganizationContext, progress: Progress
    ) -> None:
        self._loaded = loaded
        self._lock = lock
        self._in_force = in_force
        self._context = context
        self._progress = progress

    def plan(self, now: datetime, *, reads_places: bool) -> tuple[_Resolved, Plan, Snapshot]:
        """Read what the guardrails need, and plan."""
        context, progress = self._context, self._progress
        snapshot = take_snapshot(context.reader, self._wanted(), context.clock, progress, self._check)
        resolved = _resolved(self._loaded, self._lock, organization_of(snapshot))
        after = resolved.guardrails
        guardrails = [Guardrails(each) for each in (after, self._in_force.guardrails) if each]
        if any(Fact.TAGS in each.facts_needed for each in guardrails):
            snapshot = with_tags(
                snapshot,
                context.reader,
                lambda account: any(Fact.TAGS in each.evaluate(facts_of(account), now).needs for each in guardrails),
                progress,
                in_bulk=context.account_id == snapshot.management_account_id,
            )
        made = self._in_force.plan(after, snapshot, now)
        if reads_places:
            lacking = (account for each in made.policies for account in (*each.get, *each.would_get, *each.no_place))
            snapshot = with_attached(snapshot, context.reader, set(lacking), progress)
            made = self._in_force.plan(after, snapshot, now)
        return resolved, made, snapshot

    def _check(self, organization: Organization) -> None:
        _resolved(self._loaded, self._lock, organization)

    def _wanted(self) -> Wanted:
        document, before = self._loaded.document, self._in_force.guardrails
        types: set[PolicyType] = set(policy_types(document))
        labels = {each.label for each in document.policies}
        by_ou = any(True for _ in ou_patterns(document))
        if before:
            types |= {each.type for each in before.policies}
            labels |= {each.id for each in before.policies}
            by_ou = by_ou or Fact.OUS in Guardrails(before).facts_needed
        return Wanted(sorted(types), labels, ous=by_ou)


def _resolved(loaded: Loaded, lock: Lock | None, organization: Organization) -> _Resolved:
    """Look up a document's names; raise GuardrailsError with all that are not found."""
    check = check_lock(loaded.document, lock, organization)
    if not check.lock:
        raise GuardrailsError([loaded.source.mistake(each) for each in check.problems])
    return _Resolved(check.lock, compiled(loaded.document, check.lock), check)


def _problems(loaded: Loaded, made: Plan) -> list[Problem]:
    """Return what has to be corrected before the document is deployed."""
    problems = []
    numbers = {each.id: number for number, each in enumerate(loaded.document.rules)}
    for rule in made.rules:
        number = numbers[rule.id]
        written = loaded.document.rules[number]
        # A new organization has no accounts yet.
        may_be_empty = written.allow_empty or written.match == "all"
        if not rule.selects and not rule.undecided and not may_be_empty:
            message = "selects no account; correct match, or add allow_empty: true"
            problems.append(Problem(("rules", number), message))
    for position, policy in enumerate(made.policies):
        if policy.in_guardrails and not policy.is_read:
            message = (
                "the accounts that it is attached to could not be read; allow organizations:ListTargetsForPolicy, or "
                "record it again"
            )
            problems.append(Problem(("policies", position), message))
        if policy.in_guardrails and policy.type in made.disabled_types:
            message = f"the type {policy.type} is not enabled; run aws organizations enable-policy-type"
            problems.append(Problem(("policies", position), message))
    return problems


def _lock_notes(document: pathlib.Path, loaded: Loaded, check: LockCheck) -> list[Mistake]:
    if not check.changes:
        return []
    changes = [loaded.source.mistake(each) for each in check.changes]
    return [*changes, Mistake(shown(lock_path(document)), 1, "", as_typed("is not up to date; run `joinguard lock`"))]
