"""What is taken out of texts that others wrote before they are logged or kept: account ids, e-mail addresses, ARNs.

A text is read as a person who means to read it would: escapes are undone, and the digits of all scripts are digits.
What is found is replaced in the text as it stands. The work is bounded, and linear below that.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

#: A text as it is read, and where each of its characters begins in the text as it stands; one more for the end.
_Reading: TypeAlias = tuple[str, Sequence[int]]
#: From, to, and what to put there.
_Span: TypeAlias = tuple[int, int, str]

_MAX_MESSAGE: Final = 1000
#: More is read than is kept: a label may be shorter than what it stands for.
_MAX_READ: Final = 4 * _MAX_MESSAGE
#: Where a text is cut, so much goes at most. An e-mail address in escapes is not longer; an ARN is known by its begin.
_MAX_CUT: Final = 1000
#: A quoted local part, a display name.
_LONGEST_NAME: Final = 90
_MOST_NAMES: Final = 4
#: How many kinds of escapes may lie over each other.
_MOST_ESCAPES: Final = 4

#: `%2531` is a `1` that was escaped twice. A run of backslashes is read once, hence the look-behind.
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
#: Stands for what is found already. Never part of a reading, where it is an `a`; a letter, so that it ends all else.
_FOUND: Final = "\u00aa"
#: An ARN holds an account id and often a person's name, so it goes as a whole.
_ARN: Final = re.compile(rf"arn:[a-z0-9-]{{0,32}}:[^\s\"'<>{_FOUND}]*", re.IGNORECASE)
_WORD: Final = re.compile(r"[^\W\d_][\w.'-]*")
#: With whatever between them that is no letter.
_TWELVE_DIGITS: Final = re.compile(r"[0-9](?:[\W_]*[0-9]){11,}")
_DATE_AND_TIME: Final = re.compile(
    r"(?<![0-9])(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])[T ](?:[01][0-9]|2[0-3]):[0-5][0-9]"
    r"(?::[0-5][0-9](?:\.[0-9]{1,9})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?(?![0-9])"
)
#: Unless its last part is twelve digits. Version and variant are looked at, so that few other texts have this form.
_UUID: Final = re.compile(
    r"(?<![0-9A-Za-z])[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-(?![0-9]{12})[0-9a-f]{12}(?![0-9A-Za-z])",
    re.IGNORECASE,
)
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_LONGEST_CODE: Final = 100
#: AWS's codes (`AccessDeniedException`), ours and EventBridge's (`INVALID_EVENT`), a status; after a service, or alone.
_CODE: Final = re.compile(
    r"(?:[A-Z][A-Za-z]{0,29}[0-9]?\.){0,3}(?:(?:[A-Z]+[a-z]+)+[A-Z]*|[A-Z]+(?:_[A-Z]+)*|[0-9]{3})"
)


def redact(text: str) -> str:
    """Take account ids, e-mail addresses, ARNs and unprintable characters out of a text, and shorten it."""
    return _shortened(_UNPRINTABLE.sub(" ", _nameless(text)))


def redact_words(text: str) -> str:
    """Take account ids, e-mail addresses, ARNs and control characters out of what a person wrote, in any language."""
    return _shortened("".join(each if each.isprintable() else " " for each in _nameless(text)))


def holds_account_id(text: str) -> bool:
    """Tell whether twelve digits in a row, or with nothing but punctuation between them, are in a text."""
    return bool(_TWELVE_DIGITS.search(_without_times(_read(text)[0])))


def safe_code(code: str) -> str:
    """Return a code that is formed as AWS's or ours are, and `OTHER` for anything else."""
    return code if len(code) <= _LONGEST_CODE and _CODE.fullmatch(code) else "OTHER"


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "~"


def _nameless(text: str) -> str:
    head = _head(text)
    plain, begins = _read(head)
    parts, last = [], 0
    for begin, end, label in sorted(_spans(plain, cut=len(head) < len(text))):
        parts += [head[last : begins[begin]], label]
        last = begins[end]
    return "".join([*parts, head[last:]])


def _head(text: str) -> str:
    """Return as much of a text as is read; of the word that the cut goes through, nothing."""
    if len(text) <= _MAX_READ:
        return text
    blank = text.rfind(" ", _MAX_READ - _MAX_CUT, _MAX_READ)
    return text[: blank if blank >= 0 else _MAX_READ - _MAX_CUT]


