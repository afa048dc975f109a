"""What an OTLP receiver does with a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Ok:
    """Take it."""


@dataclass(frozen=True, slots=True)
class GrpcStatus:
    """Refuse it with a gRPC status; over HTTP with the status that means the same.

    Attributes:
        code: The name of the status, such as ``"UNAVAILABLE"``.
        message: What it says.
        retry_after: Seconds, sent as RetryInfo, over HTTP as ``Retry-After``.
    """

    code: str
    message: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class HttpStatus:
    """Refuse it with an HTTP status; over gRPC with the status that means the same.

    Attributes:
        status: The number, such as 503.
        retry_after: Seconds or a date, sent as it is.
        message: What the body says.
        headers: Further headers.
    """

    status: int
    retry_after: float | str | None = None
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartialSuccess:
    """Take all but the last ``rejected`` items and say so.

    Attributes:
        rejected: How many are refused.
        message: Why, in the receiver's words.
    """

    rejected: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Take it, and answer with these bytes instead of a message.

    Attributes:
        data: The body.
        content_type: Its type over HTTP.
    """

    data: bytes
    content_type: str = "application/x-protobuf"


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection once the request is read.

    Attributes:
        taken: The items are taken: only the answer is lost.
    """

    taken: bool = False


@dataclass(frozen=True, slots=True)
class Garbage:
    """Answer with bytes that are no protocol at all, and close.

    Attributes:
        data: The bytes.
    """

    data: bytes = b"\x00\xffnot what you expected\r\n" * 20


@dataclass(frozen=True, slots=True)
class Hang:
    """Read it, wait for ``release()``, then go on with ``then``. ``stall()`` hangs before reading."""

    then: Behaviour = field(default_factory=Ok)


@dataclass(frozen=True, slots=True)
class Slow:
    """Wait so many seconds, or for ``release()``, then go on with ``then``."""

    seconds: float
    then: Behaviour = field(default_factory=Ok)


#: Anything that a receiver can be told to do.
Behaviour: TypeAlias = Ok | GrpcStatus | HttpStatus | PartialSuccess | Answer | Reset | Garbage | Hang | Slow
