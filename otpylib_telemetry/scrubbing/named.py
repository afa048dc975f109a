"""What stands in a text after the name of a secret: in a query, a setting, an object as text. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from otpylib_telemetry.scrubbing.values import says_something

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otpylib_telemetry.scrubbing.keys import Judged

#: What is before a sign and what comes after it, where a name stands before a value: in a query, in an object
#: that was written as text, in a setting. What is before it is read backwards.
_BEFORE: Final = re.compile(r"[ \t]{0,4}([\"']\\{0,15})?([\w-]{3,64})(?![\w-])")
_AFTER: Final = re.compile(r"[ \t]{0,4}(?:(\\{0,15}[\"'])((?:(?!\1)[^\r\n])*)|([^\s,;&)}\]\"'<>]+))")
_SIGN: Final = re.compile("[=:]")

#: What begins no secret: a placeholder, a structure, a call.
_NO_VALUE: Final = re.compile(r"[{\[(*$%]|[A-Za-z_][\w.]{0,80}[(\[]")

#: On a command line: "--password hunter2".
_OPTION: Final = re.compile(r"(?<!\S)--?([A-Za-z][\w-]{1,62})[ \t]{1,4}([^\s'\"-][^\s'\"]*)")

#: Words that are often followed by a colon and something else: "unexpected token: }".
_NOT_BEFORE_COLON: Final = frozenset({"token", "authorization", "cookie", "credential", "card"})


class Named(NamedTuple):
    """Where in a text the value of a name is."""

    judged: Judged
    start: int
    end: int


def named_values(text: str, judge: Callable[[str], Judged]) -> Iterator[Named]:
    """Yield what stands in a text after names of secrets."""
    end = 0
    for sign in _SIGN.finditer(text):
        at = sign.start()
        if at < end:
            continue
        before = _BEFORE.match(text[max(0, at - _REACH) : at][::-1])
        if before is None:
            continue
        judged = judge(before[2][::-1])
        in_words = sign[0] == ":" and before[1] is None
        if judged.rule is None or (in_words and _means_else(judged)):
            continue
        # A glance first, so that what is none of many is not read to its end each time.
        seen = _AFTER.match(text, sign.end(), sign.end() + _GLANCE)
        if seen is None or (seen[3] is not None and _is_none(judged, seen[3])):
            continue
        if in_words and seen[3] is not None and _is_said(seen[3], text[seen.end() : seen.end() + 1]):
            continue
        after = _AFTER.match(text, sign.end()) or seen
        bare = after[3]
        group = 2 if bare is None else 3
        if after[group]:
            end = after.end(group)
            yield Named(judged, after.start(group), end)


def option_values(text: str, judge: Callable[[str], Judged]) -> Iterator[Named]:
    """Yield what stands in a command line after options that are names of secrets."""
    for option in _OPTION.finditer(text):
        if (judged := judge(option[1])).rule is not None:
            yield Named(judged, option.start(2), option.end(2))


def option_name(text: str) -> str | None:
    """Return the name that an option of a command line has whose value is the next word."""
    return text.lstrip("-") if text.startswith("-") and "=" not in text else None


def _means_else(judged: Judged) -> bool:
    """Tell whether a name before a colon may be a word of a sentence."""
    return judged.is_loose or judged.is_own or judged.rule in _NOT_BEFORE_COLON


def _is_none(judged: Judged, bare: str) -> bool:
    """Tell whether what stands in the place of a secret, without quotation marks, is none."""
    return (
        (judged.is_loose and bare.isdecimal())
        or not says_something(bare)
        or _NO_VALUE.match(bare) is not None
    )


def _is_said(word: str, after: str) -> bool:
    """Tell whether a word after "password:" goes on as a sentence does."""
    return word.isalpha() and after == " "


#: Characters before a sign in which a name is looked for, and after it in which it is seen what is there.
_REACH: Final = 88
_GLANCE: Final = 300
