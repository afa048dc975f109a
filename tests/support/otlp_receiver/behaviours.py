"""What to do with a request."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ok:
    """Take it."""


@dataclass(frozen=True)
class GrpcStatus:
    """Refuse it with a gRPC status (``"UNAVAILABLE"``); ``retry_after`` (seconds) is sent as RetryInfo."""

    code: str
    message: str = ""
    retry_after: float | None = None


@dataclass(frozen=True)
class HttpStatus:
    """Answer with an HTTP status; ``retry_after`` (seconds or a date) is sent as it is."""

    status: int
    retry_after: float | str | None = None
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PartialSuccess:
    """Take all but the last ``rejected`` items and say so."""

    rejected: int
    message: str = ""


@dataclass(frozen=True)
class Answer:
    """Take it and answer with these bytes instead of a message (over HTTP with this type)."""

    data: bytes
    content_type: str = "application/x-protobuf"


@dataclass(frozen=True)
class Hang:
    """Read it, wait for ``release()``, go on with ``then``. To hang before reading: ``stall()``."""

    then: Any = field(default_factory=Ok)


@dataclass(frozen=True)
class Slow:
    """Wait so many seconds (or for ``release()``), then go on with ``then``."""

    seconds: float
    then: Any = field(default_factory=Ok)


@dataclass(frozen=True)
class Reset:
    """Reset the connection once it is read. ``taken``: the items are taken, only the answer is lost."""

    taken: bool = False


@dataclass(frozen=True)
class Garbage:
    """Answer with bytes that are no protocol at all, and close."""

    data: bytes = b"\x00\xffnot what you expected\r\n" * 20
