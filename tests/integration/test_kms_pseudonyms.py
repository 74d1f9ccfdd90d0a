"""Pseudonyms: the same account always has the same one, and nobody can go back."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.stub import Stubber

from handlers.aws.kms_pseudonyms import KmsPseudonyms
from handlers.core.errors import RetryableError
from schemas.evidence import Pseudonym
from tests.integration.conftest import SECRETS, TROUBLE, Hook, client, intercepted

ORGANIZATION = "o-exampleorgid"
KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture
def key(aws: None) -> str:  # noqa: ARG001 - a fixture that is needed for its effect
    made = client("kms").create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    return str(made["KeyMetadata"]["KeyId"])


def counting(kms: Any) -> list[str]:
    called: list[str] = []
    kms.meta.events.register("before-call.kms", lambda model, **_: called.append(model.name))
    return called


def test_an_account_keeps_its_pseudonym_and_shares_it_with_nobody(key: str) -> None:
    here = KmsPseudonyms(client("kms"), key, ORGANIZATION)
    again = KmsPseudonyms(client("kms"), key, ORGANIZATION)
    elsewhere = KmsPseudonyms(client("kms"), key, "o-someoneelse")

    assert here.of("222222222222") == again.of("222222222222")
    assert here.of("222222222222") != here.of("222222222223")
    assert here.of("222222222222") != elsewhere.of("222222222222")
    assert "222222222222" not in here.of("222222222222").value


def test_pseudonyms_in_seven_years_are_those_of_today() -> None:
    """Evidence is kept for years, and no pseudonym in it can be recomputed: how they are made must never change."""
    kms = client("kms")
    asked = {
        "KeyId": KEY_ID,
        "MacAlgorithm": "HMAC_SHA_256",
        "Message": b"joinguard/pseudonym/1/o-exampleorgid",
    }
    with Stubber(kms) as stub:
        stub.add_response("generate_mac", {"Mac": bytes(range(32)), "KeyId": KEY_ID}, asked)

        told = KmsPseudonyms(kms, KEY_ID, ORGANIZATION).of("222222222222")

    assert told == Pseudonym(value="acct-5ecee3c33335ffaf24b41e495107a970", key_version=KEY_ID)


@pytest.mark.parametrize(
    "answered", [KEY_ID, f"arn:aws:kms:us-east-1:111111111111:key/{KEY_ID}"], ids=["by moto", "by AWS"]
)
def test_the_key_version_is_the_keys_id_and_holds_no_account(answered: str) -> None:
    """AWS answers with the key's ARN, also where an alias was asked; moto answers with the id alone."""
    kms = client("kms")
    with Stubber(kms) as stub:
        stub.add_response("generate_mac", {"Mac": b"mac", "KeyId": answered})

        assert KmsPseudonyms(kms, "alias/pseudonyms", ORGANIZATION).of("222222222222").key_version == KEY_ID


def test_an_alias_stands_for_its_key(key: str) -> None:
    kms = client("kms")
    kms.create_alias(AliasName="alias/pseudonyms", TargetKeyId=key)

    by_alias = KmsPseudonyms(kms, "alias/pseudonyms", ORGANIZATION).of("222222222222")

    assert by_alias == KmsPseudonyms(kms, key, ORGANIZATION).of("222222222222")
    assert by_alias.key_version == key


def test_another_key_gives_other_pseudonyms(key: str) -> None:
    kms = client("kms")
    other = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["KeyId"]

    one = KmsPseudonyms(kms, key, ORGANIZATION).of("222222222222")
    two = KmsPseudonyms(kms, other, ORGANIZATION).of("222222222222")

    assert one.value != two.value
    assert (one.key_version, two.key_version) == (key, other)


def test_kms_is_asked_once_a_process(key: str) -> None:
    kms = client("kms")
    called = counting(kms)
    pseudonyms = KmsPseudonyms(kms, key, ORGANIZATION)

    for number in range(100):
        pseudonyms.of(f"{number:012d}")

    assert called == ["GenerateMac"]


def test_a_key_that_is_gone_is_passing_and_is_asked_again(key: str) -> None:
    kms = client("kms")
    called = counting(kms)
    pseudonyms = KmsPseudonyms(kms, f"{key[:-4]}0000", ORGANIZATION)

    for _ in range(2):
        with pytest.raises(RetryableError, match=r"^KMS\."):
            pseudonyms.of("222222222222")

    assert called == ["GenerateMac", "GenerateMac"]


@pytest.mark.parametrize("hook", TROUBLE.values(), ids=TROUBLE)
def test_a_key_that_cannot_be_reached_is_passing(hook: Hook) -> None:
    kms, sent = intercepted("kms", hook)

    with pytest.raises(RetryableError, match=r"^KMS\.") as raised:
        KmsPseudonyms(kms, KEY_ID, ORGANIZATION).of("222222222222")

    assert sent == ["GenerateMac"]
    assert not any(secret in str(raised.value) for secret in SECRETS)
