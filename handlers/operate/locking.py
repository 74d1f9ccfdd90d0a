"""What `lock` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.core.guardrails.compile import Problem
from handlers.core.guardrails.lock import LockCheck, check_lock
from handlers.core.guardrails.names import read_names
from handlers.core.guardrails.policy_documents import review
from handlers.operate.files import writing_to
from handlers.operate.guardrails_document import GuardrailsError, load, shown
from handlers.operate.guardrails_files import lock_path, read_lock, rendered
from handlers.operate.hints import as_typed
from handlers.operate.output import print_json, stderr, stdout

if TYPE_CHECKING:
    import pathlib

    from handlers.core.guardrails.compile import Organization
    from handlers.operate.context import OrganizationContext
    from handlers.operate.guardrails_document import Loaded, Mistake


def run(context: OrganizationContext, document: pathlib.Path, *, only_check: bool, as_json: bool) -> int:
    """Compare a document's lock file with the organization, and write it unless it is only checked."""
    loaded = load(document, context.clock.now())
    path = lock_path(document)
    before = read_lock(path)
    with stderr.status("reading the organization's names"):
        organization = read_names(context.reader, loaded.document)
    check = check_lock(loaded.document, before, organization)
    reviewed = _reviewed(context, loaded, organization)
    if check.problems and not as_json:
        raise GuardrailsError([loaded.source.mistake(each) for each in check.problems])
    writes = bool(check.lock and check.changes and not check.problems and not only_check)
    if check.lock and writes:
        with writing_to(path):
            path.write_text(rendered(check.lock), encoding="utf-8")
    changes = [loaded.source.mistake(each) for each in check.changes]
    if as_json:
        problems = [loaded.source.mistake(each) for each in check.problems]
        fields = _fields(check, problems, changes) | {"lock": path.as_posix(), "written": writes}
        print_json(fields | {"findings": [each._asdict() for each in reviewed]})
    else:
        for each in (*loaded.notes, *changes):
            stdout.print(str(each), soft_wrap=True)
        for each in reviewed:
            stderr.print(f"note: {each}", style="yellow", soft_wrap=True)
        stderr.print(_summary(shown(path), check, is_new=before is None, writes=writes))
    return 1 if check.problems or (only_check and check.changes) else 0


def _reviewed(context: OrganizationContext, loaded: Loaded, organization: Organization) -> list[Mistake]:
    """Return what Access Analyzer says about the policies of a document, and why it says nothing about some."""
    if context.validator is None:
        return []
    entries = {each.label: number for number, each in enumerate(loaded.document.policies)}
    named = [
        (label, each.type, each.content)
        for each in organization.policies
        for label in (each.id, each.name)
        if label in entries and each.content is not None
    ]
    with stderr.status("asking Access Analyzer about the policies"):
        found = review(named, context.validator)
    notes = [loaded.source.mistake(Problem(("policies", entries[label]), text)) for label, text in found.findings]
    if found.unchecked:
        why = f"Access Analyzer could not be asked ({found.unchecked}); allow access-analyzer:ValidatePolicy"
        notes.append(loaded.source.mistake(Problem(("policies",), why)))
    return notes


def _summary(path: str, check: LockCheck, *, is_new: bool, writes: bool) -> str:
    if not check.changes:
        return f"{path} is up to date"
    if not writes:
        return as_typed(f"{path} is stale; run `joinguard lock`, review what changed, commit it")
    return f"{path} is {'new' if is_new else 'written again'}; review and commit it"


def _fields(check: LockCheck, problems: list[Mistake], changes: list[Mistake]) -> dict[str, object]:
    return {
        "stale": bool(check.changes),
        "compiled": check.lock.compiled if check.lock else None,
        "problems": [each._asdict() for each in problems],
        "changes": [each._asdict() for each in changes],
    }
