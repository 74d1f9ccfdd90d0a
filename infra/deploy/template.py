"""Read a CloudFormation template as data."""

from __future__ import annotations

import json
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """A safe YAML loader that writes out CloudFormation's short intrinsic functions (`!Ref` as `Ref`)."""


def _short_form(loader: _Loader, suffix: str, node: yaml.SequenceNode | yaml.ScalarNode) -> dict[str, Any]:
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    text = loader.construct_scalar(node)
    return {name: str(text).split(".", 1) if suffix == "GetAtt" else text}


_Loader.add_multi_constructor("!", _short_form)


def load(text: str) -> dict[str, Any]:
    """Return a template as dicts and lists, with the long forms of intrinsic functions."""
    loaded: dict[str, Any] = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    return loaded


def dump(template: dict[str, Any]) -> str:
    """Return a loaded template as compact JSON."""
    return json.dumps(template, separators=(",", ":"))
