"""Redaction removes account ids, ARNs and email addresses however they are spelled, and leaves other text."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from handlers.core.errors import fault
from handlers.core.redaction import holds_account_id, redact, redact_words, safe_code

ACCOUNT = "345678901234"
#: The zero of several scripts that have digits of their own.
ZEROS = "0\uff10\u0660\u06f0\u0966\u0e50\U0001d7ce\U0001d7f6"
SEPARATORS = [
    "-",
    " ",
    ".",
    "_",
    "/",
    ":",
    "--",
    " - ",
    "\u00a0",
    "\u2011",
    "\u200b",
    "\u2060",
    "\t",
    "%20",
    "%2D",
    "&nbsp;",
    "/%2F",
]


def digits(text: str) -> str:
    """Return all digits of a text, of any script, as ASCII."""
    values = (unicodedata.digit(each, None) for each in unicodedata.normalize("NFKC", text))
    return "".join(str(digit) for digit in values if digit is not None)


def octets(text: str) -> str:
    return "".join(f"%{octet:02X}" for octet in text.encode())


ESCAPES: dict[str, Callable[[str], str]] = {
    "no escape": str,
    "percent": octets,
    "percent, small": lambda text: octets(text).lower(),
    "percent, twice": lambda text: quote(octets(text)),
    "percent, three times": lambda text: quote(quote(octets(text))),
    "HTML": lambda text: "".join(f"&#{ord(each)};" for each in text),
    "HTML with zeros": lambda text: "".join(f"&#000{ord(each)};" for each in text),
    "HTML in hexadecimal": lambda text: "".join(f"&#x{ord(each):x};" for each in text),
    "JSON": lambda text: "".join(f"\\u{each:04x}" for each in units(text)),
    "JSON in JSON": lambda text: "".join(f"\\\\u{each:04X}" for each in units(text)),
    "hexadecimal": lambda text: "".join(f"\\x{ord(each):02x}" if ord(each) < 256 else each for each in text),
    "Python": lambda text: "".join(f"\\U{ord(each):08x}" for each in text),
    "JavaScript": lambda text: "".join(f"\\u{{{ord(each):x}}}" for each in text),
    "HTML in percent": lambda text: octets("".join(f"&#{ord(each)};" for each in text)),
}


def units(text: str) -> list[int]:
    """Return the code units in UTF-16."""
    raw = text.encode("utf-16-be")
    return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]


#: A long text that redaction makes short, so that a cut of the result comes late in the text.
LONG_ARN = f"arn:aws:s3:::{'b' * 86} "


@st.composite
def spelled(draw: st.DrawFn) -> tuple[str, str]:
    """Return an account id and one of its spellings."""
    account_id = draw(st.text("0123456789", min_size=12, max_size=12))
    zero = ord(draw(st.sampled_from(ZEROS)))
    mixed = draw(st.booleans())
    figures = [chr(zero + int(each)) if mixed and draw(st.booleans()) else each for each in account_id]
    separator = draw(st.sampled_from(["", *SEPARATORS]))
    group = draw(st.sampled_from([1, 2, 3, 4, 6, 12]))
    escape = ESCAPES[draw(st.sampled_from(list(ESCAPES)))]
    groups = ["".join(figures[at : at + group]) for at in range(0, 12, group)]
    text = separator.join(escape(each) for each in groups)
    return account_id, text


@settings(max_examples=1000)
@given(
    spelled(), st.text(st.characters(exclude_categories=["Nd", "Nl", "No"])), st.text("abcXYZ_- .,:;'\"()[]{}<>/é中\n")
)
def test_no_account_id_survives_in_any_spelling(spelling: tuple[str, str], before: str, after: str) -> None:
    account_id, written = spelling
    # The z keeps the text before it from being part of the spelling.
    text = f"{before}z{written}{after}"

    for cleaned in (redact(text), redact_words(text)):
        assert account_id not in digits(cleaned)
        assert account_id not in digits(html.unescape(cleaned))
    assert holds_account_id(text)


@settings(max_examples=300)
@given(spelled(), st.integers(3900, 4000), st.sampled_from(["x", " ", "\u00e9", LONG_ARN, LONG_ARN.replace(" ", "_")]))
def test_a_cut_leaves_no_part_of_an_account_id(spelling: tuple[str, str], length: int, filler: str) -> None:
    account_id, written = spelling
    text = (filler * length)[:length] + " z" + written + " tail" * 1000

    cleaned = redact_words(text)

    assert len(cleaned) <= 1000
    assert account_id[:6] not in digits(cleaned)


@pytest.mark.parametrize("length", range(3975, 4001))
@pytest.mark.parametrize(("whole", "part"), [("john.doe@example.com", "john"), ("3456 7890 1234", "3456")])
def test_a_cut_leaves_no_part_of_an_address_or_an_account_id(length: int, whole: str, part: str) -> None:
    text = (LONG_ARN * 40)[:length] + f" {whole}" + " tail" * 1000

    assert part not in redact(text)


SPELLINGS = {
    "plain": (ACCOUNT, "[account]"),
    "in groups": ("3456-7890-1234", "[account]"),
    "with spaces": ("3456 7890 1234", "[account]"),
    "with dots and slashes": ("345.678/901_234", "[account]"),
    "with underscores around it": (f"acct_{ACCOUNT}_prod", "acct_[account]_prod"),
    "between letters": (f"x{ACCOUNT}y", "x[account]y"),
    "in a longer number": (f"99{ACCOUNT}99", "[account]"),
    "in quotes": (f"account '{ACCOUNT}' is", "account '[account]' is"),
    "percent": ("id=%33%34%35678901234&x", "id=[account]&x"),
    "in a URL": (f"https://{ACCOUNT}.signin.aws.amazon.com/console", "https://[account].signin.aws.amazon.com/console"),
    "an ARN": (f"on arn:aws:iam::{ACCOUNT}:user/Doe,John is denied", "on [arn] is denied"),
    "ARNs of other partitions": ("arn:aws-cn:s3:::b arn:aws-iso-b:iam::1:role/x arn:x:y", "[arn] [arn] [arn]"),
    "an ARN at the end of a sentence": ("see arn:aws:s3:::bucket.", "see [arn]."),
    "an ARN in a URL": (f"?r=arn%3Aaws%3Aiam%3A%3A{ACCOUNT}%3Auser%2Fjohn", "?r=[arn]"),
    "an ARN in a URL in a URL": (quote(quote(f"arn:aws:iam::{ACCOUNT}:user/john", safe="")), "[arn]"),
    "an ARN after a letter": ("xARN:AWS:iam::1:user/john", "x[arn]"),
    "an email address": ("by john.doe+x@example.com, today", "by [e-mail], today"),
    "an email address in a URL": ("mail=john%40example.com", "[e-mail]"),
    "an email address with a fullwidth at sign": ("by john\uff20example.com", "by [e-mail]"),
    "an email address with its name": ("From: John Doe <john@example.com> to", "From: [e-mail] to"),
    "an email address with its name in quotes": ('of "Doe, John" <john@example.com>', "of [e-mail]"),
    "an email address in quotes": ('of "john doe"@example.com', "of [e-mail]"),
    "an email address in HTML": ("john&commat;example&period;com", "[e-mail]"),
    "an email address in HTML in a URL": ("john%26commat%3Bexample.com", "[e-mail]"),
    "an ARN in JSON in a URL": ("%5Cu0061rn:aws:iam::1:user/john", "[arn]"),
    "an email address in JSON": ("\\u006aohn\\u0040example.com", "[e-mail]"),
}


@pytest.mark.parametrize(("text", "expected"), SPELLINGS.values(), ids=SPELLINGS)
def test_redaction_keeps_the_rest_of_the_text(text: str, expected: str) -> None:
    assert redact(text) == redact_words(text) == expected


ORDINARY = [
    "An error occurred (TooManyRequestsException) when calling the AttachPolicy operation (reached max retries: 4)",
    "We can't find a policy with the PolicyId p-79dea358. p-12345678, p-87654321 and p-FullAWSAccess exist.",
    "You have attached the maximum number of policies (10 of 10) to the specified target ou-a1b2-c3d4e5f6.",
    "request 3f2504e0-4f89-41d3-9a0c-0305e82c3301 (12345678-1234-4234-8234-1234567890ab) failed after 3 of 5 tries",
    "2026-11-24T12:00:00Z 2026-11-24 12:00:00.123456+00:00 2026-11-24T12:00:00.123+0100 2026-11-24",
    "Signature expired: 20261124T120000Z is now earlier than 20261124T120500Z (20261124T121000Z - 5 min.)",
    "Value 'x' at 'targetId' failed: pattern: ^(r-[0-9a-z]{4,32})|(\\d{12})|(ou-[0-9a-z]{4,32}-[a-z0-9]{8,32})$",
    "detail.responseElements.handshake.resources: must not name 2 different account ids",
    "Read timeout on endpoint URL: https://organizations.us-east-1.amazonaws.com:443/ (0.5 s, HTTP 503)",
    "member must match [\\w+=,.@-]* and learn: this",
    "o-exampleorgid h-examplehandshakeid111 100% of 50% &amp; \\u00e9 %zz",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_messages_are_not_changed(text: str) -> None:
    assert redact(text) == text
    assert not holds_account_id(text)


def test_redact_words_keeps_other_scripts() -> None:
    assert redact_words("J\u00f6rg sah 3456 7890 1234: \u8d26\u6237\u202e") == "J\u00f6rg sah [account]: \u8d26\u6237 "


def test_redacted_text_is_short_and_ascii() -> None:
    assert redact("caf\u00e9\x1b[31m\u202e" + "x" * 5000) == "caf [31m " + "x" * 990 + "~"


@given(st.uuids(version=4).map(str))
@example("12345678-1234-4123-8123-12345678901a")
@example("12345678-1234-4123-8123-123456789012")
def test_a_uuid_counts_as_an_account_id_only_if_it_ends_with_twelve_digits(event_id: str) -> None:
    assert holds_account_id(event_id) == event_id[-12:].isdecimal()


@pytest.mark.parametrize("text", ["222222222222", "event-2222-2222-2222", "by_222222222222_hand", "%32" * 12, "1" * 40])
def test_an_account_id_in_a_name_is_found(text: str) -> None:
    assert holds_account_id(text)


CODES = {
    "AccessDeniedException": "AccessDeniedException",
    "SQS.AWS.SimpleQueueService.NonExistentQueue": "SQS.AWS.SimpleQueueService.NonExistentQueue",
    "NO_PERMISSIONS": "NO_PERMISSIONS",
    "Xx" * 50: "Xx" * 50,
    "Xx" * 51: "OTHER",
    "": "OTHER",
    "Access Denied": "OTHER",
    "Access\nDenied": "OTHER",
    "AccessDenied\n": "OTHER",
    "\u202eDenied": "OTHER",
    f"E{ACCOUNT}": "OTHER",
    "E3456_7890_1234": "OTHER",
    "E\u0663": "OTHER",
}


@pytest.mark.parametrize(("code", "expected"), CODES.items(), ids=range(len(CODES)))
def test_a_code_is_one_word_or_becomes_other(code: str, expected: str) -> None:
    assert safe_code(code) == expected == fault(code, "a message").code


def test_the_message_of_a_fault_defaults_to_its_code() -> None:
    assert fault("THROTTLED", "").message == "THROTTLED"


@pytest.mark.parametrize("reason", ["TWO WORDS", f"E{ACCOUNT}", "", "x" * 129, "na\u00efve", "LIMIT\n"])
def test_a_reason_is_an_enumeration_value_or_none(reason: str) -> None:
    assert fault("X", "a message", "MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED").reason is not None
    assert fault("X", "a message", reason).reason is None


@pytest.mark.parametrize("text", ["x@y@alice.smith@corp.example", "@y@alice.smith@corp.example", "a@@alice@b"])
def test_a_word_with_several_at_signs_is_one_address(text: str) -> None:
    assert redact(f"of {text} today") == "of [e-mail] today"


@pytest.mark.parametrize(
    "code", ["MzQ1Njc4OTAxMjM0", "507c116ff2", "alice.smith", "3456x7890x1234", "p-3456", "", "A" * 101, "a b"]
)
def test_a_malformed_code_becomes_other(code: str) -> None:
    assert safe_code(code) == "OTHER"


@pytest.mark.parametrize(
    "code",
    [
        "AccessDeniedException",
        "AWSOrganizationsNotInUseException",
        "UnsupportedAPIEndpointException",
        "Throttling",
        "S3.NoSuchKey",
        "S3.403",
        "DynamoDB.UnprocessedKeys",
        "ReadTimeoutError",
        "502",
        "INVALID_EVENT",
        "UNEXPECTED",
        "NO_PERMISSIONS",
    ],
)
def test_known_codes_are_not_changed(code: str) -> None:
    assert safe_code(code) == code


@pytest.mark.parametrize("layers", range(1, 8))
def test_escapes_are_decoded_through_four_layers_and_not_more(layers: int) -> None:
    escaped = f"jane&{'amp;' * (layers - 1)}commat;example"

    assert redact(f"about {escaped}") == ("about [e-mail]" if layers <= 4 else f"about {escaped}")
