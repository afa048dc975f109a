"""Which texts hold a secret, whatever they are called: only what cannot well be anything else. Pure.

Every pattern takes time in proportion to the length of the text. Nothing here is a promise: a secret may look
like anything.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from otpylib_telemetry.scrubbing.names import may_name

if TYPE_CHECKING:
    from collections.abc import Callable

#: Characters. Shorter texts hold none of these.
SHORTEST: Final = 6

#: Characters of the id of a trace, and of a UUID without hyphens.
ID_LENGTH: Final = 32

#: The least number, and the one beyond the last, that can be that of a card. Fourteen digits are a time.
LEAST_CARD: Final = 10**14
BEYOND_CARDS: Final = 10**16

#: Characters that the number of a card has at least, and those of a key of any vendor.
_LEAST_LONG: Final = 14


def is_id(text: str) -> bool:
    """Tell of a text of :data:`ID_LENGTH` characters whether it is in hexadecimal."""
    # At a third of the cost of looking at each character. Blanks would be passed over.
    try:
        return len(_from_hex(text)) == ID_LENGTH // 2
    except ValueError:
        return False


_from_hex: Final = bytes.fromhex


class Rule(NamedTuple):
    """A pattern; its group ``secret`` is the secret, or the whole match. ``accepts`` has the last word.

    It is tried only with texts that have one of ``needles`` in them, if there are any.
    """

    name: str
    pattern: re.Pattern[str]
    needles: tuple[str, ...] = ()
    accepts: Callable[[str], bool] | None = None

    def may_match(self, text: str) -> bool:
        """Tell whether it is worth trying."""
        for needle in self.needles:
            if needle in text:
                return True
        return not self.needles


def is_card(text: str) -> bool:
    """Tell whether text is the number of a payment card: issuer, length and check digit say so."""
    digits = text.replace(" ", "").replace("-", "")
    if not _ISSUERS.fullmatch(digits):
        return False
    odd, even = digits[::-1][::2], digits[::-1][1::2]
    total = sum(map(int, odd)) + sum(int(_DOUBLED[int(digit)]) for digit in even)
    return total % 10 == 0 and len(set(digits)) > 1


_DOUBLED: Final = "0246813579"

#: Visa, Mastercard, American Express, Discover, Diners Club, JCB and UnionPay, in the usual lengths.
#: Longer ones are as rare as ids that look like them are common.
_ISSUERS: Final = re.compile(
    r"4[0-9]{15}|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"
    r"|3[47][0-9]{13}|6(?:011|5[0-9]{2}|4[4-9][0-9])[0-9]{12}|3(?:0[0-5]|[689][0-9])[0-9]{11}"
    r"|35[0-9]{14}|62[0-9]{14}"
)

_NO_SECRETS: Final = frozenset(
    {"true", "false", "none", "null", "nil", "undefined", "yes", "no", "required", "missing", "invalid"}
)


def says_something(text: str) -> bool:
    """Tell whether what is in the place of a secret can be one."""
    said = text.strip().lower()
    return bool(said) and said not in _NO_SECRETS


_SCHEME: Final = re.compile(
    r"(?i:bearer|basic|digest|negotiate|ntlm|token|api-?key|bot|hawk|signature|scram\S{0,20}|aws4-\S{1,20})"
    r"[ \t]+\S|\S*[0-9]\S*\Z|\S{16,}\Z"
)


def _is_authorization(text: str) -> bool:
    """Tell whether a header's value can be one, rather than words about it."""
    return _SCHEME.match(text) is not None


def _is_cookie(text: str) -> bool:
    return "=" in text


def _is_bearer(text: str) -> bool:
    """Tell whether what stands after "Bearer" is no word."""
    return len(text) >= _LONG_BEARER or not text.isalpha()


_LONG_BEARER: Final = 24


def _is_basic(text: str) -> bool:
    """Tell whether what stands after "Basic" is a name and a password, or at least nothing like a word."""
    if len(text) % 4 == 0:
        try:
            return b":" in base64.b64decode(text, validate=True) or text.endswith("=")
        except ValueError:
            return False
    mixed = not (text.islower() or text.isupper() or text.isalpha())
    return text.endswith("=") or (mixed and len(text) >= _LONG_BASIC)


_LONG_BASIC: Final = 16


def _is_no_word(text: str) -> bool:
    return any(character.isdigit() for character in text)


#: Where a word begins: also after a line break that was written as JSON.
_AT: Final = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt]))"

_OF_A: Final = ("AKIA", "ASIA", "ABIA", "ACCA", "AIza")

#: What a text has in it that has a key in it, by a character that all of these have.
_BY_CHARACTER: Final = (
    (
        "_",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "_pat_", "k_live_", "k_test_", "whsec_", "npm_", "dop_v1_"),
    ),
    ("-", ("-----BEGIN", "sk-", "xox", "glpat-", "pypi-")),
    (".", ("eyJ", "ya29.", "SG.", "hvs.", "hvb.")),
    ("A", _OF_A),
)

