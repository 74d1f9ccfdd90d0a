"""Show a body, and what changed between two, with limited CPU time and output: a body can be 1 MiB of anything."""

import difflib
import json
import re
from collections.abc import Sequence
from typing import Final

#: JSON that is larger, in characters, or nested deeper is compared as plain text: indenting it takes quadratic time.
_MAX_JSON: Final = 65_536
_MAX_DEPTH: Final = 50
#: If either side has more lines, they are not matched with each other: that takes quadratic time.
_MAX_MATCHED: Final = 400
#: The limits of the output.
_MAX_LINES: Final = 400
_MAX_CHARACTERS: Final = 500
#: A string, a bracket or another sign, or a number or name, of JSON.
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}:,]|[^\s\[\]{}:,"]+')
#: Lines around a change, and characters before one.
_CONTEXT_LINES: Final = 2
_CONTEXT_CHARACTERS: Final = 100


def differences(old: str, new: str) -> list[str]:
    """Return what changed between two bodies, as lines that begin with `-`, `+` or a blank; of JSON, by field."""
    before, after = _lines(old), _lines(new)
    if before == after:
        before, after = old.splitlines(), new.splitlines()
    prefix = _common_prefix(before, after)
    remaining = min(len(before), len(after)) - prefix
    suffix = _common_prefix(before[::-1][:remaining], after[::-1][:remaining])
    removed, added = before[prefix : len(before) - suffix], after[prefix : len(after) - suffix]
    if not removed and not added:
        return []
    output = [
        *(f" {line}" for line in before[max(0, prefix - _CONTEXT_LINES) : prefix]),
        *_changes(removed, added),
        *(f" {line}" for line in before[len(before) - suffix :][:_CONTEXT_LINES]),
    ]
    more = [f" … {len(output) - _MAX_LINES:,} more lines"] if len(output) > _MAX_LINES else []
    return [_shortened(line) for line in output[:_MAX_LINES]] + more


def indented(body: str) -> str:
    """Return JSON with a line for each value, each value as it is spelled in the body; other texts unchanged."""
    try:
        value = json.loads(body) if len(body) <= _MAX_JSON else None
    except (ValueError, RecursionError):
        return body
    if value is None or _is_deep(value):
        return body
    parts: list[str] = []
    depth, before = 0, ""
    for token in _TOKEN.findall(body):
        closes, after_opening = token in {"]", "}"}, before in {"[", "{"}
        depth -= closes
        # An empty list or object stays on one line.
        if before == "," or closes != after_opening:
            parts.append("\n" + "  " * depth)
        elif before == ":":
            parts.append(" ")
        parts.append(token)
        depth += token in {"[", "{"}
        before = token
    return "".join(parts)


def _lines(body: str) -> list[str]:
    if len(body) <= _MAX_JSON:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return body.splitlines()
        if not _is_deep(value):
            return json.dumps(value, indent=1, ensure_ascii=False).splitlines()
    return body.splitlines()


def _is_deep(value: object) -> bool:
    """Return whether JSON is nested deeper than the limit, without recursion."""
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)


def _common_prefix(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the number of equal items at the beginning of two sequences."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (left, right) in pairs if left != right), min(len(one), len(other)))


def _changes(removed: Sequence[str], added: Sequence[str]) -> list[str]:
    if len(removed) == len(added) == 1:
        # Of one long line, only the part that differs is of interest.
        begin = max(0, _common_prefix(removed[0], added[0]) - _CONTEXT_CHARACTERS)
        removed, added = ([f"…{each[0][begin:]}" if begin else each[0]] for each in (removed, added))
    if max(len(removed), len(added)) > _MAX_MATCHED:
        return [*(f"-{line}" for line in removed), *(f"+{line}" for line in added)]
    # The first three lines are the headers of the unified diff.
    matched = list(difflib.unified_diff(removed, added, lineterm="", n=_CONTEXT_LINES))[3:]
    return [" …" if line.startswith("@@") else line for line in matched]


def _shortened(line: str) -> str:
    if len(line) <= _MAX_CHARACTERS:
        return line
    return f"{line[:_MAX_CHARACTERS]}… ({len(line) - _MAX_CHARACTERS:,} more characters)"
