"""An account always has the same pseudonym, and nobody can derive the account from it."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.stub import Stubber

from handlers.aws.kms_pseudonyms import KmsPseudonyms
from handlers.core.errors import RetryableError
from schemas.pseudonym import Pseudonym
from tests.integration.conftest import FAILURES, SECRETS, Hook, client, intercepted

ORGANIZATION = "o-exampleorgid"
KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture
def key(aws: None) -> str:  # noqa: ARG001 - used for its effect
    made = client("kms").create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    return str(made["KeyMetadata"]["KeyId"])


def counting(kms: Any) -> list[str]:
    calls: list[str] = []
    kms.meta.events.register("before-call.kms", lambda model, **_: calls.append(model.name))
    return calls


def test_an_account_keeps_its_pseudonym_and_no_other_account_has_it(key: str) -> None:
    here = KmsPseudonyms(client("kms"), key, ORGANIZATION)
    again = KmsPseudonyms(client("kms"), key, ORGANIZATION)
    elsewhere = KmsPseudonyms(client("kms"), key, "o-someoneelse")

    assert here.of("222222222222") == again.of("222222222222")
    assert here.of("222222222222") != here.of("222222222223")
    assert here.of("222222222222") != elsewhere.of("222222222222")
    assert "222222222222" not in here.of("222222222222").value


def test_the_derivation_of_pseudonyms_never_changes() -> None:
    """Evidence is kept for seven years, and the pseudonyms in it cannot be derived again."""
    kms = client("kms")
    request = {
        "KeyId": KEY_ID,
        "MacAlgorithm": "HMAC_SHA_256",
        "Message": b"joinguard/pseudonym/1/o-exampleorgid",
    }
    with Stubber(kms) as stub:
        stub.add_response("generate_mac", {"Mac": bytes(range(32)), "KeyId": KEY_ID}, request)

        pseudonyms = KmsPseudonyms(kms, KEY_ID, ORGANIZATION)
        account, name = pseudonyms.of("222222222222"), pseudonyms.name("Jane@example.com")

    assert account == Pseudonym(value="acct-5ecee3c33335ffaf24b41e495107a970", key_version=KEY_ID)
    assert name == Pseudonym(value="name-f14a03962d684b7fea597b0205099634", key_version=KEY_ID)


@pytest.mark.parametrize(
    "key_id",
    [KEY_ID, f"arn:aws:kms:us-east-1:111111111111:key/{KEY_ID}"],
    ids=["moto returns the id", "AWS returns the ARN"],
)
def test_the_key_version_is_the_keys_id_and_contains_no_account(key_id: str) -> None:
    """AWS returns the key's ARN, even for an alias. moto returns the id."""
    kms = client("kms")
    with Stubber(kms) as stub:
        stub.add_response("generate_mac", {"Mac": b"mac", "KeyId": key_id})

        assert KmsPseudonyms(kms, "alias/pseudonyms", ORGANIZATION).of("222222222222").key_version == KEY_ID


def test_an_alias_gives_the_pseudonyms_of_its_key(key: str) -> None:
    kms = client("kms")
    kms.create_alias(AliasName="alias/pseudonyms", TargetKeyId=key)

    by_alias = KmsPseudonyms(kms, "alias/pseudonyms", ORGANIZATION).of("222222222222")

    assert by_alias == KmsPseudonyms(kms, key, ORGANIZATION).of("222222222222")
    assert by_alias.key_version == key


def test_a_name_has_one_pseudonym_in_each_case_and_none_of_an_account_or_principal(key: str) -> None:
    pseudonyms = KmsPseudonyms(client("kms"), key, ORGANIZATION)

    assert pseudonyms.name("Jane@Example.com") == pseudonyms.name("jane@example.com")
    assert pseudonyms.name("jane") != pseudonyms.name("jane2")
    assert "\udcff" not in pseudonyms.name("an argument that is not UTF-8: \udcff").value
    digests = {each.value[5:] for each in (pseudonyms.name("1"), pseudonyms.of("1"), pseudonyms.principal("1"))}
    assert len(digests) == 3


