"""Compare what AWS returns with what the template declares."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: Characters of a value that are shown.
_LONGEST: Final = 60


def matches(declared: Any, actual: Any) -> bool:
    """Whether a value is as declared. AWS may add fields and change the order of lists and the type of scalars."""
    if isinstance(declared, dict):
        return isinstance(actual, dict) and all(matches(declared[name], actual.get(name)) for name in declared)
    if isinstance(declared, list):
        return (
            isinstance(actual, list)
            and len(declared) == len(actual)
            and all(any(matches(each, other) for other in actual) for each in declared)
        )
    return bool(_scalar(declared) == _scalar(actual))


def property_differences(declared: Mapping[str, Any], actual: Mapping[str, Any], names: Iterable[str]) -> Iterator[str]:
    """Yield each of the named properties that the template sets and that differs."""
    for name in names:
        if name in declared and not matches(declared[name], actual.get(name)):
            yield f"{name} is {_short(actual.get(name))}, not {_short(declared[name])}"


def policy_differences(declared: Mapping[str, Any], actual: str | None) -> Iterator[str]:
    """Yield how a resource policy, as AWS returns it, differs from the declared one, by Sid."""
    if not actual:
        yield "there is no policy"
        return
    expected, found = _statements(declared), _statements(json.loads(actual))
    for sid in expected.keys() - found.keys():
        yield f"the policy lacks the statement {sid}"
    for sid in found.keys() - expected.keys():
        yield f"the policy has another statement {sid}"
    for sid in expected.keys() & found.keys():
        if expected[sid] != found[sid]:
            yield f"the policy's statement {sid} was changed"


def _statements(document: Mapping[str, Any]) -> dict[str, Any]:
    listed = document["Statement"] if isinstance(document["Statement"], list) else [document["Statement"]]
    found: dict[str, Any] = {}
    for number, each in enumerate(listed, 1):
        sid = each.get("Sid", f"number {number}")
        found[sid if sid not in found else f"{sid} (number {number})"] = _normal(each)
    return found


def _normal(value: Any) -> Any:
    """Return a part of a policy in one form, since AWS writes lists of one element as a string."""
    if isinstance(value, dict):
        # {"AWS": "*"} and "*" are the same principal in a Deny.
        return "*" if value == {"AWS": "*"} else {name: _normal(each) for name, each in value.items()}
    if isinstance(value, list):
        values = sorted((_normal(each) for each in value), key=str)
        return values[0] if len(values) == 1 else values
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(float(value))
    if isinstance(value, str):
        try:
            return str(float(value))
        except ValueError:
            # White space, because YAML folds long texts.
            return " ".join(value.split())
    return value


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
