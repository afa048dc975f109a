"""W3C trace context: what a trace id, a span id and a ``traceparent`` are, and new ones of them.

The rules are those of the W3C recommendation "Trace Context" (https://www.w3.org/TR/trace-context/, sections
3.2 and 4.3). Ids travel as lower-case hexadecimal text and are computed with as integers.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from binascii import unhexlify
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from otpylib_telemetry.primitives.fork import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Callable


_TRACE_ID_BYTES: Final = 16

_SPAN_ID_BYTES: Final = 8


#: Four fields of fixed length, with blanks around them, as OpenTelemetry has it: not every transport takes
#: them away. A later version may append fields after another dash; version 00 may not.
_TRACEPARENT: Final = re.compile(
    r"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:(-.*)|[ \t]*)\n?"
)

#: Longest header that is read.
_MAX_TRACEPARENT: Final = 512

_INVALID_VERSION: Final = "ff"

#: The flag that says that the trace is recorded.
SAMPLED: Final = 0x01

#: There are eight.
_MAX_FLAGS: Final = 0xFF


class _Parent(NamedTuple):
    trace_id: int
    span_id: int
    sampled: bool


class TraceParent(_Parent):
    """A valid ``traceparent``: ids that are not zero, and whether the caller records its trace.

    Attributes:
        flags: All of its flags, as they came.
    """

    flags: int

    def __new__(cls, trace_id: int, span_id: int, flags: int) -> Self:
        """Make one of its parts."""
        made = super().__new__(cls, trace_id, span_id, bool(flags & SAMPLED))
        made.flags = int(flags)
        return made


def parse_traceparent(text: Any) -> TraceParent | None:
    """Read a ``traceparent`` header; None if it is invalid, for which the standard starts a new trace."""
    # Not by isinstance(), which asks the value.
    if not issubclass(type(text), str):
        return None
    header = str.__str__(text)
    if len(header) > _MAX_TRACEPARENT or (match := _TRACEPARENT.fullmatch(header)) is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == _INVALID_VERSION or (version == "00" and more is not None):
        return None
    trace_id, span_id = int(trace, 16), int(span, 16)
    if not trace_id or not span_id:
        return None
    return TraceParent(trace_id, span_id, int(flags, 16))


def format_traceparent(trace_id: int, span_id: int, flags: int = SAMPLED) -> str:
    """Write a ``traceparent`` of version 00; ``span_id`` is the parent's."""
    return f"00-{trace_id:032x}-{span_id:016x}-{flags & _MAX_FLAGS:02x}"


def format_trace_id(trace_id: int) -> str:
    """Write a trace id as 32 lower-case hexadecimal digits."""
    return f"{trace_id:032x}"


def format_span_id(span_id: int) -> str:
    """Write a span id as 16 lower-case hexadecimal digits."""
    return f"{span_id:016x}"


def parse_trace_id(value: object) -> int | None:
    """Read a trace id of 32 hexadecimal digits or as an integer; None if it is invalid or zero."""
    return _parse_id(value, 2 * _TRACE_ID_BYTES, 1 << 128)


def parse_span_id(value: object) -> int | None:
    """Read a span id: as :func:`parse_trace_id`, with 16 digits."""
    return _parse_id(value, 2 * _SPAN_ID_BYTES, 1 << 64)


def _parse_id(value: Any, digits: int, bound: int) -> int | None:
    kind = type(value)
    if kind is str:
        if len(value) != digits:
            return None
        try:
            # Unlike int(), it takes nothing but digits; and it takes half the time.
            return int.from_bytes(unhexlify(value), "big") or None
        except ValueError:
            return None
    if kind is int:
        number: int = value
        return number if 0 < number < bound else None
    return None


#: A generator of its own: an application that seeds the shared one, for reproducible runs say, would
#: otherwise hand out the same ids in every run. Not a cryptographic one: ids must differ, not be secret.
_random = random.Random()  # noqa: S311

#: Returns so many random bits; an id of which all are zero is none.
draw_bits = _random.getrandbits


def _reseed() -> None:
    _random.seed(os.urandom(32))


_reseed()

# Otherwise a parent and its forked workers go on to draw the same ids.
after_fork_in_child(_reseed)