def test_another_key_gives_other_pseudonyms(key: str) -> None:
    kms = client("kms")
    other = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["KeyId"]

    one = KmsPseudonyms(kms, key, ORGANIZATION).of("222222222222")
    two = KmsPseudonyms(kms, other, ORGANIZATION).of("222222222222")

    assert one.value != two.value
    assert (one.key_version, two.key_version) == (key, other)


def test_a_process_calls_kms_once(key: str) -> None:
    kms = client("kms")
    calls = counting(kms)
    pseudonyms = KmsPseudonyms(kms, key, ORGANIZATION)

    for number in range(100):
        pseudonyms.of(f"{number:012d}")

    assert calls == ["GenerateMac"]


def test_a_missing_key_is_transient_and_the_next_call_tries_again(key: str) -> None:
    kms = client("kms")
    calls = counting(kms)
    pseudonyms = KmsPseudonyms(kms, f"{key[:-4]}0000", ORGANIZATION)

    for _ in range(2):
        with pytest.raises(RetryableError, match=r"^KMS\."):
            pseudonyms.of("222222222222")

    assert calls == ["GenerateMac", "GenerateMac"]


@pytest.mark.parametrize("hook", FAILURES.values(), ids=FAILURES)
def test_every_failure_of_kms_is_transient(hook: Hook) -> None:
    kms, sent = intercepted("kms", hook)

    with pytest.raises(RetryableError, match=r"^KMS\.") as raised:
        KmsPseudonyms(kms, KEY_ID, ORGANIZATION).of("222222222222")

    assert sent == ["GenerateMac"]
    assert not any(secret in str(raised.value) for secret in SECRETS)


def another(kms: Any) -> str:
    return str(kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["KeyId"])


def test_what_a_former_key_made_is_made_again_under_it_and_only_if_it_is_asked(key: str) -> None:
    kms = client("kms")
    former = another(kms)
    calls = counting(kms)
    pseudonyms = KmsPseudonyms(kms, key, ORGANIZATION, [f"arn:aws:kms:us-east-1:123456789012:key/{former}"])

    current, before = (each.of("222222222222") for each in pseudonyms.under_each_key())

    assert current == pseudonyms.of("222222222222")
    assert before == KmsPseudonyms(kms, former, ORGANIZATION).of("222222222222")
    assert (current.key_version, before.key_version) == (key, former)
    calls.clear()
    again = KmsPseudonyms(kms, key, ORGANIZATION, [former])
    assert next(again.under_each_key()).digest("claim", "x")
    assert calls == ["GenerateMac"], "the former key is not used for what the current one made"


#: KMS's codes for a key that is deleted, will be deleted, or is disabled.
LOST = ("NotFoundException", "KMSInvalidStateException", "DisabledException")


@pytest.mark.parametrize("code", LOST)
def test_a_former_key_that_is_gone_is_left_out_and_asked_for_once(code: str) -> None:
    kms = client("kms")
    with Stubber(kms) as stub:
        # In the order of the calls: of the former key, and then of the current one.
        stub.add_client_error("generate_mac", code, expected_params=None)
        stub.add_response("generate_mac", {"Mac": b"mac", "KeyId": KEY_ID})
        pseudonyms = KmsPseudonyms(kms, KEY_ID, ORGANIZATION, ["arn:aws:kms:us-east-1:111111111111:key/gone"])

        assert pseudonyms.lost_keys == ("gone",)
        assert [each.key_version for each in pseudonyms.under_each_key()] == [KEY_ID]
        assert pseudonyms.lost_keys == ("gone",)
        stub.assert_no_pending_responses()


@pytest.mark.parametrize("code", ["ThrottlingException", "AccessDeniedException", "KMSInternalException"])
def test_a_former_key_of_which_nothing_is_known_is_not_taken_for_gone(code: str) -> None:
    """A claim that it sealed would be taken for one that somebody changed."""
    kms = client("kms")
    with Stubber(kms) as stub:
        pseudonyms = KmsPseudonyms(kms, KEY_ID, ORGANIZATION, ["former"])
        stub.add_client_error("generate_mac", code)

        with pytest.raises(RetryableError, match=rf"^KMS\.{code}"):
            list(pseudonyms.under_each_key())

        stub.add_response("generate_mac", {"Mac": b"mac", "KeyId": "former"})
        assert pseudonyms.lost_keys == (), "the next message asks again"
