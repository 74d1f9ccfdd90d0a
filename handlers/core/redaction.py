"""Remove account ids, e-mail addresses and ARNs from texts of others before they are logged or stored.

The search runs on a decoded copy of the text, in which escapes are replaced by their characters and the digits of all
scripts by ASCII digits. The finds are then replaced in the original text. The time is linear in the length of the text,
and `redact` and `redact_words` read at most 4,000 characters.
"""

import re
import traceback
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

#: A decoded text, and the position in the original text of each of its characters and of the end.
_Decoded: TypeAlias = tuple[str, Sequence[int]]
#: Start, end, and the replacement.
_Span: TypeAlias = tuple[int, int, str]

_MAX_MESSAGE: Final = 1000
#: More is read than is returned, because a replacement can be shorter than the original.
_MAX_READ: Final = 4 * _MAX_MESSAGE
#: The longest word at the end of a text that is removed if the text is cut there. An escaped e-mail address is not
#: longer, and an ARN is found by its first characters.
_MAX_CUT: Final = 1000
#: The longest quoted local part or display name.
_MAX_NAME: Final = 90
_MAX_NAME_WORDS: Final = 4
#: The number of layers of escapes that are decoded.
_MAX_LAYERS: Final = 4

#: `%2531` is a `1` that was escaped twice. The look-behind makes sure that a run of backslashes is read only once.
_ESCAPE: Final = re.compile(
    r"""(?P<octets>(?:%(?:25)*[89A-F][0-9A-F])+)
    | %(?:25)*(?P<octet>[0-7][0-9A-F])
    | %U(?P<wide>[0-9A-F]{4})
    | &\#0*(?P<decimal>[0-9]{1,7});?
    | &\#X0*(?P<entity>[0-9A-F]{1,6});?
    | &(?P<name>[A-Z]{2,6});
    | (?<!\\)\\++U(?P<high>D[89AB][0-9A-F]{2})\\++U(?P<low>D[C-F][0-9A-F]{2})
    | (?<!\\)\\++(?-i:U)00(?P<long>[01][0-9A-F]{5})
    | (?<!\\)\\++U(?P<unicode>[0-9A-F]{4})
    | (?<!\\)\\++U\{0*(?P<braced>[0-9A-F]{1,6})\}
    | (?<!\\)\\++X(?P<byte>[0-9A-F]{2})""",
    re.IGNORECASE | re.VERBOSE,
)
_ENTITIES: Final = {
    "amp": "&",
    "apos": "'",
    "bsol": "\\",
    "colon": ":",
    "comma": ",",
    "commat": "@",
    "dash": "-",
    "gt": ">",
    "hyphen": "-",
    "lowbar": "_",
    "lt": "<",
    "nbsp": " ",
    "num": "#",
    "percnt": "%",
    "period": ".",
    "quot": '"',
    "shy": "",
    "sol": "/",
}
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
#: Masks earlier finds. It never occurs in decoded text, where normalization turns it into an `a`. As a letter it ends a
#: run of digits.
_MASK: Final = "\u00aa"
#: The whole ARN, because it holds an account id and often the name of a person.
_ARN: Final = re.compile(rf"arn:[a-z0-9-]{{0,32}}:[^\s\"'<>{_MASK}]*", re.IGNORECASE)
_WORD: Final = re.compile(r"[^\W\d_][\w.'-]*")
#: With any characters between them, except letters.
_TWELVE_DIGITS: Final = re.compile(r"[0-9](?:[\W_]*[0-9]){11,}")
_DATE_AND_TIME: Final = re.compile(
    r"(?<![0-9])(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])[T ](?:[01][0-9]|2[0-3]):[0-5][0-9]"
    r"(?::[0-5][0-9](?:\.[0-9]{1,9})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?(?![0-9])"
)
#: The last part must not be twelve digits. Version and variant must be valid, so that few other texts match.
_UUID: Final = re.compile(
    r"(?<![0-9A-Za-z])[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-(?![0-9]{12})[0-9a-f]{12}(?![0-9A-Za-z])",
    re.IGNORECASE,
)
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_MAX_CODE: Final = 100
#: AWS's codes (`AccessDeniedException`), our own and EventBridge's (`INVALID_EVENT`), or an HTTP status; with or
#: without the service in front.
_CODE: Final = re.compile(
    r"(?:[A-Z][A-Za-z]{0,29}[0-9]?\.){0,3}(?:(?:[A-Z]+[a-z]+)+[A-Z]*|[A-Z]+(?:_[A-Z]+)*|[0-9]{3})"
)


