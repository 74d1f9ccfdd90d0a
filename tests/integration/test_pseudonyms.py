"""Pseudonyms: the same account always has the same one, and nobody can go back."""

from __future__ import annotations

from typing import Any

import pytest

from handlers.aws.pseudonyms import KmsPseudonyms
from handlers.core.errors import RetryableError
from tests.integration.conftest import client

ORGANIZATION = "o-exampleorgid"


@pytest.fixture
def key(aws: None) -> str:  # noqa: ARG001 - a fixture that is needed for its effect
    made = client("kms").create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    return str(made["KeyMetadata"]["KeyId"])


def counting(kms: Any) -> list[str]:  # noqa: ANN401 - boto3's own type
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
    pseudonyms = KmsPseudonyms(kms, f"{key[:-4]}0000", ORGANIZATION)

    for _ in range(2):
        with pytest.raises(RetryableError, match=r"KMS\."):
            pseudonyms.of("222222222222")
