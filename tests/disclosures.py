"""Search bytes for account ids, e-mail addresses and ARNs, in any spelling.

It is independent of handlers/core/redaction.py, whose work it checks. It decodes a text in every way that it knows,
again and again, and looks for the ids and names that a test used.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import html
import re
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, unquote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How many times the results of decoding are decoded again.
_LAYERS: Final = 5
#: The first bytes of a gzip stream.
_GZIP: Final = b"\x1f\x8b"
#: With and without slashes, which are also between the parts of a key.
_BASE64: Final = (re.compile(r"[A-Za-z0-9+/]{12,}={0,2}"), re.compile(r"[A-Za-z0-9_-]{12,}={0,2}"))
_HEXADECIMAL: Final = re.compile(r"(?:[0-9A-Fa-f]{2}){12,}")
_ARN: Final = re.compile(r"arn:[a-z-]*:", re.IGNORECASE)
_ESCAPES: Final = (
    re.compile(r"\\+u\{?([0-9A-Fa-f]{4,6})\}?"),
    re.compile(r"\\+x([0-9A-Fa-f]{2})"),
)


@dataclass(frozen=True)
class Disclosures:
    """The ids and names that must occur nowhere."""

    account_ids: frozenset[str]
    #: Parts of names and e-mail addresses, in lower case.
    names: frozenset[str]

    def find(self, raw: bytes) -> list[str]:
        """Return what the bytes disclose, as short descriptions; nothing if they disclose nothing."""
        return sorted({found for text in readings(raw) for found in self._find(text)})

    def _find(self, text: str) -> Iterator[str]:
        # Letters and digits end an id; nothing else does.
        for run in re.split(r"[^\W0-9_]+", text):
            digits = re.sub(r"[^0-9]", "", run)
            yield from (f"account id {each}" for each in self.account_ids if each in digits)
        lower = text.lower()
        yield from (f"name {each}" for each in self.names if each in lower)
        yield from (f"ARN {found[0]}" for found in _ARN.finditer(text))


def readings(raw: bytes) -> Iterator[str]:
    """Yield the text of the bytes, and each text that some way of decoding makes of it."""
    texts = {_text(raw)}
    seen: set[str] = set()
    for _ in range(_LAYERS):
        new = texts - seen
        yield from new
        seen |= new
        texts = {decoded for text in new for decoded in _decoded(text)}
    yield from texts - seen


def _text(raw: bytes) -> str:
    if raw.startswith(_GZIP):
        with suppress(OSError, EOFError):
            raw = gzip.decompress(raw)
    return raw.decode(errors="replace")


def _decoded(text: str) -> Iterator[str]:
    yield _plain(text)
    yield unquote(text)
    yield unquote_plus(text)
    yield html.unescape(text)
    unescaped = text
    for escape in _ESCAPES:
        unescaped = escape.sub(lambda found: _character(int(found[1], 16)), unescaped)
    # Pairs of surrogates become one character.
    yield unescaped.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    for token in {token for form in (*_BASE64, _HEXADECIMAL) for token in form.findall(text)}:
        yield from _of_token(token)


def _plain(text: str) -> str:
    """Return the text with digits of all scripts as ASCII, in one form, and without invisible characters."""
    kept = (each for each in unicodedata.normalize("NFKC", text) if unicodedata.category(each) not in {"Cf", "Mn"})
    return "".join(str(unicodedata.digit(each)) if unicodedata.digit(each, None) is not None else each for each in kept)


def _character(number: int) -> str:
    return chr(number) if number <= 0x10FFFF else ""


def _of_token(token: str) -> Iterator[str]:
    """Yield what a word means in base64 and in hexadecimal, if that is text or compressed text."""
    standard = token.rstrip("=").translate(str.maketrans("-_", "+/"))
    candidates = []
    with suppress(binascii.Error):
        candidates.append(base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True))
    if _HEXADECIMAL.fullmatch(token):
        candidates.append(bytes.fromhex(token))
    for raw in candidates:
        if raw.startswith(_GZIP):
            yield _text(raw)
        else:
            try:
                yield raw.decode()
            except UnicodeDecodeError:
                continue
