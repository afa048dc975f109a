"""What travels beside a ``traceparent``: ``tracestate`` and ``baggage``, as their headers have them.

The rules are those of the W3C recommendations "Trace Context" (section 3.3) and "Baggage" (section 3), with
the limits of OpenTelemetry's propagators. What breaks them is as good as absent. Nothing here raises, and all
of it takes time in proportion to the length of a header that is no longer than it may be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote_plus

#: Longest ``tracestate`` as it comes, and most members of one. The standard asks for 512 characters at least.
_MAX_STATE: Final = 8192
_MAX_STATE_MEMBERS: Final = 32

#: Longest ``baggage`` and longest member of one, in bytes; most members.
_MAX_BAGGAGE: Final = 8192
_MAX_BAGGAGE_MEMBER: Final = 4096
_MAX_BAGGAGE_MEMBERS: Final = 180

#: How many values of one header are read.
_MAX_VALUES: Final = 512

_BLANKS: Final = " \t"

_STATE_MEMBER: Final = re.compile(
    r"([a-z0-9][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - the grammar's word
_BAGGAGE_KEY: Final = re.compile(_TOKEN)
#: Printable, but for blanks, quotes, commas, semicolons and backslashes.
_BAGGAGE_VALUE: Final = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
_PROPERTY: Final = re.compile(
    # Blanks can be matched in one way only, or a long row of them would take the square of its length.
    rf"[ \t]*{_TOKEN}[ \t]*(=[ \t]*([\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+[ \t]*)?)?"
)

#: What a name and a value may hold as it is: see above, less the percent sign and the plus, which stands for
#: a blank.
_UNQUOTED_NAME: Final = "!#$&'*-.^_`|~"
_UNQUOTED: Final = _UNQUOTED_NAME + "()/:<=>?@[]{}"


def header_text(value: Any) -> str:
    """Return the value of a header as text: bytes are read, and several values joined, as HTTP has it."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]  # `kind` says what it is
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, bytes | bytearray):
        return bytes(value).decode("latin-1")
    if kind is list or kind is tuple:
        return ",".join([header_text(one) for one in value[:_MAX_VALUES] if type(one) not in {list, tuple}])
    return ""


def read_tracestate(value: Any) -> str:
    """Return a ``tracestate`` as it goes on; empty if it breaks the rules, and then as a whole."""
    header = header_text(value)
    if not header or len(header) > _MAX_STATE:
        return ""
    members: dict[str, str] = {}
    for part in header.split(","):
        member = part.strip(_BLANKS)
        if not member:
            continue
        match = _STATE_MEMBER.fullmatch(member)
        if match is None or match[1] in members:
            return ""
        members[match[1]] = member
    return ",".join(members.values()) if len(members) <= _MAX_STATE_MEMBERS else ""


def read_baggage(value: Any) -> str:
    """Return ``baggage`` as it goes on, less the members that break the rules.

    A header that is too long is left out as a whole. A mapping becomes a header: of names to values.
    """
    try:
        if issubclass(type(value), Mapping):
            return baggage_of(value, "")
        header = header_text(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a mapping of the caller's, or what is in it
        return ""
    return _header(_members(header)) if header and len(header) <= _MAX_BAGGAGE else ""


def merge_baggage(outer: str, inner: str) -> str:
    """Return the baggage of two headers: of a name that both have, what the inner says."""
    if not outer or not inner or outer == inner:
        return inner or outer
    return _header(_members(outer) | _members(inner))


def baggage_values(header: str) -> dict[str, str]:
    """Return what baggage says, by name, as OpenTelemetry's propagator reads it."""
    return {
        unquote_plus(name).strip(): unquote_plus(member).strip() for name, member in _members(header).items()
    }


def baggage_of(values: Mapping[str, object], known: str) -> str:
    """Write baggage; what ``known`` says as well stays as it is there, with its properties."""
    try:
        before = _members(known)
        members: dict[str, str] = {}
        for key, value in values.items():
            name = quote(str(key), safe=_UNQUOTED_NAME)
            same = name in before and unquote_plus(before[name]).strip() == value
            members[name] = before[name] if same else quote(str(value), safe=_UNQUOTED)
        return _header(members)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - values of the application's own classes
        return known


def _members(header: str) -> dict[str, str]:
    """Return the members of a header that keep to the rules: the last of each name."""
    found: dict[str, str] = {}
    for member in header.split(","):
        name, equals, value = member.strip(_BLANKS).partition("=")
        name, value = name.rstrip(_BLANKS), value.strip(_BLANKS)
        if equals and _keeps_to_the_rules(name, value):
            found[name] = value
    return found


def _keeps_to_the_rules(name: str, value: str) -> bool:
    if _BAGGAGE_KEY.fullmatch(name) is None:
        return False
    first, *properties = value.split(";")
    return _BAGGAGE_VALUE.fullmatch(first.rstrip(_BLANKS)) is not None and all(
        _PROPERTY.fullmatch(one) for one in properties
    )


def _header(members: Mapping[str, str]) -> str:
    """Write members, as many as there may be."""
    kept: list[str] = []
    length = -1
    for name, value in members.items():
        member = f"{name}={value}"
        if len(member) > _MAX_BAGGAGE_MEMBER or _BAGGAGE_KEY.fullmatch(name) is None:
            continue
        length += 1 + len(member)
        if length > _MAX_BAGGAGE or len(kept) == _MAX_BAGGAGE_MEMBERS:
            break
        kept.append(member)
    return ",".join(kept)
