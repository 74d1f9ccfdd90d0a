"""What changed between two bodies, told in bounded work: both may be 1 MiB of anything."""

import difflib
import json
from collections.abc import Sequence
from typing import Final

#: A longer body is compared by its own lines, whatever it is.
_LARGE: Final = 65_536
#: A body that is nested deeper is compared by its own lines: indenting it takes its depth squared.
_DEEPEST: Final = 50
#: Of more lines on a side, which of them correspond is not looked for: that takes their number squared.
_MOST_COMPARED: Final = 400
#: No more lines are told, and no more characters of each.
_MOST_LINES: Final = 400
_WIDEST: Final = 500
#: Lines around a difference; characters before one.
_CONTEXT: Final = 2
_BEFORE: Final = 100


def differences(old: str, new: str) -> list[str]:
    """Return what changed between two bodies, as lines that begin with `-`, `+` or a blank; of JSON, by field."""
    before, after = _lines(old), _lines(new)
    if before == after:
        before, after = old.splitlines(), new.splitlines()
    same = _same(before, after)
    rest = min(len(before), len(after)) - same
    tail = _same(before[::-1][:rest], after[::-1][:rest])
    removed, added = before[same : len(before) - tail], after[same : len(after) - tail]
    if not removed and not added:
        return []
    around = before[max(0, same - _CONTEXT) : same], before[len(before) - tail :][:_CONTEXT]
    told = [
        *(f" {line}" for line in around[0]),
        *_compared(removed, added),
        *(f" {line}" for line in around[1]),
    ]
    more = [f" … {len(told) - _MOST_LINES:,} more lines"] if len(told) > _MOST_LINES else []
    return [_cut(line) for line in told[:_MOST_LINES]] + more


def _lines(body: str) -> list[str]:
    if len(body) <= _LARGE:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return body.splitlines()
        if not _is_deep(value):
            return json.dumps(value, indent=1, ensure_ascii=False).splitlines()
    return body.splitlines()


def _is_deep(value: object) -> bool:
    """Return whether JSON is nested deeper than `_DEEPEST`, without recursion."""
    level = [value]
    for _ in range(_DEEPEST + 1):
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)


def _same(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many items two sequences begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (left, right) in pairs if left != right), min(len(one), len(other)))


def _compared(removed: Sequence[str], added: Sequence[str]) -> list[str]:
    if len(removed) == len(added) == 1:
        # Of one long line, where it differs.
        begin = max(0, _same(removed[0], added[0]) - _BEFORE)
        removed, added = ([f"…{each[0][begin:]}" if begin else each[0]] for each in (removed, added))
    if max(len(removed), len(added)) > _MOST_COMPARED:
        return [*(f"-{line}" for line in removed), *(f"+{line}" for line in added)]
    # Without what stands before the first difference: the names of files, and where it is.
    told = list(difflib.unified_diff(removed, added, lineterm="", n=_CONTEXT))[3:]
    return [" …" if line.startswith("@@") else line for line in told]


def _cut(line: str) -> str:
    return line if len(line) <= _WIDEST else f"{line[:_WIDEST]}… ({len(line) - _WIDEST:,} more characters)"
