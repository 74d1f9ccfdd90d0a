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
    """Return a loaded template as compact JSON, since CloudFormation limits the length."""
    return json.dumps(template, separators=(",", ":"))


def without_comments(text: str) -> str:
    """Return a template without comment lines, which count towards CloudFormation's limit of 51,200 bytes.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
    """
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")) + "\n"
