"""Values that a JSON Schema of ours allows, as Hypothesis generates them: records that no code here wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from hypothesis import strategies as st

Schema: TypeAlias = Mapping[str, Any]
#: Lists and maps of records are short here, so that examples are.
_MOST = 3


def instances(schema: Schema, definitions: Schema | None = None) -> st.SearchStrategy[Any]:
    """Return a strategy for what a schema allows, for the keywords that pydantic writes for our contracts."""
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    if "$ref" in schema:
        return instances(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of(*(instances(each, definitions) for each in schema["anyOf"]))
    return _TYPES[schema["type"]](schema, definitions)


def _texts(schema: Schema, _definitions: Schema) -> st.SearchStrategy[str]:
    if schema.get("format") == "date-time":
        moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
        return moments.map(lambda each: each.isoformat().replace("+00:00", "Z"))
    if "pattern" in schema:
        # `$` also matches before a line break at the end.
        return st.from_regex(schema["pattern"].removesuffix("$") + r"\Z", fullmatch=True)
    longest = min(schema.get("maxLength", 40), 40)
    return st.text(st.characters(codec="utf-8"), min_size=schema.get("minLength", 0), max_size=longest)


def _arrays(schema: Schema, definitions: Schema) -> st.SearchStrategy[list[Any]]:
    return st.lists(instances(schema["items"], definitions), max_size=_MOST)


def _objects(schema: Schema, definitions: Schema) -> st.SearchStrategy[dict[str, Any]]:
    required = set(schema.get("required", ()))
    known = {name: instances(each, definitions) for name, each in schema.get("properties", {}).items()}
    if known:
        return st.fixed_dictionaries(
            {name: each for name, each in known.items() if name in required},
            optional={name: each for name, each in known.items() if name not in required},
        )
    names = instances(schema.get("propertyNames", {"type": "string"}), definitions)
    return st.dictionaries(names, instances(schema["additionalProperties"], definitions), max_size=_MOST)


def _integers(schema: Schema, _definitions: Schema) -> st.SearchStrategy[int]:
    return st.integers(schema.get("minimum"), schema.get("maximum", 10**6))


def _booleans(_schema: Schema, _definitions: Schema) -> st.SearchStrategy[bool]:
    return st.booleans()


def _nulls(_schema: Schema, _definitions: Schema) -> st.SearchStrategy[None]:
    return st.none()


_TYPES: Mapping[str, Callable[[Schema, Schema], st.SearchStrategy[Any]]] = {
    "string": _texts,
    "array": _arrays,
    "object": _objects,
    "boolean": _booleans,
    "integer": _integers,
    "null": _nulls,
}
