"""The operations that have begun and not ended, and which ending belongs to which beginning.

Spans, timings and gauges of what is in flight use this one book-keeping, so that all exporters agree. Pure:
the clock and the knowledge of who is alive come in as arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from otpylib_telemetry.tracing.identifiers import PLAIN, identifier
from otpylib_telemetry.tracing.operation_index import (
    Index,
    Opened,
    Several,
    join,
    last_in,
    last_named,
    put_back,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, KeysView, Mapping, Sequence


T = TypeVar("T")

#: How many of the operations opened last are looked at before the emitter is looked up: a pid costs more to
#: hash than all of them to compare.
_LOOK_BACK: Final = 4


class OpenOperations(Generic[T]):
    """The operations that have begun and not ended, and the rules by which an ending finds its beginning.

    An ending belongs to the operation of its own name that began last

    1. with the same ``span_id``, if the ending gives one: then nothing else will do, since a known id that
       is not open here names somebody else's operation;
    2. else with the same ``correlation_id``;
    3. else with the same ``request_id``;
    4. else by the same emitter.

    Under rules 3 and 4 an operation whose own correlation or request id differs from the ending's is not a
    match; where the last one of an emitter does not match, the last one that has neither id is taken.

    Every call but :meth:`orphaned` takes the same time however many operations are open, on average. What
    cannot be hashed as an emitter is never found by rule 4.

    Args:
        limit: How many operations may be open; beyond it the oldest are given up.
        ttl_ns: How long, in nanoseconds, an operation may stay open.

    Attributes:
        limit: As above; a new value counts from the next :meth:`open`.
        ttl_ns: As above; a new value counts from the next :meth:`overdue`.
    """

    __slots__ = (
        "_ages",
        "_correlated",
        "_emitted",
        "_next",
        "_oldest",
        "_requested",
        "_spans",
        "_unfiled",
        "limit",
        "ttl_ns",
    )

    def __init__(self, limit: int, ttl_ns: int) -> None:
        self.limit = limit
        self.ttl_ns = ttl_ns
        #: By number, in the order of opening. Those before ``_oldest`` have all ended; those before
        #: ``_unfiled`` are filed under their emitters, which is done when an ending asks for it.
        self._ages: dict[int, Opened[T]] = {}
        self._next = self._oldest = self._unfiled = 0
        self._spans: Index[T] = {}
        self._correlated: Index[T] = {}
        self._requested: Index[T] = {}
        self._emitted: Index[T] = {}

    def __len__(self) -> int:
        return len(self._ages)

    def __iter__(self) -> Iterator[Opened[T]]:
        """Go through what is open, in the order in which it was filed."""
        return iter(self._ages.values())

    @property
    def numbers(self) -> KeysView[int]:
        """A number for each that is open: a view, for whoever counts them in a loop."""
        return self._ages.keys()

    @property
    def span_ids(self) -> KeysView[Hashable]:
        """The span ids of what is open, as :func:`identifier` gives them: a view, not a copy."""
        return self._spans.keys()

    def __contains__(self, opened: Opened[T]) -> bool:
        return self._ages.get(opened._number) is opened  # noqa: SLF001 - one unit

    def open(
        self, operation: str, metadata: Mapping[str, Any], emitter: object, at_ns: int, value: T
    ) -> Sequence[Opened[T]]:
        """Add an operation that begins; return those given up because more than ``limit`` were open."""
        span_id = correlation_id = request_id = None
        # Most operations have one of the three: to ask whether an id is there is cheaper than to get it.
        # Most ids are text or numbers, and those need no second look.
        if "span_id" in metadata and (type(span_id := metadata["span_id"]) not in PLAIN or not span_id):
            span_id = identifier(span_id)
        if "correlation_id" in metadata and (
            type(correlation_id := metadata["correlation_id"]) not in PLAIN or not correlation_id
        ):
            correlation_id = identifier(correlation_id)
        if "request_id" in metadata and (
            type(request_id := metadata["request_id"]) not in PLAIN or not request_id
        ):
            request_id = identifier(request_id)
        opened: Opened[T] = Opened()
        opened.operation = operation
        opened.metadata = metadata
        opened.emitter = emitter
        opened.at_ns = at_ns
        opened.value = value
        opened.span_id = span_id
        opened.correlation_id = correlation_id
        opened.request_id = request_id
        opened._by_emitter = False  # noqa: SLF001 - one unit
        opened._number = number = self._next  # noqa: SLF001 - one unit
        if span_id is not None and self._spans.setdefault(span_id, opened) is not opened:
            join(self._spans, span_id, opened)
        if correlation_id is not None and self._correlated.setdefault(correlation_id, opened) is not opened:
            join(self._correlated, correlation_id, opened)
        if request_id is not None and self._requested.setdefault(request_id, opened) is not opened:
            join(self._requested, request_id, opened)
        self._next = number + 1
        ages = self._ages
        ages[number] = opened
        return self._evict() if len(ages) > self.limit else ()

    def _evict(self) -> list[Opened[T]]:
        """Give up the oldest of too many."""
        evicted: list[Opened[T]] = []
        while len(self._ages) > self.limit:
            evicted.append(self.give_up_oldest())
        return evicted

    def give_up_oldest(self) -> Opened[T]:
        """Take out and return what began first; there must be something."""
        ages = self._ages
        oldest = self._oldest
        while oldest not in ages:
            oldest += 1
        self._oldest = oldest + 1
        found = ages[oldest]
        self._forget(found)
        return found

    def close(self, operation: str, metadata: Mapping[str, Any], emitter: object) -> Opened[T] | None:
        """Take out and return the operation that an event ends, or None if none open belongs to it."""
        span_id = correlation_id = found = None
        if "span_id" in metadata and (type(span_id := metadata["span_id"]) not in PLAIN or not span_id):
            span_id = identifier(span_id)
        if span_id is not None:
            found = last_named(self._spans, span_id, operation)
        else:
            if "correlation_id" in metadata:
                correlation_id = metadata["correlation_id"]
                if type(correlation_id) not in PLAIN or not correlation_id:
                    correlation_id = identifier(correlation_id)
                if correlation_id is not None:
                    # As last_named, less the call where there is one operation, as there mostly is.
                    present = self._correlated.get(correlation_id)
                    if type(present) is Opened and present.operation == operation:
                        found = present
                    elif present is not None:
                        found = last_named(self._correlated, correlation_id, operation)
            if found is None:
                found = self._match(operation, metadata, correlation_id, emitter)
        if found is not None:
            self._forget(found)
        return found

    def find(self, correlation_id: object) -> Opened[T] | None:
        """Return the operation with this correlation id that began last, or None."""
        present = self._correlated.get(
            correlation_id if type(correlation_id) in PLAIN else identifier(correlation_id)
        )
        if present is None or type(present) is not Several:
            return present  # type: ignore[return-value]  # not a table: an operation, or nothing
        return next(reversed(present.everything))

    def find_span(self, span_id: object, operation: str | None = None) -> Opened[T] | None:
        """Return the operation with this ``span_id`` (and name, if given) that began last, or None."""
        if operation is not None:
            return last_named(self._spans, identifier(span_id), operation)
        present = self._spans.get(span_id if type(span_id) in PLAIN else identifier(span_id))
        if present is None or type(present) is not Several:
            return present  # type: ignore[return-value]  # not a table: an operation, or nothing
        return next(reversed(present.everything))

    def overdue(self, now_ns: int) -> list[Opened[T]]:
        """Take out what has been open for ``ttl_ns`` or longer, oldest first."""
        latest = now_ns - self.ttl_ns
        expired: list[Opened[T]] = []
        for opened in self._ages.values():
            if opened.at_ns > latest:
                break
            expired.append(opened)
        for opened in expired:
            self._forget(opened)
        return expired

    def orphaned(self, alive: Callable[[object], bool]) -> list[Opened[T]]:
        """Take out the operations of emitters that are gone, oldest first."""
        answers: dict[object, bool] = {}
        gone: list[Opened[T]] = []
        for opened in self._ages.values():
            emitter = opened.emitter
            try:
                lives = answers.get(emitter)
                if lives is None:
                    lives = answers[emitter] = alive(emitter)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001, S112 - it cannot be hashed: nobody can say that it is gone
                continue
            if not lives:
                gone.append(opened)
        for opened in gone:
            self._forget(opened)
        return gone

    def drain(self) -> list[Opened[T]]:
        """Take out everything, oldest first."""
        everything = list(self._ages.values())
        for opened in everything:
            self._forget(opened)
        return everything

    def _match(
        self,
        operation: str,
        metadata: Mapping[str, Any],
        correlation_id: str | int | None,
        emitter: object,
    ) -> Opened[T] | None:
        """Rules 3 and 4."""
        if (request_id := metadata.get("request_id")) is not None:
            request_id = identifier(request_id)
            if request_id is not None:
                found = last_named(self._requested, request_id, operation)
                if found is not None and not _contradicts(found, correlation_id, None):
                    return found
        ages = self._ages
        for number in range(self._next - 1, max(self._next - 1 - _LOOK_BACK, -1), -1):
            latest = ages.get(number)
            if latest is not None and latest.operation == operation:
                if latest.emitter is emitter and not _contradicts(latest, correlation_id, request_id):
                    return latest
                # Of this name, but perhaps not the emitter's last: that one has to be looked up.
                break
        return self._match_emitter(operation, correlation_id, request_id, emitter)

    def _match_emitter(
        self, operation: str, correlation_id: str | int | None, request_id: str | int | None, emitter: object
    ) -> Opened[T] | None:
        self._file_emitters()
        try:
            present = self._emitted.get(emitter)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - it cannot be hashed or compared
            return None
        if type(present) is not Several:
            only: Opened[T] | None = present  # type: ignore[assignment]  # not a table: an operation, or nothing
            if only is None or only.operation != operation:
                return None
            return None if _contradicts(only, correlation_id, request_id) else only
        found = last_in(present.named, operation)
        if found is not None and _contradicts(found, correlation_id, request_id):
            found = last_in(present.without_ids, operation)
        return found

    def _file_emitters(self) -> None:
        """File under their emitters the operations opened since this was last done."""
        first, self._unfiled = self._unfiled, self._next
        ages = self._ages
        since: Iterable[Opened[T] | None]
        if self._next - first <= len(ages):
            since = [ages.get(number) for number in range(first, self._next)]
        else:
            since = [opened for number, opened in ages.items() if number >= first]
        emitted = self._emitted
        for opened in since:
            if opened is None:
                continue
            try:
                if emitted.setdefault(opened.emitter, opened) is not opened:
                    join(emitted, opened.emitter, opened)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001, S112 - it cannot be hashed or compared: no rule 4 for it
                continue
            opened._by_emitter = True  # noqa: SLF001 - one unit

    def _forget(self, opened: Opened[T]) -> None:
        del self._ages[opened._number]  # noqa: SLF001 - one unit
        # Taken out first and, where there was a table, put back: one look-up less where there was none.
        if (key := opened.span_id) is not None and (present := self._spans.pop(key)) is not opened:
            put_back(self._spans, key, present, opened)
        if (key := opened.correlation_id) is not None and (
            present := self._correlated.pop(key)
        ) is not opened:
            put_back(self._correlated, key, present, opened)
        if (key := opened.request_id) is not None and (present := self._requested.pop(key)) is not opened:
            put_back(self._requested, key, present, opened)
        if opened._by_emitter:  # noqa: SLF001 - one unit
            emitter: Any = opened.emitter
            if (present := self._emitted.pop(emitter)) is not opened:
                put_back(self._emitted, emitter, present, opened)


def _contradicts(opened: Opened[T], correlation_id: str | int | None, request_id: str | int | None) -> bool:
    """Whether an operation's own ids and an ending's say that they have nothing to do with each other."""
    return (
        correlation_id is not None
        and opened.correlation_id is not None
        and opened.correlation_id != correlation_id
    ) or (request_id is not None and opened.request_id is not None and opened.request_id != request_id)
