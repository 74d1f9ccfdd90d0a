"""Canonical JSON: each value has one text, so that the hash of the text identifies the value."""

import json


def canonical_json(value: object) -> bytes:
    """Return the canonical JSON of a value: sorted keys, no white space, UTF-8.

    That is RFC 8785 for keys of ASCII and for texts, integers up to 2^53 - 1, truth values, null, lists and objects.
    Floating-point numbers have other forms there, and no contract has any.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
