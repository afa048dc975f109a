"""Which texts hold a secret, whatever they are called. Pure.

Every pattern takes time in proportion to the length of the text. Nothing here is a promise: a secret may look
like anything.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Characters. Shorter texts hold none of these.
SHORTEST: Final = 8

#: Characters of the id of a trace, and of a UUID without hyphens.
ID_LENGTH: Final = 32

#: The least number that can be that of a card.
LEAST_CARD: Final = 10**11


class Rule(NamedTuple):
    """A pattern; its group 1 is the secret, or the whole match. ``accepts`` has the last word.

    It is tried only with texts that have one of ``needles`` in them, or where ``hint`` finds something.
    """

    name: str
    pattern: re.Pattern[str]
    needles: tuple[str, ...]
    hint: re.Pattern[str] | None = None
    accepts: Callable[[str], bool] | None = None

    def may_match(self, text: str) -> bool:
        """Tell whether it is worth trying."""
        for needle in self.needles:
            if needle in text:
                return True
        return self.hint is not None and self.hint.search(text) is not None


def is_card(text: str) -> bool:
    """Tell whether text is the number of a payment card: issuer, length and check digit say so."""
    digits = text.replace(" ", "").replace("-", "")
    if not _ISSUERS.fullmatch(digits):
        return False
    odd, even = digits[::-1][::2], digits[::-1][1::2]
    total = sum(map(int, odd)) + sum(int(_DOUBLED[int(digit)]) for digit in even)
    return total % 10 == 0 and len(set(digits)) > 1


_DOUBLED: Final = "0246813579"

#: Visa, Mastercard, American Express, Discover, Diners Club, JCB, UnionPay, Maestro.
_ISSUERS: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|3(?:0[0-5]|[689]\d)\d{11}|35\d{14}|62\d{14}|(?:50|5[6-8]|63|67)\d{14}"
)

_NO_SECRETS: Final = frozenset(
    {"true", "false", "none", "null", "nil", "undefined", "yes", "no", "required", "missing", "invalid"}
)


def says_something(text: str) -> bool:
    """Tell whether what is in the place of a secret can be one."""
    said = text.strip().lower()
    return bool(said) and said not in _NO_SECRETS


#: Where a word begins: also after a line break that was written as JSON.
_AT: Final = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"

#: What a key of any vendor has, and few other texts.
_RUN: Final = re.compile(r"[A-Za-z0-9]{14}")
_TWELVE: Final = re.compile(r"[0-9][0-9 -]{10}[0-9]")
_GROUPS: Final = re.compile(r"[0-9]{4}-[0-9]{4}")
_DASHED: Final = ("sk-", "xox", "glpat-", "pypi-", "-----BEGIN")
_STARTS: Final = ("AKIA", "ASIA", "ABIA", "ACCA", "AIza")

RULES: Final = (
    Rule(
        "private_key",
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[^-]*(?:-----END [A-Z0-9 ]{1,60}-----)?"
        ),
        ("-----BEGIN",),
    ),
    Rule(
        "jwt",
        re.compile(_AT + r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*){0,3}"),
        ("eyJ",),
    ),
    Rule("url_login", re.compile(r"(?<=://)([^\s/?#'\"<>]+)(?=@)"), ("://",)),
    Rule(
        "vendor_key",
        re.compile(
            _AT + r"(?:A(?:KI|SI|BI|CC)A[A-Z0-9]{16}(?![A-Za-z0-9])|gh[pousr]_[A-Za-z0-9]{20,}"
            r"|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|sk-[A-Za-z0-9_-]{16,}"
            r"|[sr]k_(?:live|test)_[A-Za-z0-9]{14,}|xox[abeoprs]-[A-Za-z0-9-]{10,}|AIza[A-Za-z0-9_-]{30,}"
            r"|ya29\.[A-Za-z0-9_-]{16,}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|npm_[A-Za-z0-9]{30,}"
            r"|pypi-[A-Za-z0-9_-]{16,}|hv[sb]\.[A-Za-z0-9_-]{20,}|dop_v1_[a-f0-9]{40,})"
        ),
        (
            *(
                "AKIA",
                "ASIA",
                "ABIA",
                "ACCA",
                "ghp_",
                "gho_",
                "ghu_",
                "ghs_",
                "ghr_",
                "_pat_",
                "glpat-",
                "sk-",
            ),
            *(
                "k_live_",
                "k_test_",
                "xox",
                "AIza",
                "ya29.",
                "SG.",
                "npm_",
                "pypi-",
                "hvs.",
                "hvb.",
                "dop_v1_",
            ),
        ),
    ),
    Rule(
        "cookie",
        re.compile(_AT + r"(?:[Ss]et-|SET-)?(?:[Cc]ookie|COOKIE):[ \t]{0,4}([^\r\n\"'{}]+)"),
        ("ookie:", "OOKIE:"),
        accepts=says_something,
    ),
    Rule(
        "authorization",
        re.compile(_AT + r"(?:[Aa]uthorization|AUTHORIZATION):[ \t]{0,4}([^\r\n\"'{}]+)"),
        ("uthorization:", "UTHORIZATION:"),
        accepts=says_something,
    ),
    Rule(
        "authorization",
        re.compile(
            _AT + r"(?:[Bb]earer|BEARER|[Bb]asic|BASIC)[ \t]{1,8}"
            r"((?=[^\s,;'\"<>]{0,256}[\d=+/._~])[^\s,;'\"<>]{6,}|[^\s,;'\"<>]{16,})"
        ),
        ("earer ", "EARER ", "asic ", "ASIC "),
    ),
    Rule(
        "card",
        re.compile(r"(?<![\w+-])(?<![0-9]\.)[0-9](?:[ -]?[0-9]){11,18}(?!\w|[.-][0-9])"),
        (),
        _TWELVE,
        is_card,
    ),
)

#: What is before a sign and what comes after it, where a name stands before a value: in a query, in an object
#: that was written as text, in a setting. What is before it is read backwards.
_BEFORE: Final = re.compile(r"[ \t]{0,4}([\"']\\{0,15})?([\w-]{3,64})(?![\w-])")
_AFTER: Final = re.compile(r"[ \t]{0,4}(?:(\\{0,15}[\"'])((?:(?!\1)[^\r\n])*)|([^\s,;&)}\]\"'<>]+))")
_SIGN: Final = re.compile("[=:]")

#: Words that are often followed by a colon and something else: "unexpected token: }".
_NOT_BEFORE_COLON: Final = frozenset({"token", "authorization", "cookie"})


def may_hold(text: str) -> bool:
    """Tell of a text of :data:`SHORTEST` characters or more whether any pattern could find anything."""
    if text.isalnum():
        return text.isdecimal() or text.startswith(_STARTS)
    if ":" in text or "=" in text or " " in text:
        return True
    for dashed in _DASHED:
        if dashed in text:
            return True
    joined = text.replace("-", "")
    if joined.isalnum() and not joined.isdecimal():
        # As UUIDs are.
        return False
    return _RUN.search(text) is not None or _GROUPS.search(text) is not None


def named_values(text: str, judged: Callable[[str], tuple[str | None, bool]]) -> Iterator[Named]:
    """Yield what stands in a text after names of secrets.

    ``judged`` tells the rule by which a name is one, and whether a number is no secret of this name.
    """
    end = 0
    for sign in _SIGN.finditer(text):
        at = sign.start()
        if at < end:
            continue
        before = _BEFORE.match(text[max(0, at - _REACH) : at][::-1])
        if before is None:
            continue
        name = before[2][::-1]
        rule, many = judged(name)
        if rule is None or (after := _AFTER.match(text, sign.end())) is None:
            continue
        bare = after[3]
        if bare is not None and (
            many
            or not says_something(bare)
            or bare[0] in "{[(*$"
            or (sign[0] == ":" and before[1] is None and rule in _NOT_BEFORE_COLON)
        ):
            continue
        group = 2 if bare is None else 3
        if after[group]:
            end = after.end(group)
            yield Named(name, after.start(group), end)


class Named(NamedTuple):
    """Where in a text the value of a name is."""

    name: str
    start: int
    end: int


_REACH: Final = 88