def _draw_trace_id() -> int:
    return _random.getrandbits(128) or _draw_trace_id()


def _draw_span_id() -> int:
    return _random.getrandbits(64) or _draw_span_id()


class IdSource(NamedTuple):
    """Functions that return a new trace id (128 bits) and a new span id (64 bits), never zero."""

    trace_id: Callable[[], int]
    span_id: Callable[[], int]


#: Draws ids at random: for whoever does that itself, to save the calls, as long as it is in force.
DRAWN: Final = IdSource(_draw_trace_id, _draw_span_id)

_source = DRAWN


def new_trace_id() -> int:
    """Return a new trace id, never zero."""
    return _source.trace_id()


def new_span_id() -> int:
    """Return a new span id, never zero."""
    return _source.span_id()


def id_source() -> IdSource:
    """Return where new ids come from at present: for whoever draws many, and asks anew now and then."""
    return _source


def use_ids_of(source: IdSource) -> IdSource:
    """Take the ids of all new operations from another source; return what ends it in :func:`use_own_ids`.

    Where the source raises, or returns what is no id, a random one is drawn instead.
    """
    global _source  # noqa: PLW0603  # the ids of a process have one source
    _source = IdSource(
        _or_drawn(source.trace_id, _draw_trace_id, _TRACE_ID_BYTES),
        _or_drawn(source.span_id, _draw_span_id, _SPAN_ID_BYTES),
    )
    return _source


def use_own_ids(instead_of: IdSource, before: IdSource = DRAWN) -> None:
    """Draw ids again, or take them from where they came before, unless another source was chosen since."""
    global _source  # noqa: PLW0603  # as in use_ids_of
    if _source is instead_of:
        _source = before


def _or_drawn(make: Callable[[], int], draw: Callable[[], int], size: int) -> Callable[[], int]:
    limit = 1 << 8 * size

    def new_id() -> int:
        try:
            made = make()
        except Exception:  # noqa: BLE001  # somebody else's generator must not break the operation it names
            return draw()
        return made if type(made) is int and 0 < made < limit else draw()

    return new_id


#: Says what the hash is for, so that nobody else's hash of the same text is the same. Never to be changed:
#: processes of different releases must come to the same result.
_PERSON: Final = b"otpylib trace id"


#: From here on Python may refuse to write an integer in decimal (sys.set_int_max_str_digits).
_MAX_DECIMAL_BITS: Final = 2048


def derive_trace_id(correlation_id: str | int) -> int:
    """Make a trace id of a correlation id, the same in every process."""
    if type(correlation_id) is int and correlation_id.bit_length() > _MAX_DECIMAL_BITS:
        # Python refuses to write it in decimal; nobody passes such a number on as decimal text either.
        written = hex(correlation_id)
    else:
        written = str(correlation_id)
    known = parse_trace_id(written)
    if known is not None:
        return known
    hashed = hashlib.blake2b(
        written.encode("utf-8", "surrogatepass"), digest_size=_TRACE_ID_BYTES, person=_PERSON
    )
    return int.from_bytes(hashed.digest(), "big") or 1


class SpanContext(NamedTuple):
    """The identity of the operation that is running.

    Attributes:
        trace_id: 32 hexadecimal digits (W3C Trace Context).
        span_id: 16 hexadecimal digits.
        correlation_id: What ties together the events of one request.
        trace_flags: The flags of a ``traceparent``, as they came; 1 says that the trace is recorded.
        tracestate: The ``tracestate`` that goes with it; empty where there is none.
        baggage: The ``baggage`` that goes with it, as the header has it; empty where there is none.
        is_remote: Whether it is the identity of an operation elsewhere.
    """

    trace_id: str
    span_id: str
    correlation_id: Any
    trace_flags: int = SAMPLED
    tracestate: str = ""
    baggage: str = ""
    is_remote: bool = False

    @property
    def sampled(self) -> bool:
        """Whether the service that began the trace records it."""
        return bool(self.trace_flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        """The header that hands this context to another service (W3C Trace Context, section 3.2)."""
        return f"00-{self.trace_id}-{self.span_id}-{self.trace_flags & _MAX_FLAGS:02x}"
