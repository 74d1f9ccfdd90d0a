"""Check the policies that the stack creates, before it creates them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from handlers.aws.access_analyzer import AccessAnalyzer
from handlers.core.guardrails.policy_documents import mistakes, review

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.deploy.stages import Stage, Target
    from schemas.compiled_guardrails import PolicyType


def problems(stage: Stage, template: dict[str, Any]) -> Iterator[str]:
    """Yield why AWS would refuse a policy that the stack creates."""
    for name, kind, content in _created(stage, template):
        yield from (f"policy {name} {mistake}" for mistake in mistakes(kind, content))


def findings(target: Target, template: dict[str, Any]) -> Iterator[str]:
    """Yield what IAM Access Analyzer says about the policies that the stack creates, and why it says nothing."""
    created = list(_created(target.stage, template))
    if not created:
        return
    found = review(created, AccessAnalyzer(target.client("accessanalyzer")))
    yield from (f"policy {name}: {text}" for name, text in found.findings)
    if found.unchecked:
        yield (
            f"Access Analyzer could not be asked about the policies ({found.unchecked}); use credentials that may call "
            "access-analyzer:ValidatePolicy"
        )


def _created(stage: Stage, template: dict[str, Any]) -> Iterator[tuple[str, PolicyType, str]]:
    """Yield name, type and content of each policy that the stack creates."""
    if not stage.creates_policies:
        return
    for name, each in template["Resources"].items():
        if each["Type"] == "AWS::Organizations::Policy":
            content = each["Properties"]["Content"]
            text = content if isinstance(content, str) else json.dumps(content, separators=(",", ":"))
            yield name, each["Properties"]["Type"], text
