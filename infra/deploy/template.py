"""Read a CloudFormation template as data."""

from __future__ import annotations

import json
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, which become the long ones."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    if isinstance(node, yaml.MappingNode):
        return {name: loader.construct_mapping(node, deep=True)}
    if not isinstance(node, yaml.ScalarNode):
        raise TypeError(node)
    text = loader.construct_scalar(node)
    return {name: str(text).split(".", 1) if suffix == "GetAtt" else text}


_Loader.add_multi_constructor("!", _short_form)


def load(text: str) -> dict[str, Any]:
    """Return a template as plain dicts and lists, short forms written out."""
    loaded: dict[str, Any] = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    return loaded


def dump(template: dict[str, Any]) -> str:
    """Write a template that was loaded, long forms and all, as JSON, which is shorter: its length is limited."""
    return json.dumps(template, separators=(",", ":"))


def without_comments(text: str) -> str:
    """Leave out the lines that only readers need: CloudFormation counts them in its 51,200 bytes.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
    """
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")) + "\n"
