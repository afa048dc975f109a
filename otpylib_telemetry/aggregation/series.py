"""What every series has: its labels, when it began, and what becomes of it when another one absorbs it.

A series is the running result of a metric for one set of labels. Measurements are added up as they come and
forgotten; only the results are kept. What a series cannot take (NaN, an infinity, a counter's fall) it
refuses, and stays as it was.

Pure: no clock, no thread, no I/O.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, NamedTuple, Protocol, Self, TypeAlias

#: Pairs of label name and label value, in the order of the names.
Labels: TypeAlias = tuple[tuple[str, str], ...]

#: Nanoseconds an exemplar stands before another of its bucket takes its place: what is scraped is recent all
#: the same, and a busy series does not make one per measurement.
_EXEMPLAR_STANDS_NS: Final = 1_000_000_000


class Traced(NamedTuple):
    """The operation during which something was measured, and what was told that is no label of the series."""

    at_ns: int
    trace_id: str
    span_id: str
    attributes: Labels = ()

    def settled(self) -> Traced:
        """Return what an exemplar keeps."""
        return self


class Operation(Protocol):
    """A :class:`Traced`, or what becomes one where an exemplar is made of it: of few measurements one is."""

    @property
    def at_ns(self) -> int:
        """When, on the monotonic clock."""
        ...

    def settled(self) -> Traced:
        """Return what an exemplar keeps."""
        ...


class Exemplar(NamedTuple):
    """One measurement that shows by its trace what the others of its kind are about."""

    value: float
    traced: Traced


def due(present: Exemplar | None, traced: Operation) -> bool:
    """Tell whether a measurement is to be the exemplar in place of the present one."""
    return present is None or traced.at_ns - present.traced.at_ns >= _EXEMPLAR_STANDS_NS


def later(one: Exemplar | None, other: Exemplar | None) -> Exemplar | None:
    """Return the later one of two exemplars."""
    if one is None or other is None:
        return one or other
    return one if one.traced.at_ns >= other.traced.at_ns else other


class BaseSeries:
    """Labels, a beginning, and a way to the series that has absorbed it.

    An open operation may still hold one that was absorbed, and so may whoever is reading: what it had stays
    to be read, and what comes goes to its successor. It is of another class then, made of the method that
    ``takes`` measurements, so that this costs the others nothing.
    """

    __slots__ = ("_seen", "born_ns", "labels", "successor")

    moved: ClassVar[bool] = False
    #: The attribute that is another one after each measurement.
    _grows: ClassVar[str] = "count"
    _moved_class: ClassVar[type[BaseSeries]]
    successor: Self

    def __init_subclass__(cls, takes: str = "") -> None:
        if takes:

            def hand_on(self: Any, amount: float, traced: Operation | None = None) -> bool:
                taken: bool = getattr(self.successor, takes)(amount, traced)
                return taken

            members = {"__slots__": (), "moved": True, takes: hand_on}
            cls._moved_class = type(f"_Moved{cls.__name__}", (cls,), members)

    def __init__(self, labels: Labels, born_ns: int) -> None:
        self.labels = labels
        self.born_ns = born_ns
        #: What :meth:`stirred` was told of last.
        self._seen: Any = None

    def stirred(self) -> bool:
        """Tell whether anything was measured since this was asked last."""
        before, self._seen = self._seen, getattr(self, self._grows)
        return bool(self._seen != before)

    def _give_way_to(self, other: Self) -> None:
        """Become a way to one that goes on with what this one has as well."""
        self.successor, self.__class__ = other, self._moved_class  # type: ignore[assignment]  # of this class


class TracedSeries(BaseSeries):
    """A series with one exemplar: a recent measurement with the trace it was part of."""

    __slots__ = ("exemplar",)

    def __init__(self, labels: Labels, born_ns: int) -> None:
        super().__init__(labels, born_ns)
        self.exemplar: Exemplar | None = None

    def _exemplify(self, amount: float, traced: Operation) -> None:
        if due(self.exemplar, traced):
            self.exemplar = Exemplar(amount, traced.settled())
