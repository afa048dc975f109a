"""One event, exactly as it was emitted."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

#: An event as the queues hold it: a plain tuple, because building one costs the emitter an eighth of what
#: building an :class:`Event` costs. The fields are those of :class:`Event`, in the same order.
RawEvent: TypeAlias = tuple[str, Mapping[str, Any], Mapping[str, Any], int, object]


class Event(NamedTuple):
    """One telemetry event, as an exporter author sees it.

    Attributes:
        name: Dotted name, for instance ``shop.checkout.start``.
        measurements: Name to number, as emitted: the values are not checked.
        metadata: Name to anything, as emitted.
        monotonic_ns: When it was emitted, on the clock of :func:`time.monotonic_ns`. Wall-clock time is
            this plus the offset handed to whoever processes the batch, so that a wall clock that is set
            while the application runs never makes a duration wrong.
        emitter: The otpylib pid of the emitting process or, outside any process, the thread's identifier.
    """

    name: str
    measurements: Mapping[str, Any]
    metadata: Mapping[str, Any]
    monotonic_ns: int
    emitter: object
