"""Commands of `make deploy` and its neighbours that fail before they reach AWS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from infra.deploy.__main__ import cli
from infra.deploy.stack import DeployError
from infra.deploy.stages import load_stage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("region: [us-east-1", "stage file x.yaml is not a YAML mapping: "),
        ("- region", "stage file x.yaml is not a YAML mapping: "),
        ("", "stage file x.yaml is not a YAML mapping: "),
        ("region: Virginia", "stage file x.yaml: region: String should match"),
        ("region: us-east-1\nparameter: {}", "stage file x.yaml: parameter: Extra inputs are not permitted"),
        ("region: us-east-1\nparameters: {RetentionDays: 1}", "parameters.RetentionDays: .*put them in quotes"),
    ],
    ids=["not YAML", "a list", "empty", "no Region", "an unknown key", "a number"],
)
def test_an_invalid_stage_file_is_refused_with_the_place_of_the_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)

    with pytest.raises(DeployError, match=message):
        load_stage(str(path))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["logs"], "Unable to locate credentials. Log in (aws sso login) or set AWS_PROFILE"),
        (
            ["delegation-policy", "--administrator", "222222222222"],
            "Error: stage prod names no policies; set PolicyIds",
        ),
    ],
    ids=["no credentials", "a stage without policies"],
)
def test_a_command_that_cannot_run_prints_one_line_with_the_next_step(command: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, command)

    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert message in line
    assert result.stdout == ""