def redact(text: str) -> str:
    """Remove account ids, e-mail addresses and ARNs from a text, keep printable ASCII only, and shorten the text."""
    return _shortened(_UNPRINTABLE.sub(" ", _redacted(text)))


def redact_words(text: str) -> str:
    """Remove account ids, e-mail addresses, ARNs and control characters from prose in any language, and shorten it."""
    return _shortened("".join(each if each.isprintable() else " " for each in _redacted(text)))


def holds_account_id(text: str) -> bool:
    """Return whether a text holds twelve digits in a row, or with only punctuation between them."""
    return bool(_TWELVE_DIGITS.search(_without_times(_decoded(text)[0])))


def described(error: BaseException) -> str:
    """Return the class and the message of an error, and where it was raised; a traceback may hold account ids."""
    *_, frame = traceback.extract_tb(error.__traceback__) or [None]
    where = f" at {frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" if frame else ""
    return f"{type(error).__name__}: {redact(str(error))}{where}"


def safe_code(code: str) -> str:
    """Return a code in the form of AWS's or our own codes; `OTHER` for anything else."""
    return code if len(code) <= _MAX_CODE and _CODE.fullmatch(code) else "OTHER"


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "~"


def _redacted(text: str) -> str:
    head = _head(text)
    plain, begins = _decoded(head)
    parts, last = [], 0
    for begin, end, label in sorted(_spans(plain, cut=len(head) < len(text))):
        parts += [head[last : begins[begin]], label]
        last = begins[end]
    return "".join([*parts, head[last:]])


def _head(text: str) -> str:
    """Return the part of a text that is read. It ends before the word in which the text is cut."""
    if len(text) <= _MAX_READ:
        return text
    blank = text.rfind(" ", _MAX_READ - _MAX_CUT, _MAX_READ)
    return text[: blank if blank >= 0 else _MAX_READ - _MAX_CUT]


def _decoded(text: str) -> _Decoded:
    """Decode escapes, and normalize characters."""
    decoded: _Decoded = text, range(len(text) + 1)
    for _ in range(_MAX_LAYERS):
        if _ESCAPE.search(decoded[0]) is None:
            break
        decoded = _substituted(decoded, _ESCAPE, _unescaped)
    return decoded if decoded[0].isascii() else _substituted(decoded, _NOT_ASCII, _normalized)


def _substituted(decoded: _Decoded, pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str]) -> _Decoded:
    """Replace the matches of a pattern; each new character gets the position of the match."""
    plain, begins = decoded
    parts: list[str] = []
    at: list[int] = []
    last = 0
    for found in pattern.finditer(plain):
        new = replace(found)
        parts += [plain[last : found.start()], new]
        at += begins[last : found.start()]
        at += [begins[found.start()]] * len(new)
        last = found.end()
    return "".join([*parts, plain[last:]]), [*at, *begins[last:]]


def _unescaped(found: re.Match[str]) -> str:
    kind = found.lastgroup or ""
    value = found[kind]
    if kind == "octets":
        return bytes.fromhex(re.sub("%(?:25)*", "", value)).decode(errors="replace")
    if kind == "name":
        return _ENTITIES.get(value.lower(), found[0])
    if kind == "low":
        return chr(0x10000 + (int(found["high"], 16) - 0xD800) * 0x400 + int(value, 16) - 0xDC00)
    number = int(value, 10 if kind == "decimal" else 16)
    return chr(number) if number <= 0x10FFFF else "\ufffd"  # noqa: PLR2004 - the end of Unicode


