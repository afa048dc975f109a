"""Open operations by an id or by their emitters: most keys lead to one, and some to several."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping


T = TypeVar("T")


@dataclass(init=False, eq=False, repr=False, slots=True)
class Opened(Generic[T]):
    """An operation that has begun and not ended; ``OpenOperations.open()`` makes them.

    Without an ``__init__``: to call one costs as much as everything it would do.

    Attributes:
        operation: Its name, without the suffix.
        metadata: The metadata of the event that began it.
        emitter: The pid, or the thread, that emitted that event.
        at_ns: When, on the monotonic clock, in nanoseconds.
        value: What the owner of the book keeps with it.
        span_id: The ``span_id`` in the metadata as it was then, or None where there is none to go by.
        correlation_id: Likewise.
        request_id: Likewise.
    """

    operation: str
    metadata: Mapping[str, Any]
    emitter: object
    at_ns: int
    value: T
    span_id: str | int | None
    correlation_id: str | int | None
    request_id: str | int | None
    # Its place in the order of opening, and whether it is filed under its emitter.
    _number: int
    _by_emitter: bool


class Several(Generic[T]):
    """The operations that share a key: the last is found, and any removed, in constant time."""

    __slots__ = ("everything", "named", "without_ids")

    def __init__(self) -> None:
        self.everything: OrderedDict[Opened[T], None] = OrderedDict()
        self.named: dict[str, OrderedDict[Opened[T], None]] = {}
        self.without_ids: dict[str, OrderedDict[Opened[T], None]] = {}

    def add(self, opened: Opened[T]) -> None:
        """Add an operation, which began last."""
        self.everything[opened] = None
        for table in self._tables(opened):
            table.setdefault(opened.operation, OrderedDict())[opened] = None

    def remove(self, opened: Opened[T]) -> None:
        """Remove an operation."""
        del self.everything[opened]
        for table in self._tables(opened):
            same_name = table[opened.operation]
            del same_name[opened]
            if not same_name:
                del table[opened.operation]

    def _tables(self, opened: Opened[T]) -> tuple[dict[str, OrderedDict[Opened[T], None]], ...]:
        if opened.correlation_id is None and opened.request_id is None:
            return (self.named, self.without_ids)
        return (self.named,)


#: Most keys lead to one operation at a time; only where several share a key is a table made for them.
Index: TypeAlias = "dict[Hashable, Opened[T] | Several[T]]"


def join(index: Index[T], key: Hashable, opened: Opened[T]) -> None:
    """File an operation under a key that leads to others already."""
    present = index[key]
    if type(present) is Several:
        present.add(opened)
    else:
        several: Several[T] = Several()
        several.add(present)  # type: ignore[arg-type]  # not a table: an operation
        several.add(opened)
        index[key] = several


def put_back(index: Index[T], key: Hashable, present: object, opened: Opened[T]) -> None:
    """Put the other operations of a key back after one was taken out."""
    several: Several[T] = present  # type: ignore[assignment]  # not this operation: a table
    several.remove(opened)
    if several.everything:
        index[key] = several


def last_named(index: Index[T], key: Hashable, operation: str) -> Opened[T] | None:
    """Return the operation of this name that began last under a key, or None."""
    present = index.get(key)
    if present is None:
        return None
    if type(present) is Several:
        return last_in(present.named, operation)
    found: Opened[T] = present  # type: ignore[assignment]  # not a table: an operation
    return found if found.operation == operation else None


def last_in(table: dict[str, OrderedDict[Opened[T], None]], operation: str) -> Opened[T] | None:
    """Return the operation of this name that began last in a table, or None."""
    same_name = table.get(operation)
    return None if same_name is None else next(reversed(same_name))
