"""What ended lately: the memory by which events that come twice, or too early, are told from new ones.

Pure, and bounded: what is older than the last few thousand is forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from otpylib_telemetry.tracing.identifiers import identifier

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.tracing.operation import Operation
    from otpylib_telemetry.tracing.operation_index import Opened
    from otpylib_telemetry_otel.traces.spans import FinishedSpan, SpanEvent


V = TypeVar("V")

#: How many ids of spans that have ended are remembered, at least half of it at any time; some 2 MB in all.
MAX_ENDED: Final = 8192

#: How many endings that ended nothing are remembered, likewise.
MAX_EARLY: Final = 1024


class RecentKeys(Generic[V]):
    """A table that forgets: it holds what came last, between half of its limit and all of it.

    Attributes:
        young: What came last.
        old: What came before that.
    """

    __slots__ = ("_half", "old", "young")

    def __init__(self, limit: int) -> None:
        self._half = max(limit // 2, 1)
        self.young: dict[Hashable, V] = {}
        self.old: dict[Hashable, V] = {}

    def __len__(self) -> int:
        return len(self.young) + len(self.old)

    def put(self, key: Hashable, value: V) -> None:
        """Remember a value."""
        if len(self.young) >= self._half:
            self.turn()
        self.young[key] = value

    def turn(self) -> None:
        """Forget the older of two generations as a whole: there is no order to keep, and none to search."""
        self.old, self.young = self.young, {}

    def get(self, key: Hashable) -> V | None:
        """Return what is remembered, or None."""
        found = self.young.get(key)
        return self.old.get(key) if found is None else found

    def forget(self, key: Hashable) -> None:
        """Forget a value, if it is remembered."""
        self.young.pop(key, None)
        self.old.pop(key, None)


class Ending:
    """An ending whose beginning had not come.

    Attributes:
        event: As above.
        is_finished: As above.
        at_ns: When it was emitted, on the monotonic clock.
        correlation_id: Its correlation id, if it is one to go by.
        request_id: Likewise.
        host: The open operation on whose span it was put as an event, if there was one.
        noted: That event, unless the span had too many.
    """

    __slots__ = ("at_ns", "correlation_id", "event", "host", "is_finished", "noted", "request_id")

    def __init__(self, event: Entry, *, is_finished: bool) -> None:
        metadata, self.at_ns = event[2:4]
        self.event = event
        self.is_finished = is_finished
        self.correlation_id = identifier(metadata.get("correlation_id"))
        self.request_id = identifier(metadata.get("request_id"))
        self.host: Opened[FinishedSpan] | Operation | None = None
        self.noted: SpanEvent | None = None


class EarlyEndings:
    """Endings that came before their beginnings, found by the ids that both give.

    Events of one emitter keep their order, so only ids that travel between emitters lead here. Without a
    ``span_id``, a beginning belongs to an earlier ending only if it was emitted before it. Of several endings
    under one id the latest is remembered.

    Attributes:
        latest_ns: When the last of those without ``span_id`` was emitted; no later beginning belongs to one.
        has_span_ids: Whether there are any with a ``span_id``.
    """

    __slots__ = ("_by_id", "_by_span_id", "has_span_ids", "latest_ns")

    def __init__(self) -> None:
        self._by_span_id: RecentKeys[Ending] = RecentKeys(MAX_EARLY)
        self._by_id: RecentKeys[Ending] = RecentKeys(MAX_EARLY)
        self.latest_ns = -1
        self.has_span_ids = False

    def put(self, operation: str, span_id: str | int | None, ending: Ending) -> None:
        """Remember an ending."""
        if span_id is not None:
            self._by_span_id.put((operation, span_id), ending)
            self.has_span_ids = True
            return
        for kind, known in enumerate((ending.correlation_id, ending.request_id)):
            if known is not None:
                self._by_id.put((operation, kind, known), ending)
                self.latest_ns = max(self.latest_ns, ending.at_ns)

    def take(self, operation: str, metadata: Mapping[Any, Any], at_ns: int) -> Ending | None:
        """Find the ending of an operation that begins now, and forget it."""
        span_id = identifier(metadata.get("span_id"))
        if span_id is not None:
            found = self._by_span_id.get((operation, span_id))
            if found is not None:
                self._by_span_id.forget((operation, span_id))
                self.has_span_ids = bool(self._by_span_id)
                return found
        if at_ns > self.latest_ns:
            return None
        correlation_id = identifier(metadata.get("correlation_id"))
        request_id = identifier(metadata.get("request_id"))
        for kind, known in enumerate((correlation_id, request_id)):
            found = None if known is None else self._by_id.get((operation, kind, known))
            if (
                found is not None
                and at_ns <= found.at_ns
                and _agree(found.correlation_id, correlation_id)
                and _agree(found.request_id, request_id)
            ):
                for its_kind, its in enumerate((found.correlation_id, found.request_id)):
                    if self._by_id.get((operation, its_kind, its)) is found:
                        self._by_id.forget((operation, its_kind, its))
                return found
        return None


def _agree(one: object, other: object) -> bool:
    return one is None or other is None or one == other