_CARD: Final = re.compile(
    r"(?<![A-Za-z0-9+])(?<![0-9][.,-])"
    r"(?:[2-6][0-9]{3}(?P<sign>[ -])[0-9]{4}(?P=sign)[0-9]{4}(?P=sign)[0-9]{4}"
    r"|3[0-9]{3}(?P<other>[ -])[0-9]{6}(?P=other)[0-9]{4,5}|[2-6][0-9]{13,15})"
    r"(?![A-Za-z0-9]|[.,-][0-9])"
)

RULES: Final = (
    Rule(
        "private_key",
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            r"(?s:.*?)(?:-----END [A-Z0-9 ]{1,60}-----|\Z)"
        ),
        ("-----BEGIN",),
    ),
    Rule(
        "jwt",
        re.compile(_AT + r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*){0,3}"),
        ("eyJ",),
    ),
    Rule(
        "url_login",
        # A password may have a slash that nobody encoded; a port has none.
        re.compile(
            r"(?<=://)(?P<secret>[^\s/?#'\"<>@:]{0,256}:"
            r"(?:[^\s/?#'\"<>]{1,512}|(?![0-9]{1,5}/)[^\s?#'\"<>@]{1,128}))(?=@)"
        ),
        ("://",),
    ),
    Rule("url_login", re.compile(r"(?<=://)[A-Za-z0-9_-]{16,}(?=@)"), ("://",), _is_no_word),
    Rule(
        "vendor_key",
        re.compile(
            _AT + r"(?:A(?:KI|SI|BI|CC)A[A-Z0-9]{16}(?![A-Za-z0-9])|gh[pousr]_[A-Za-z0-9]{20,}"
            r"|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}"
            r"|sk-(?=[A-Za-z_-]{0,40}[0-9])[A-Za-z0-9_-]{16,}"
            r"|[prs]k_(?:live|test)_[A-Za-z0-9]{14,}|whsec_[A-Za-z0-9+/=]{16,}"
            r"|xox[abeoprs]-[A-Za-z0-9-]{10,}|AIza[A-Za-z0-9_-]{30,}"
            r"|ya29\.[A-Za-z0-9_-]{16,}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|npm_[A-Za-z0-9]{30,}"
            r"|pypi-[A-Za-z0-9_-]{16,}|hv[sb]\.[A-Za-z0-9_-]{20,}|dop_v1_[a-f0-9]{40,})"
        ),
        tuple(needle for _, needles in _BY_CHARACTER for needle in needles),
    ),
    Rule(
        "cookie",
        re.compile(_AT + r"(?i:set-)?(?i:cookie):[ \t]{0,4}(?P<secret>[^\r\n\"'{}]+)"),
        ("ookie:", "OOKIE:"),
        _is_cookie,
    ),
    Rule(
        "authorization",
        re.compile(_AT + r"(?i:(?:proxy-)?authorization):[ \t]{0,4}(?P<secret>[^\r\n\"'{}]+)"),
        ("uthorization:", "UTHORIZATION:"),
        _is_authorization,
    ),
    Rule(
        "authorization",
        re.compile(_AT + r"(?i:bearer)[ \t]{1,8}(?P<secret>[^\s,;'\"<>]{6,})"),
        ("earer", "EARER"),
        _is_bearer,
    ),
    Rule(
        "authorization",
        re.compile(_AT + r"(?i:basic)[ \t]{1,8}(?P<secret>[A-Za-z0-9+/]{4,}={0,2})(?![\w=-])"),
        ("asic", "ASIC"),
        _is_basic,
    ),
    Rule("card", _CARD, (), is_card),
)

#: Where the number of a card may begin.
_DIGITS: Final = re.compile(r"[2-6][0-9]{3}[ -]?[0-9]{4}")


def may_hold(text: str) -> bool:
    """Tell of a text of :data:`SHORTEST` characters or more whether any pattern could find anything."""
    if text.isalnum():
        return len(text) >= _LEAST_LONG and (text.isdecimal() or text.startswith(_OF_A))
    size = len(text)
    if size == _UUID and text[8] == "-" == text[23] and is_id(text.replace("-", "")):
        return False
    if "=" in text or ":" in text:
        if may_name(small := text.lower()) or ("@" in text and "://" in text):
            return True
        if "bearer" in small or "basic" in small:
            return True
    elif " " in text or "\t" in text:
        small = text.lower()
        if "bearer" in small or "basic" in small or ("-" in text and may_name(small)):
            return True
    return size >= _LEAST_LONG and _may_hold_key(text)


_UUID: Final = 36


def _may_hold_key(text: str) -> bool:
    for character, needles in _BY_CHARACTER:
        if character in text:
            for needle in needles:
                if needle in text:
                    return True
    return _DIGITS.search(text) is not None
