"""Parse YAML with the line of each value, and refuse what readers of YAML read differently."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_DEPTH: Final = 20
_CORE: Final = "tag:yaml.org,2002:"
#: The tag of the empty text that takes the place of an alias, which is a mistake.
_ALIAS: Final = "alias"
#: What YAML 1.2 reads as other than text, if it is not in quotes (https://yaml.org/spec/1.2.2/#103-core-schema).
_YAML_1_2: Final[dict[str, re.Pattern[str]]] = {
    "null": re.compile(r"null|Null|NULL|~|"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    "float": re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
}
_WORDS: Final = {"bool": "a yes or no", "int": "a number", "float": "a number", "null": "empty", "str": "text"}


class Mistake(NamedTuple):
    """A mistake in the YAML, with its line."""

    line: int
    message: str


class NoYamlError(Exception):
    """Text that is not YAML, or that has more than one document."""

    def __init__(self, line: int, message: str) -> None:
        self.line = line
        self.message = message
        super().__init__(f"line {line}: {message}")


@dataclass
class Node:
    """A value with the line on which it begins."""

    line: int
    #: The value as Python has it: dicts, lists, strings, numbers, booleans, dates, None.
    plain: Any = None
    #: A scalar as it is written.
    text: str = ""
    #: Whether a mistake of this very scalar was noted.
    mistaken: bool = False
    parts: dict[str | int, Node] = field(default_factory=dict)
    #: The lines of a mapping's keys.
    keys: dict[str, int] = field(default_factory=dict)

    def resolved(self, path: Sequence[str | int]) -> tuple[str | int, ...]:
        """Return a path without the parts that are not in the text."""
        node, found = self, []
        for part in path:
            if part in node.parts:
                node = node.parts[part]
                found.append(part)
        return tuple(found)

    def at(self, path: Sequence[str | int]) -> Node:
        """Return the value at a path that is in the text."""
        node = self
        for part in path:
            node = node.parts[part]
        return node

    def line_of(self, path: Sequence[str | int]) -> int:
        """Return the line of a value: of its key, or of the item of a list."""
        node, line = self, self.line
        for part in path:
            line = node.keys.get(str(part), node.parts[part].line)
            node = node.parts[part]
        return line


class _Composer(yaml.SafeLoader):
    """Composes nodes without aliases and with a limit on depth."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.mistakes: list[Mistake] = []
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # not in the stubs
        line = event.start_mark.line + 1
        if getattr(event, "anchor", None):
            kind = "alias" if isinstance(event, yaml.AliasEvent) else "anchor"
            self.mistakes.append(Mistake(line, f"has the {kind} {event.anchor}; write the values where they are used"))
        if isinstance(event, yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]  # as above
            begin: Any = event.start_mark
            return yaml.ScalarNode(_ALIAS, "", begin, begin, style='"')
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise NoYamlError(line, f"is nested deeper than {_MAX_DEPTH} levels; no part of a document is")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def parse(content: bytes) -> tuple[Node, list[Mistake]]:
    """Return a document and its mistakes; raise NoYamlError if it is not one YAML document."""
    try:
        text = content.decode()
        loader = _Composer(text)
        node = loader.get_single_node()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NoYamlError(line, "is not UTF-8; save the file as UTF-8") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise NoYamlError(line, f"has the control character {error.character:#04x}; delete it") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        next_step = "a document is one mapping" if "single document" in str(error.context) else "correct the YAML"
        raise NoYamlError(mark.line + 1 if mark else 1, f"is not valid YAML: {error.problem}; {next_step}") from error
    if not isinstance(node, yaml.MappingNode):
        raise NoYamlError(1, "must be a mapping; begin with version: 1")
    return _node(node, loader), loader.mistakes


def _node(node: yaml.Node, loader: _Composer) -> Node:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, loader)
    line = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        before = len(loader.mistakes)
        plain = _scalar(node, loader)
        return Node(line, plain, text=node.value, mistaken=len(loader.mistakes) > before or node.tag == _ALIAS)
    items = [_node(each, loader) for each in node.value]
    return Node(line, [each.plain for each in items], parts=dict(enumerate(items)))


def _mapping(node: yaml.MappingNode, loader: _Composer) -> Node:
    mapping = Node(node.start_mark.line + 1, {})
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            loader.mistakes.append(Mistake(line, "has a key that is not text; write one key and a colon"))
            continue
        key = key_node.value
        if key_node.tag == f"{_CORE}merge":
            loader.mistakes.append(Mistake(line, "has the merge key <<; write the values where they are used"))
            continue
        if _scalar(key_node, loader) != key:
            loader.mistakes.append(Mistake(line, f"the key {key} without quotes is not text in YAML; put it in quotes"))
        if key in mapping.parts:
            first = mapping.keys[key]
            loader.mistakes.append(Mistake(line, f"has the key {key} again (first on line {first}); keep one"))
        mapping.parts[key] = _node(value_node, loader)
        mapping.plain[key] = mapping.parts[key].plain
        mapping.keys[key] = line
    return mapping


def _scalar(node: yaml.ScalarNode, loader: _Composer) -> Any:
    """Return a scalar's value; note a mistake if YAML 1.1 and 1.2 differ about it."""
    line, text, tag = node.start_mark.line + 1, node.value, node.tag.removeprefix(_CORE)
    if tag in {"value", _ALIAS}:
        return text
    if node.style is None and tag in _WORDS:
        newer = next((name for name, pattern in _YAML_1_2.items() if pattern.fullmatch(text)), "str")
        if newer != tag or (newer == "int" and re.match(r"[-+]?0[0-9]", text)):
            why = f"is {_WORDS[tag]} to some readers of YAML and {_WORDS[newer]} to others"
            if newer == tag:
                why = "is an octal number to some readers of YAML"
            loader.mistakes.append(Mistake(line, f"{text} without quotes {why}; put it in quotes{_or_true(text)}"))
            return text
    try:
        return loader.construct_object(node)
    # A tag whose constructor does not check its text.
    except (yaml.constructor.ConstructorError, AttributeError, LookupError):
        loader.mistakes.append(Mistake(line, f"has the YAML tag {node.tag}; write the value without it"))
    except ValueError:
        loader.mistakes.append(Mistake(line, f"{text} is not a day of the calendar; correct it"))
    return text


def _or_true(text: str) -> str:
    words = {"yes": "true", "on": "true", "no": "false", "off": "false"}
    return f", or write {words[text.lower()]}" if text.lower() in words else ""
