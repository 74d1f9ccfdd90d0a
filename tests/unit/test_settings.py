"""The environment is checked once, and what is wrong is named."""

from __future__ import annotations

import pytest

from handlers.settings import Settings, SettingsError

GOOD = {
    "POLICY_IDS": "p-aaaaaaaa,p-bbbbbbbb",
    "OUTCOMES_TABLE": "outcomes",
    "EVIDENCE_BUCKET": "evidence",
    "QUEUE_URL": "https://queue/joins",
    "DEAD_LETTER_QUEUE_URL": "https://queue/dead",
    "PSEUDONYM_KEY_ID": "11111111-2222-4333-8444-555555555555",
    "ORGANIZATION_ID": "o-exampleorgid",
    "MANAGEMENT_ACCOUNT_ID": "111111111111",
}


def test_a_good_environment_is_taken_as_it_is() -> None:
    settings = Settings.from_env(GOOD | {"AWS_REGION": "us-east-1"})

    assert settings.policy_ids == ("p-aaaaaaaa", "p-bbbbbbbb")
    assert settings.queue_url == GOOD["QUEUE_URL"]


def test_blanks_and_repeats_among_the_policies_are_dropped_and_the_order_stays() -> None:
    settings = Settings.from_env(GOOD | {"POLICY_IDS": " p-bbbbbbbb ,, p-aaaaaaaa,\tp-bbbbbbbb, "})

    assert settings.policy_ids == ("p-bbbbbbbb", "p-aaaaaaaa")


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_missing_is_named_with_the_next_step(name: str, value: str | None) -> None:
    environment = {key: text for key, text in GOOD.items() if key != name}
    if value is not None:
        environment[name] = value

    with pytest.raises(SettingsError, match=rf"^{name} is empty or not set.*deploy again"):
        Settings.from_env(environment)


@pytest.mark.parametrize(
    ("name", "value", "culprit"),
    [
        ("POLICY_IDS", "p-aaaaaaaa,deny-leave", "deny-leave"),
        ("POLICY_IDS", "p-aaaaaaaa;p-bbbbbbbb", "p-aaaaaaaa;p-bbbbbbbb"),
        ("ORGANIZATION_ID", "exampleorgid", ""),
        ("MANAGEMENT_ACCOUNT_ID", "1234", ""),
    ],
)
def test_what_is_malformed_is_named(name: str, value: str, culprit: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}: ") as refused:
        Settings.from_env(GOOD | {name: value})

    assert culprit in str(refused.value)


@pytest.mark.parametrize("value", [",", " , ,, "])
def test_a_list_of_blanks_is_an_empty_list(value: str) -> None:
    with pytest.raises(SettingsError, match="POLICY_IDS is empty"):
        Settings.from_env(GOOD | {"POLICY_IDS": value})


def test_everything_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({})

    assert all(name in str(refused.value) for name in GOOD)
