"""The search that the end-to-end tests use finds what it must find, and nothing in ordinary records."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Final
from urllib.parse import quote

import pytest

from tests.disclosures import Disclosures

ACCOUNT: Final = "345678901234"
SEARCH: Final = Disclosures(frozenset({ACCOUNT}), frozenset({"jane.doe"}))

#: An id, each with how a text can hold it.
SPELLINGS: Final[dict[str, bytes]] = {
    "plain": ACCOUNT.encode(),
    "in a longer number": f"99{ACCOUNT}99".encode(),
    "with dashes": b"3456-7890-1234",
    "with spaces and slashes": b"3456 7890 / 1234",
    "with underscores": b"3_4_5_6_7_8_9_0_1_2_3_4",
    "with invisible characters": "345678\u200b901234".encode(),
    "fullwidth digits": "".join(chr(0xFF10 + int(each)) for each in ACCOUNT).encode(),
    "Arabic digits": "".join(chr(0x660 + int(each)) for each in ACCOUNT).encode(),
    "mathematical digits": "".join(chr(0x1D7CE + int(each)) for each in ACCOUNT).encode(),
    "in a URL": "".join(f"%{ord(each):02X}" for each in ACCOUNT).encode(),
    "in a URL in a URL": quote("".join(f"%{ord(each):02X}" for each in ACCOUNT)).encode(),
    "in HTML": "".join(f"&#{ord(each)};" for each in ACCOUNT).encode(),
    "in JSON": "".join(f"\\u{ord(each):04x}" for each in ACCOUNT).encode(),
    "in JSON in JSON": json.dumps("".join(f"\\u{ord(each):04x}" for each in ACCOUNT)).encode(),
    "in Python": "".join(f"\\x{ord(each):02x}" for each in ACCOUNT).encode(),
    "in base64": base64.b64encode(f"the account {ACCOUNT}".encode()),
    "in base64 for URLs, without padding": base64.urlsafe_b64encode(f"?? {ACCOUNT}".encode()).rstrip(b"="),
    "in base64 in a key": b"evidence/2026/11/26/" + base64.b64encode(f"it is {ACCOUNT}".encode()) + b"/0001.json",
    "in hexadecimal": ACCOUNT.encode().hex().encode(),
    "compressed": gzip.compress(ACCOUNT.encode()),
    "compressed, in base64, in JSON": b'{"x": "' + base64.b64encode(gzip.compress(ACCOUNT.encode())) + b'"}',
}


@pytest.mark.parametrize("raw", SPELLINGS.values(), ids=SPELLINGS)
def test_the_search_finds_an_account_id_in_each_spelling(raw: bytes) -> None:
    assert SEARCH.find(b"before: " + raw if raw[:2] != b"\x1f\x8b" else raw) == [f"account id {ACCOUNT}"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("by Jane.Doe@example.com", ["name jane.doe"]),
        ("by jane%2Edoe%40example.com", ["name jane.doe"]),
        ("on arn:aws:iam::1:role/x", ["ARN arn:aws:"]),
        ("on ARN%3Aaws-cn%3As3:::x", ["ARN ARN:aws-cn:"]),
    ],
)
def test_the_search_finds_names_and_arns(text: str, found: list[str]) -> None:
    assert SEARCH.find(text.encode()) == found


ORDINARY: Final = [
    "",
    "acct_52bae77317b6e63f83be0c1b77a8 2026-11-26T10:00:00.123456Z 3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    '{"account": "acct-52bae77317b6e63f", "attempts": 3, "sha256": "3456789012a3"}',
    "3456 accounts, 7890 policies, 1234 seconds",
    "345678901233 and 45678901234",
    "learn: this is no ARN, and neither is arn",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_the_search_finds_nothing_in_ordinary_text(text: str) -> None:
    assert SEARCH.find(text.encode()) == []