def _normalized(found: re.Match[str]) -> str:
    character = found[0]
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    # Invisible characters (joiners, text direction) and combining marks.
    return "" if unicodedata.category(character) in {"Cf", "Mn", "Me"} else unicodedata.normalize("NFKC", character)


def _spans(plain: str, *, cut: bool) -> Iterator[_Span]:
    arns = [(each.start(), each.start() + len(each[0].rstrip(",.;:)]}")), "[arn]") for each in _ARN.finditer(plain)]
    plain = _masked(plain, arns)
    addresses = list(_email_addresses(plain))
    plain = _without_times(_masked(plain, addresses))
    accounts = [(*each.span(), "[account]") for each in _TWELVE_DIGITS.finditer(plain)]
    yield from (*arns, *addresses, *accounts)
    if cut:
        yield from _digits_at_end(_masked(plain, accounts))


def _masked(plain: str, spans: Sequence[_Span]) -> str:
    ends = [0, *(position for begin, end, _ in spans for position in (begin, end)), len(plain)]
    pieces = [plain[begin:end] for begin, end in pairwise(ends)]
    return "".join(_MASK * len(piece) if number % 2 else piece for number, piece in enumerate(pieces))


def _without_times(plain: str) -> str:
    for pattern in (_DATE_AND_TIME, _UUID):
        plain = pattern.sub(lambda found: _MASK * len(found[0]), plain)
    return plain


def _digits_at_end(plain: str) -> Iterator[_Span]:
    """Yield the digits at the end of a cut text, which may be the first digits of an account id."""
    begin = len(plain)
    while begin and not plain[begin - 1].isalpha():
        begin -= 1
    if begin < len(plain):
        yield begin, len(plain), " "


def _email_addresses(plain: str) -> Iterator[_Span]:
    """Yield e-mail addresses, each with the display name before it."""
    end = 0
    at = plain.find("@")
    while at >= 0:
        begin = at
        while begin > end and _is_address(plain[begin - 1]):
            begin -= 1
        if begin == at and plain[end:at].endswith('"'):
            begin = max(plain.rfind('"', max(end, at - _MAX_NAME), at - 1), end)
        after = at + 1
        # If more at signs follow directly, any of them may be that of the address, so all of this is removed.
        while after < len(plain) and (_is_address(plain[after]) or plain[after] == "@"):
            after += 1
        if any(map(str.isalnum, plain[begin:at])) or "@" in plain[at + 1 : after]:
            name_start = _display_name_start(plain, begin, end)
            after += name_start < begin and plain[after : after + 1] == ">"
            yield name_start, after, "[e-mail]"
        end = after
        at = plain.find("@", after)


def _is_address(character: str) -> bool:
    return not (character.isspace() or character in f"@\"'<>()[],;:{_MASK}")


def _display_name_start(plain: str, begin: int, end: int) -> int:
    """Return the start of the display name of an address in angle brackets; that of the address if it has none.

    A display name is a quoted string or capitalized words. `end` is the end of the previous address.
    """
    if begin == end or plain[begin - 1] != "<":
        return begin
    first = max(end, begin - _MAX_NAME)
    before = plain[first : begin - 1].rstrip()
    if before.endswith('"'):
        quote = before.rfind('"', 0, -1)
        return first + quote if quote >= 0 else begin
    edge = len(before)
    for word in list(_WORD.finditer(before))[: -_MAX_NAME_WORDS - 1 : -1]:
        if word[0][0].islower() or before[word.end() : edge].strip():
            break
        edge = word.start()
    return first + edge if edge < len(before) else begin
