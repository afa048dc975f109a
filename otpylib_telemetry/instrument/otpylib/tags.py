"""What a message is called in telemetry: its tag, and never what is in it."""

from __future__ import annotations

import re
from typing import Any, Final

from otpylib.atom import Atom

from otpylib_telemetry.primitives.exceptions import short_name

#: The tag of an answer that came after its caller had given up.
LATE_REPLY: Final = "late_reply"

#: What may be the name of a message. Any other text is content, and content is nobody's business.
_WORD: Final = re.compile(r"[^\W\d][\w.:/-]{0,63}")

#: What ``gen_server.call`` calls its answers.
_CALL_ID: Final = re.compile(r"call_\d+_[0-9a-f]{8}")

#: Texts whose tags are remembered.
_MAX_KNOWN: Final = 10_000

_known: dict[str, str] = {}


def tag_of(payload: Any) -> str:
    """Return the tag of a message: the word it begins with, or is, or else the name of its type."""
    kind = type(payload)
    if kind is tuple and payload:
        first = payload[0]
        if type(first) is str:
            return _known.get(first) or _worded(first)
        if type(first) is Atom:
            return _known.get(first.name) or _worded(first.name)
        return "tuple"
    if kind is str:
        return _known.get(payload) or _worded(payload)
    if kind is Atom:
        return _known.get(payload.name) or _worded(payload.name)
    return short_name(kind)


def _worded(text: str) -> str:
    """Work out the tag of a text."""
    if _CALL_ID.fullmatch(text):
        return LATE_REPLY
    if not _WORD.fullmatch(text):
        return "str"
    if len(_known) >= _MAX_KNOWN:
        _known.clear()
    _known[text] = text
    return text