def _read(text: str) -> _Reading:
    """Undo escapes and other ways to write a character."""
    reading: _Reading = text, range(len(text) + 1)
    for _ in range(_MOST_ESCAPES):
        if _ESCAPE.search(reading[0]) is None:
            break
        reading = _rewritten(reading, _ESCAPE, _unescaped)
    return reading if reading[0].isascii() else _rewritten(reading, _NOT_ASCII, _normalized)


def _rewritten(reading: _Reading, pattern: re.Pattern[str], rewrite: Callable[[re.Match[str]], str]) -> _Reading:
    """Replace what a pattern finds; each new character begins where the old text did."""
    plain, begins = reading
    parts: list[str] = []
    at: list[int] = []
    last = 0
    for found in pattern.finditer(plain):
        new = rewrite(found)
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
    # What is not seen (joiners, directions) or sits on another character.
    return "" if unicodedata.category(character) in {"Cf", "Mn", "Me"} else unicodedata.normalize("NFKC", character)


def _spans(plain: str, *, cut: bool) -> Iterator[_Span]:
    arns = [(each.start(), each.start() + len(each[0].rstrip(",.;:)]}")), "[arn]") for each in _ARN.finditer(plain)]
    plain = _masked(plain, arns)
    mails = list(_mails(plain))
    plain = _without_times(_masked(plain, mails))
    accounts = [(*each.span(), "[account]") for each in _TWELVE_DIGITS.finditer(plain)]
    yield from (*arns, *mails, *accounts)
    if cut:
        yield from _cut_number(_masked(plain, accounts))


def _masked(plain: str, spans: Sequence[_Span]) -> str:
    ends = [0, *(place for begin, end, _ in spans for place in (begin, end)), len(plain)]
    pieces = [plain[begin:end] for begin, end in pairwise(ends)]
    return "".join(_FOUND * len(piece) if number % 2 else piece for number, piece in enumerate(pieces))


def _without_times(plain: str) -> str:
    for pattern in (_DATE_AND_TIME, _UUID):
        plain = pattern.sub(lambda found: _FOUND * len(found[0]), plain)
    return plain


def _cut_number(plain: str) -> Iterator[_Span]:
    """Yield the digits at the end, which may be the first of an account id."""
    begin = len(plain)
    while begin and not plain[begin - 1].isalpha():
        begin -= 1
    if begin < len(plain):
        yield begin, len(plain), " "


def _mails(plain: str) -> Iterator[_Span]:
    """Yield e-mail addresses, with the name of the person before them."""
    end = 0
    at = plain.find("@")
    while at >= 0:
        begin = at
        while begin > end and _is_address(plain[begin - 1]):
            begin -= 1
        if begin == at and plain[end:at].endswith('"'):
            begin = max(plain.rfind('"', max(end, at - _LONGEST_NAME), at - 1), end)
        after = at + 1
        # All that hangs together by further at signs goes too: which of them is the address's is not known.
        while after < len(plain) and (_is_address(plain[after]) or plain[after] == "@"):
            after += 1
        if any(map(str.isalnum, plain[begin:at])) or "@" in plain[at + 1 : after]:
            named = _named_from(plain, begin, end)
            after += named < begin and plain[after : after + 1] == ">"
            yield named, after, "[e-mail]"
        end = after
        at = plain.find("@", after)


def _is_address(character: str) -> bool:
    return not (character.isspace() or character in f"@\"'<>()[],;:{_FOUND}")


def _named_from(plain: str, begin: int, end: int) -> int:
    """Return where the name before an address in angle brackets begins: something in quotes, or capitalized words."""
    if begin == end or plain[begin - 1] != "<":
        return begin
    first = max(end, begin - _LONGEST_NAME)
    before = plain[first : begin - 1].rstrip()
    if before.endswith('"'):
        quote = before.rfind('"', 0, -1)
        return first + quote if quote >= 0 else begin
    edge = len(before)
    for word in list(_WORD.finditer(before))[: -_MOST_NAMES - 1 : -1]:
        if word[0][0].islower() or before[word.end() : edge].strip():
            break
        edge = word.start()
    return first + edge if edge < len(before) else begin
