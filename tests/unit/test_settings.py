"""The settings in the environment, and the errors that name each wrong one."""

from __future__ import annotations

import pytest

from handlers.settings import RemoverSettings, Settings, SettingsError

VALID = {
    "POLICY_IDS": "p-aaaaaaaa,p-bbbbbbbb",
    "OUTCOMES_TABLE": "outcomes",
    "EVIDENCE_BUCKET": "evidence",
    "QUEUE_URL": "https://queue/joins",
    "DEAD_LETTER_QUEUE_URL": "https://queue/dead",
    "PSEUDONYM_KEY_ID": "11111111-2222-4333-8444-555555555555",
    "ORGANIZATION_ID": "o-exampleorgid",
    "MANAGEMENT_ACCOUNT_ID": "111111111111",
    "RECONCILIATION_TABLE": "reconciliation",
}


OF_THE_REMOVER = {
    "GUARDRAILS_KEY": f"joinguard/guardrails/{'0' * 64}.json",
    "ARTIFACTS_BUCKET": "artifacts",
    "PACE_TABLE": "pace",
    "JOINS_QUEUE_URL": "https://queue/joins",
}


@pytest.mark.parametrize("name", OF_THE_REMOVER)
def test_a_missing_setting_of_the_worker_that_removes_is_named(name: str) -> None:
    environment = VALID | OF_THE_REMOVER
    assert RemoverSettings.from_env(environment).approved_plan_key == ""
    del environment[name]

    with pytest.raises(SettingsError, match=rf"{name} is empty or not set"):
        RemoverSettings.from_env(environment)


def test_a_valid_environment_is_read() -> None:
    settings = Settings.from_env(VALID | {"AWS_REGION": "us-east-1"})

    assert settings.policy_ids == ("p-aaaaaaaa", "p-bbbbbbbb")
    assert settings.queue_url == VALID["QUEUE_URL"]


def test_empty_and_repeated_policies_are_removed_and_the_order_is_kept() -> None:
    settings = Settings.from_env(VALID | {"POLICY_IDS": " p-bbbbbbbb ,, p-aaaaaaaa,\tp-bbbbbbbb, "})

    assert settings.policy_ids == ("p-bbbbbbbb", "p-aaaaaaaa")


@pytest.mark.parametrize("name", VALID)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_setting_is_named_with_the_next_step(name: str, value: str | None) -> None:
    environment = {key: text for key, text in VALID.items() if key != name}
    if value is not None:
        environment[name] = value

    with pytest.raises(SettingsError, match=rf"^{name} is empty or not set.*deploy again"):
        Settings.from_env(environment)


@pytest.mark.parametrize(
    ("name", "value", "quoted"),
    [
        ("POLICY_IDS", "p-aaaaaaaa,deny-leave", "deny-leave"),
        ("POLICY_IDS", "p-aaaaaaaa;p-bbbbbbbb", "p-aaaaaaaa;p-bbbbbbbb"),
        ("ORGANIZATION_ID", "exampleorgid", ""),
        ("MANAGEMENT_ACCOUNT_ID", "1234", ""),
    ],
)
def test_a_malformed_setting_is_named(name: str, value: str, quoted: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}: ") as error:
        Settings.from_env(VALID | {name: value})

    assert quoted in str(error.value)


@pytest.mark.parametrize("value", [",", " , ,, "])
def test_a_list_of_blanks_counts_as_empty(value: str) -> None:
    with pytest.raises(SettingsError, match="POLICY_IDS is empty"):
        Settings.from_env(VALID | {"POLICY_IDS": value})


def test_all_missing_settings_are_named_in_one_error() -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_env({})

    assert all(name in str(error.value) for name in VALID)
