"""What writes the series of one metric: the base of :mod:`.series_text` and :mod:`.histogram_text`.

Lines end in a newline. Whoever calls holds the lock of the series' store. Pure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from otpylib_telemetry_prometheus.exposition.text import (
    after_labels,
    before_labels,
    exemplar_text,
    trace_labels,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otpylib_telemetry.aggregation.metric import Series
    from otpylib_telemetry.aggregation.series import Exemplar
    from otpylib_telemetry_prometheus.exposition.labels_text import LabelWriter


def start_of(name: str, labels: str) -> str:
    """Return what stands before the number of a sample."""
    return f"{before_labels(name)}{labels}}}" if labels else after_labels(name)


def exemplar_of(exemplar: Exemplar | None, wall_offset_ns: int) -> str:
    """Return what follows the number of a sample that has this exemplar."""
    if exemplar is None:
        return ""
    at = (exemplar.traced.at_ns + wall_offset_ns) / 1e9
    return exemplar_text(trace_labels(exemplar.traced), exemplar.value, f"{at:.3f}")


class MetricText(ABC):
    """Writes the series of one metric in one format."""

    #: The label that has a meaning of its own.
    reserved: ClassVar[str] = ""
    #: Whether there is any need to look at all series before any is written.
    looks: ClassVar[bool] = False

    def __init__(
        self,
        metric: Any,
        name: str,
        labels: LabelWriter,
        *,
        openmetrics: bool,
        report: Callable[[str], None],
    ) -> None:
        self.metric = metric
        self.name = name
        #: The lines that go before; whoever knows all names sets them.
        self.header = ""
        self.openmetrics = openmetrics
        #: Whether exemplars may be told.
        self.exemplars = openmetrics
        self._labels = labels
        self._report = report
        #: What series are told from each other by; None while no two can be the same.
        self._taken: dict[str, Any] | None = None
        self._left_out: set[Any] = set()

    @property
    @abstractmethod
    def kept(self) -> dict[Any, Any]:
        """What is kept for each series."""

    def lines_each(self) -> int:
        """Return about how much work a series is, in lines."""
        return 1

    def look(self, series: Sequence[Any]) -> None:
        """Look at series before any is written."""
        del series

    @abstractmethod
    def lines(self, series: Sequence[Any], wall_offset_ns: int) -> list[str]:
        """Return the lines of series; the offset makes of the monotonic clock the time since the epoch."""

    def forget(self, present: Sequence[Series]) -> None:
        """Keep nothing for series that are not among those present."""
        kept = self.kept
        if len(kept) > len(present):
            # What made way to another one may have its place now.
            for gone in (kept.keys() - set(present)) | self._left_out:
                kept.pop(gone, None)
            self._left_out.clear()
            if self._taken is not None:
                self._taken = {text: one for text, one in self._taken.items() if one in kept}

    def labels_of(self, one: Any) -> str | None:
        """Return the labels of a series, which is in :attr:`kept` from now on; None if it must be left out.

        A scrape that has a series twice is refused, in whole or in part, so two must never read the same.
        """
        labels, reserved = one.labels, self.reserved
        if self._taken is None:
            plain = self._labels.plain(labels, reserved)
            if plain is not None:
                return plain
        text, key = self._labels.text(labels, reserved)
        if self._taken is None:
            # Label values may be empty, and names may be changed: only then may two series read the same.
            if text == key and self._labels.faithful(labels, reserved):
                return text
            self._taken = {}
            for other in self.kept:
                self._taken[self._labels.text(other.labels, reserved)[1]] = other
        taken = self._taken
        if taken.get(key, one) is not one:
            others = self._labels.other_texts(labels, reserved)
            free = next((other for other in others if taken.get(other[1], one) is one), None)
            if free is None:
                self._left_out.add(one)
                self._report(
                    f"a series of the metric {self.metric.name} is left out of the page: with empty labels "
                    f"left out and names made to fit, it reads like another one, {{{key}}}"
                )
                return None
            text, key = free
        taken[key] = one
        return text


class KeptText(MetricText):
    """What is written line by line, and kept while it is the same."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._known: dict[Any, tuple[str | None, Any, str]] = {}

    @property
    def kept(self) -> dict[Any, Any]:
        """What is kept of each series."""
        return self._known

    def lines(self, series: Sequence[Any], wall_offset_ns: int) -> list[str]:
        """Return the lines of series."""
        lines: list[str] = []
        for one in series:
            labels, before, text = self._known.get(one, (None, None, ""))
            if labels is None:
                if one in self._known:
                    continue
                labels = self.labels_of(one)
                if labels is None:
                    self._known[one] = (None, None, "")
                    continue
            present = self.state(one)
            if before != present:
                text = self.drawn(one, labels, wall_offset_ns)
                self._known[one] = (labels, present, text)
            lines.append(text)
        return lines

    @abstractmethod
    def state(self, one: Any) -> Any:
        """Return what is different when the lines are; not None."""

    @abstractmethod
    def drawn(self, one: Any, labels: str, wall_offset_ns: int) -> str:
        """Return the lines of a series."""
