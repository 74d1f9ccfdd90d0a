"""Hints name commands in the form in which the operator types them."""

from __future__ import annotations

import pytest

from handlers.core.errors import Cause
from handlers.operate.__main__ import cli
from handlers.operate.advice import next_step
from handlers.operate.hints import as_typed, run_by_make
from tests.fake_queues import dead_letter
from tests.operator_cli import operator_cli


def test_without_make_hints_stay_as_they_are() -> None:
    assert as_typed("`show 8f14` and `make deploy`") == "`show 8f14` and `make deploy`"


@pytest.mark.parametrize(
    ("text", "prod", "test"),
    [
        ("`show 8f14`", "`make show ARGS=8f14`", "`make show STAGE=test ARGS=8f14`"),
        ("`list`", "`make dlq`", "`make dlq STAGE=test`"),
        (
            "`redrive --all --native`",
            '`make redrive ARGS="--all --native"`',
            '`make redrive STAGE=test ARGS="--all --native"`',
        ),
        ("`edit m --body a`", '`make edit ARGS="m --body a"`', '`make edit STAGE=test ARGS="m --body a"`'),
        ("run `make deploy`", "run `make deploy`", "run `make deploy STAGE=test`"),
        ("`make logs STAGE=other`", "`make logs STAGE=other`", "`make logs STAGE=other`"),
        ("`aws configure list-profiles`", "`aws configure list-profiles`", "`aws configure list-profiles`"),
        ("`listing`", "`listing`", "`listing`"),
    ],
)
def test_with_make_hints_name_the_target_and_the_stage(
    text: str, prod: str, test: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage, typed in (("prod", prod), ("test", test)):
        environment: dict[str, str] = {}
        run_by_make(stage, environment)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert as_typed(text) == typed


def test_a_stage_that_is_named_is_that_of_the_hint() -> None:
    assert as_typed("run `joinguard lock`", "test") == "run `make lock STAGE=test`"


def test_what_commands_print_is_what_their_user_types(monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = {}
    run_by_make("test", environment)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert "`make show STAGE=test ARGS=m-1` shows one message" in operator_cli(dead_letter(1)).run("list").stderr
    assert "`make revert-drift STAGE=test`" in next_step(Cause.ACCESS_DENIED, "dead letters")


def test_every_command_that_has_a_target_is_known() -> None:
    """Those of the guardrails are targets of their own."""
    for name in cli.commands.keys() - {"lock", "plan", "explain"}:
        environment: dict[str, str] = {}
        run_by_make("prod", environment)
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in environment.items():
                patch.setenv(variable, value)
            assert as_typed(f"`{name} x`").startswith("`make "), name
