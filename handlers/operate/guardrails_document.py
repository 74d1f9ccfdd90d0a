"""Read guardrails documents (infra/guardrails/STAGE.yaml), and report every mistake at once, with its line."""

from __future__ import annotations

import difflib
import pathlib
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import BaseModel, ValidationError

from handlers.core.guardrails.compile import Path, Problem, nearest
from handlers.core.guardrails.examples import check_examples_alone
from handlers.operate.errors import OperateError
from handlers.operate.files import read_file
from handlers.operate.yaml_lines import Node, NoYamlError, parse
from schemas.guardrails import (
    Document,
    Example,
    ExampleAccount,
    InvalidError,
    Limits,
    PolicyEntry,
    PolicyException,
    Rule,
    Selector,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from pydantic_core import ErrorDetails

#: Far more than a document of thousands of exceptions needs.
_MAX_BYTES: Final = 1024 * 1024

#: The model of the mappings under a key of the document.
_MODELS: Final[dict[str, type[BaseModel]]] = {
    "policies": PolicyEntry,
    "rules": Rule,
    "match": Selector,
    "exclude": Selector,
    "exceptions": PolicyException,
    "limits": Limits,
    "examples": Example,
    "account": ExampleAccount,
}
#: What a value must be, by its key.
_RULES: Final[dict[str, str]] = {
    "version": "must be 1",
    "account": "must be an account id: 12 digits in quotes",
    "accounts": "must be account ids: a list of 12 digits each, in quotes",
    "approved_by": "must be an e-mail address: of who approved it",
    "attach": "must be a list of policies, with at least one",
    "carries": "must be a list of policies",
    "email": "must be an e-mail address",
    "email_domain": "must be a domain, such as example.com or *.example.com",
    "exclude": "must be a list of selectors, with at least one; without exclusions, leave it out",
    "joined": "must be INVITED or CREATED",
    "match": "must be all, or a list of selectors, such as [{ou: /Workloads/**}]",
    "ou": "must be a path from the root, such as /Workloads/*/Prod/**, or the id of an OU or root",
    "owner": "must be an e-mail address: of who answers for it",
    "policies": "must be a list of policies, with at least one",
    "limits": "must be a mapping, such as {removals: 25}",
    "removals": "must be a whole number from 0 to 5000, without quotes",
    "tags": "must map a tag's key to its values, such as {environment: [prod]}",
    "when_no_longer": "must be keep or remove",
    "allow_empty": "must be true or false",
    "rules": "must be a list of rules, with at least one",
}
_ID_RULE: Final = "must be letters, digits, dots, hyphens and underscores, beginning with a letter or a digit, up to 64"
#: What to add, by the key that is missing.
_ADD: Final[dict[str, str]] = {
    "owner": "owner: the e-mail address of who answers for it",
    "approved_by": "approved_by: the e-mail address of who approved it",
    "reason": "reason: why, or a ticket",
    "expires": "expires: its last day, such as 2027-01-31",
    "match": "match: all, or a list of selectors",
    "version": "version: 1",
}


_KINDS: Final = {"rules": "rule", "exceptions": "exception", "policies": "policy", "examples": "example"}


class Mistake(NamedTuple):
    """One mistake in a document, in one line."""

    file: str
    line: int
    #: The rule, exception, policy or example; empty for the document itself.
    where: str
    message: str

    def __str__(self) -> str:
        """Return the line for a person or an editor."""
        where = f"{self.where}: " if self.where else ""
        return f"{self.file}:{self.line}: {where}{self.message}"


class GuardrailsError(OperateError):
    """A document has mistakes, all of which the message names."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes))
        super().__init__("\n".join(map(str, self.mistakes)))


@dataclass(frozen=True)
class Source:
    """The text of a document, to say where something is in it."""

    file: str
    root: Node

    def mistake(self, problem: Problem) -> Mistake:
        """Return a problem with its line and what it belongs to."""
        # One value that stands for a list has no position in the text.
        path = self.root.resolved(problem.path)
        return Mistake(self.file, self.root.line_of(path), self._where(path), problem.message)

    def at_line(self, line: int, message: str) -> Mistake:
        """Return a mistake of which only the line is known."""
        begins = [(self.root.line_of(path), path) for path in self._items()]
        latest = max((at for at, _ in begins if at <= line), default=0)
        last = [path for at, path in begins if at == latest]
        return Mistake(self.file, line, self._where(last[0] if len(last) == 1 else ()), message)

    def _items(self) -> Iterator[Path]:
        for key, node in self.root.parts.items():
            yield (key,)
            yield from ((key, part) for part in node.parts)

    def _where(self, path: Path) -> str:
        kind = _KINDS.get(str(path[0])) if path else None
        # A mapping that should be a list has no numbers.
        if not kind or len(path) == 1 or not isinstance(path[1], int):
            return ""
        item = self.root.plain[path[0]][path[1]]
        named = (item.get("id") or item.get("name")) if isinstance(item, dict) else item
        return f"{kind} {named if isinstance(named, str) and kind != 'example' else path[1] + 1}"


@dataclass(frozen=True)
class Loaded:
    """A document without mistakes."""

    document: Document
    source: Source
    #: What should be changed, but is no mistake.
    notes: tuple[Mistake, ...]


def load(path: pathlib.Path, at: datetime) -> Loaded:
    """Read a document; raise GuardrailsError with all of its mistakes, or OperateError if it cannot be read.

    `at` decides which exceptions have ended.
    """
    try:
        content = read_file(path)
    except OSError as error:
        raise OperateError(
            f"cannot read the guardrails document {shown(path)}: {error.strerror}. Write it, as in "
            "infra/guardrails/example.yaml, or name another file"
        ) from error
    return read(content, shown(path), at)


def shown(path: pathlib.Path) -> str:
    """Return a path as messages name it: from the working folder, if the file is below it."""
    here = pathlib.Path.cwd()
    return (path.relative_to(here) if path.is_relative_to(here) else path).as_posix()


def read(content: bytes, file: str, at: datetime) -> Loaded:
    """Read the content of a document; raise GuardrailsError with all of its mistakes."""
    if len(content) > _MAX_BYTES:
        raise GuardrailsError([Mistake(file, 1, "", f"is larger than {_MAX_BYTES:,} bytes; split the installation")])
    try:
        root, in_yaml = parse(content)
    except NoYamlError as error:
        raise GuardrailsError([Mistake(file, error.line, "", error.message)]) from error
    source = Source(file, root)
    mistakes = [source.at_line(each.line, each.message) for each in in_yaml]
    document, problems = _validated(root)
    problems += _references(root.plain)
    # A rule with a mistake may be the one that attaches the policy.
    if not any(each.path[:1] == ("rules",) for each in problems):
        problems += _unused(root.plain)
    # YAML reads these values differently than they look, so what it makes of them is not worth a mistake.
    mistakes += [source.mistake(each) for each in problems if not root.at(each.path).mistaken]
    if document and not mistakes:
        mistakes += map(source.mistake, check_examples_alone(document))
    if mistakes or not document:
        raise GuardrailsError(list(dict.fromkeys(mistakes)))
    return Loaded(document, source, tuple(map(source.mistake, _ended(document, at))))


def _validated(root: Node) -> tuple[Document | None, list[Problem]]:
    try:
        return Document.model_validate(root.plain), []
    except ValidationError as error:
        # A list whose items are all invalid is "too short" too.
        errors = [each for each in error.errors(include_url=False) if each["type"] != "too_short" or not each["input"]]
        return None, [_problem(each, root) for each in errors]


def _ended(document: Document, at: datetime) -> Iterator[Problem]:
    today = at.astimezone(UTC).date()
    for number, each in enumerate(document.exceptions):
        if each.expires < today:
            yield Problem(
                ("exceptions", number),
                f"ended on {each.expires}; run `joinguard enforce` for its accounts, then take it out",
            )


def _problem(error: ErrorDetails, root: Node) -> Problem:
    """Say what is wrong with a value, by pydantic's type of error, in the words of the document."""
    path = root.resolved(error["loc"])
    key = next((str(each) for each in reversed(path) if isinstance(each, str)), "document")
    value, kind = error["input"], error["type"]
    if kind == "extra_forbidden":
        return Problem(path, _unknown_key(path))
    if kind == "missing":
        name = str(error["loc"][-1])
        return Problem(path, f"{name} is missing; add {_ADD.get(name, name)}")
    if (
        kind in {"string_type", "literal_error", "tuple_type"}
        and isinstance(value, (int, float, date))
        and key != "version"
    ):
        what = "a date" if isinstance(value, date) else "not text"
        return Problem(path, f"{key}: {root.at(path).text} without quotes is {what} in YAML; put it in quotes")
    if isinstance(invalid := error.get("ctx", {}).get("error"), InvalidError):
        subject = f"{key} " if invalid.kind in {"repeated", "day", "ou"} else ""
        return Problem(path, f"{subject}{invalid}; {_NEXT[invalid.kind]}")
    return Problem(path, f"{key} {_rule(key, path)}{_got(value)}{_similar(value, error)}")


_NEXT: Final[dict[str, str]] = {
    "repeated": "keep one",
    "one": "write name or id",
    "selects_all": "write match: all, or add a key",
    "starts_late": "correct starts or expires",
    "day": "write year, month and day",
    "ou": "write * for one level or ** for any number",
}


def _rule(key: str, path: Path) -> str:
    if key == "id":
        rules = {"policies": "must be a policy id, such as p-examplepolicy1", "examples": _RULES["account"]}
        return rules.get(str(path[0]), _ID_RULE)
    if "tags" in path[:-1]:
        return "must be text or a list of texts, with at least one" if "examples" not in path else "must be text"
    if "policies_per_account" in path:
        return "must be a policy type of AWS Organizations with a number from 1 to 100"
    if path and path[0] == "policies" and key in {"policies", "type", "name"}:
        return {"type": "must be a policy type of AWS Organizations"}.get(key, _RULES["policies"])
    return _RULES.get(key, "is not as it must be")


def _got(value: Any) -> str:
    if isinstance(value, (str, int, float)):
        return f", not {value}"
    return ", not empty" if value in (None, [], {}) else ""


def _similar(value: Any, error: ErrorDetails) -> str:
    """Return the nearest of the allowed words, which pydantic lists in quotes."""
    if error["type"] != "literal_error" or not isinstance(value, str):
        return ""
    allowed = error.get("ctx", {}).get("expected", "").split("'")[1::2]
    return nearest(value, allowed) or nearest(value.upper(), allowed)


def _unknown_key(path: Path) -> str:
    """Return that a key is unknown, and the nearest one of those that are known there."""
    *above, key = path
    parent = next((each for each in reversed(above) if isinstance(each, str) and each in _MODELS), None)
    known = list((_MODELS[parent] if parent else Document).model_fields)
    close = difflib.get_close_matches(str(key), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return f"unknown key {key}; {hint}"


def _references(plain: Any) -> Iterator[Problem]:
    """Yield what one part of a document says wrongly about another, whatever else is wrong with it."""
    labels = [_label(each) for each in _list(plain, "policies")]
    names = [name for name in labels if name]
    for number, name in enumerate(labels):
        if name and name in labels[:number]:
            yield Problem(("policies", number), f"{name} is in the list more than once; keep the more important one")
    for key in ("rules", "exceptions"):
        yield from _same_ids(key, plain)
    for path, name in _used(plain):
        if name not in names:
            yield Problem(path, f"unknown policy {name}{nearest(name, names) or '; add it to policies'}")


def _unused(plain: Any) -> Iterator[Problem]:
    used = {name for path, name in _used(plain) if path[0] == "rules"}
    for number, each in enumerate(_list(plain, "policies")):
        if (name := _label(each)) and name not in used:
            yield Problem(("policies", number), "no rule attaches it; attach it in a rule, or take it out")


def _same_ids(key: str, plain: Any) -> Iterator[Problem]:
    ids = [each.get("id") if isinstance(each, dict) else None for each in _list(plain, key)]
    repeated = {each for each, count in Counter(each for each in ids if isinstance(each, str)).items() if count > 1}
    for number, each in enumerate(ids):
        if each in repeated and each in ids[:number]:
            first = ids.index(each) + 1
            yield Problem(
                (key, number, "id"), f"has the same id as {key[:-1]} {first} of the list; give it another one"
            )


def _used(plain: Any) -> Iterator[tuple[Path, str]]:
    """Yield each mention of a policy outside of `policies`."""
    for key, field in (("rules", "attach"), ("exceptions", "policies"), ("examples", "carries")):
        for number, each in enumerate(_list(plain, key)):
            for position, name in enumerate(_list(each, field)):
                if isinstance(name, str):
                    yield (key, number, field, position), name


def _list(plain: Any, key: str) -> list[Any]:
    value = plain.get(key) if isinstance(plain, dict) else None
    return value if isinstance(value, list) else []


def _label(entry: Any) -> str | None:
    label = (entry.get("name") or entry.get("id")) if isinstance(entry, dict) else entry
    return label if isinstance(label, str) else None
