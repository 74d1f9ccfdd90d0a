"""Check a stage's parameters against the template.

CloudFormation finds an invalid one when a change set is created, after the zip was built, and only one at a time.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from infra.deploy.stack import DeployError, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from infra.deploy.stages import Stage


def refuse(stage: Stage, template: Mapping[str, Any]) -> None:
    """Raise DeployError that lists all problems of the stage's parameters."""
    if found := list(problems(stage, template)):
        raise DeployError(listed("the parameters of the stage are not valid:", found))


def problems(stage: Stage, template: Mapping[str, Any]) -> Iterator[str]:
    """Yield each parameter that the template does not have, and each value that it does not allow."""
    declared = template["Parameters"]
    file = stage.file.name if stage.file else f"{stage.name}.yaml"
    for name, value in stage.parameters.items():
        if name not in declared:
            near = get_close_matches(name, declared, n=1)
            step = f"correct it to {near[0]}" if near else "remove it"
            yield f"stage file {file}: there is no parameter {name}; {step}"
        elif rule := _broken_rule(value, declared[name]):
            yield f"stage file {file}: {name} {rule}, not {value or 'empty'}"


def _broken_rule(value: str, declaration: Mapping[str, Any]) -> str | None:
    """Return what a value must be, if it is something else."""
    allowed = [str(each) for each in declaration.get("AllowedValues", [])]
    if allowed and value not in allowed:
        return f"must be {', '.join(allowed[:-1])} or {allowed[-1]}"
    pattern = declaration.get("AllowedPattern")
    if pattern and not re.fullmatch(pattern, value):
        return str(declaration.get("ConstraintDescription", f"must match {pattern}"))
    return _broken_range(value, declaration) if declaration["Type"] == "Number" else None


def _broken_range(value: str, declaration: Mapping[str, Any]) -> str | None:
    try:
        number = float(value)
    except ValueError:
        return "must be a number"
    least, most = declaration.get("MinValue"), declaration.get("MaxValue")
    if least is not None and not number >= least:
        return f"must be at least {least}"
    if most is not None and not number <= most:
        return f"must be at most {most}"
    return None
