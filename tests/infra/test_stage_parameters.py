"""The parameters of a stage are checked against the template before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.deploy import installing, stage_parameters
from infra.deploy.installing import TEMPLATE
from infra.deploy.stack import DeployError
from infra.deploy.stages import FOLDER, Stage, Target, load_stage
from infra.deploy.template import load
from tests.stubs import StubbedSession

DECLARED = load(TEMPLATE.read_text())


def found(**parameters: str) -> list[str]:
    stage = Stage(name="user", region="us-east-1", parameters=parameters, file=Path("stages/user.yaml"))
    return list(stage_parameters.problems(stage, DECLARED))


@pytest.mark.parametrize("name", sorted(each.stem for each in FOLDER.glob("*.yaml")))
def test_our_own_stages_have_no_problems(name: str) -> None:
    assert list(stage_parameters.problems(load_stage(name), DECLARED)) == []


def test_values_that_the_template_allows_are_no_problem() -> None:
    assert found(RemovePolicies="true", AttachTo="222222222222", AttachmentsPerSecond="0.5", AlarmEmail="") == []


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("RemovePolicies", "yes", "RemovePolicies must be true or false, not yes"),
        ("RemovePolicies", "True", "RemovePolicies must be true or false, not True"),
        ("RemovePolicies", "", "RemovePolicies must be true or false, not empty"),
        ("LogRetentionDays", "31", "LogRetentionDays must be 30, 90, 180, 365, 731 or 2557, not 31"),
        ("AttachTo", "some", "AttachTo must be all, none, or at most 130 account ids of 12 digits, separated by"),
        ("AttachTo", "all\n", "AttachTo must be all, none, or at most 130"),
        ("BackupDays", "many", "BackupDays must be a number, not many"),
        ("BackupDays", "0", "BackupDays must be at least 1, not 0"),
        ("BackupDays", "3651", "BackupDays must be at most 3650, not 3651"),
        ("AttachmentsPerSecond", "nan", "AttachmentsPerSecond must be at least 0.1, not nan"),
        ("RemovePolicy", "true", "there is no parameter RemovePolicy; correct it to RemovePolicies"),
        ("Colour", "red", "there is no parameter Colour; remove it"),
    ],
)
def test_what_the_template_does_not_allow_is_named_with_the_rule(name: str, value: str, rule: str) -> None:
    [problem] = found(**{name: value})

    assert problem.startswith(f"stage file user.yaml: {rule}")


def test_a_rule_without_words_is_its_pattern() -> None:
    stage = Stage(name="user", region="us-east-1", parameters={"A": "b"})
    template: dict[str, Any] = {"Parameters": {"A": {"Type": "String", "AllowedPattern": "^a$"}}}

    assert list(stage_parameters.problems(stage, template)) == ["stage file user.yaml: A must match ^a$, not b"]


def test_deploy_names_all_of_them_before_it_calls_aws() -> None:
    """AWS rejects a call with such a value, and then the operator would see nothing else."""
    session: Any = StubbedSession()
    parameters = {"RemovePolicies": "yes", "RemovePolicy": "true", "PermissionsBoundaryArn": "boundary"}
    stage = Stage(name="user", region="us-east-1", parameters=parameters)

    with pytest.raises(DeployError) as refused:
        installing.check(Target(session, stage))

    for each in (
        "RemovePolicies must be true or false",
        "there is no parameter RemovePolicy",
        "PermissionsBoundaryArn must",
    ):
        assert each in str(refused.value)
