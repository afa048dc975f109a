"""The instruments of the OpenTelemetry API, as they are once a provider of ours has made them.

No call of an instrument raises, and none waits: a measurement is in its series when the call returns.

Imports OpenTelemetry's API: to be imported only where it is wanted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

from opentelemetry import metrics as api

from otpylib_telemetry.meters.attributes import labels_of
from otpylib_telemetry.meters.observed_streams import ObservedStream
from otpylib_telemetry.metrics.event_values import number_of
from otpylib_telemetry.metrics.names import OPENTELEMETRY
from otpylib_telemetry.primitives.any_value import any_values
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.primitives.polling import LATE, Outcome, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opentelemetry.context import Context

    from otpylib_telemetry.aggregation.metric_spec import Scope
    from otpylib_telemetry.aggregation.series import Labels, Traced
    from otpylib_telemetry.meters.streams import Stream


_log = logging.getLogger("otpylib_telemetry")


class Instrument:
    """What all instruments have."""

    api_class: ClassVar[type[Any]]
    #: What the API has in its place where it cannot be made.
    nothing: ClassVar[type[Any]]
    streams: tuple[Stream, ...]
    #: Those of them, and of earlier ones, whose series are there: an exporter that is fed no more keeps them.
    known: tuple[Stream, ...]

    def __init__(  # noqa: PLR0913, PLR0917 - made in one place
        self,
        traced: Callable[[Context | None], Traced | None],
        scope: Scope,
        name: str,
        unit: str,
        description: str,
        boundaries: tuple[float, ...] | None,
    ) -> None:
        self.scope = scope
        self.name = name
        self.unit = unit
        self.description = description
        self.boundaries = boundaries
        self.known = ()
        self.traced = traced
        self.write_to(())

    def write_to(self, streams: tuple[Stream, ...]) -> None:
        """Write to these streams from now on."""
        self.streams = streams
        #: Whether an exemplar of a level can be told: on a page of Prometheus there is no place for it.
        self.exemplifies = any(stream.feed.naming.scopes for stream in streams)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of {self.scope.name}>"


class Counter(Instrument, api.Counter):
    """See :class:`opentelemetry.metrics.Counter`."""

    api_class, nothing = api.Counter, api.NoOpCounter

    def add(self, amount: float, attributes: Any = None, context: Context | None = None) -> None:
        """Add to the sum; a negative amount is refused."""
        seen = self.traced(context)
        for stream in self.streams:
            stream.write(amount, attributes, seen)


class UpDownCounter(Instrument, api.UpDownCounter):
    """See :class:`opentelemetry.metrics.UpDownCounter`."""

    api_class, nothing = api.UpDownCounter, api.NoOpUpDownCounter

    def add(self, amount: float, attributes: Any = None, context: Context | None = None) -> None:
        """Move the sum."""
        seen = self.traced(context) if self.exemplifies else None
        for stream in self.streams:
            stream.write(amount, attributes, seen)


class Histogram(Instrument, api.Histogram):
    """See :class:`opentelemetry.metrics.Histogram`."""

    api_class, nothing = api.Histogram, api.NoOpHistogram

    def record(self, amount: float, attributes: Any = None, context: Context | None = None) -> None:
        """Add an observation; a negative one is refused."""
        seen = self.traced(context)
        for stream in self.streams:
            stream.write(amount, attributes, seen)


class Gauge(Instrument, api._Gauge):  # noqa: SLF001 - as above
    """See the Gauge of OpenTelemetry's metrics API specification."""

    api_class, nothing = api._Gauge, api._NoOpGauge  # noqa: SLF001 - as above

    def set(self, amount: float, attributes: Any = None, context: Context | None = None) -> None:
        """Set the value."""
        seen = self.traced(context) if self.exemplifies else None
        for stream in self.streams:
            stream.write(amount, attributes, seen)


class Observable(Instrument):
    """What observable instruments have."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.watches: tuple[Watch, ...] = ()
        #: Callbacks whose trouble was reported and is not over.
        self._troubles = Once()

    def add_callbacks(self, callbacks: Iterable[Any] | None) -> None:
        """Have these asked as well; one that is asked already is asked once."""
        try:
            for callback in callbacks or ():
                if not any(watch.callback == callback for watch in self.watches):
                    self.watches = (*self.watches, Watch(callback))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, the instrument is there all the same
            _log.warning(
                "The callbacks of %s (%s) cannot be used: expected a sequence of functions (%s). Those "
                "before what is wrong are asked.",
                self.name,
                self.scope.name,
                describe(error),
            )

    def take(self, outcomes: Mapping[Watch, Outcome | None]) -> None:
        """Take what the callbacks returned."""
        readings: dict[Labels, tuple[Any, float, Traced | None]] = {}
        for watch in self.watches:
            if watch not in outcomes:
                continue
            trouble = self._read(outcomes[watch], readings)
            if trouble is None:
                self._troubles.over(watch)
            elif self._troubles.is_news(watch):
                _log.warning(
                    "The callback of %s (%s) cannot be used: %s. What it fails to observe is left out until "
                    "it can; it is tried again at every reading, and this is not reported again before it "
                    "has worked.",
                    self.name,
                    self.scope.name,
                    trouble,
                )
        for stream in self.streams:
            if isinstance(stream, ObservedStream):
                stream.observe(readings)

    def _read(
        self, outcome: Outcome | None, readings: dict[Labels, tuple[Any, float, Traced | None]]
    ) -> str | None:
        """Add the observations of one callback that can be used; returns what is wrong with the others."""
        if outcome is None:
            return LATE
        if outcome.error is not None:
            return describe(outcome.error)
        trouble = None
        for each in outcome.observations:
            try:
                number = number_of(each.value)
                attributes, left_out = any_values(each.attributes or {})
                context = getattr(each, "context", None)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever it returned, it is no observation
                trouble = f"it is to return observations ({describe(error)})"
                continue
            if number is None:
                trouble = f"it observed a {type(each.value).__name__}, which is no number"
                continue
            if left_out:
                trouble = (
                    f"it observed attributes that cannot be read, of type {type(each.attributes).__name__}"
                )
            seen = None if context is None else self.traced(context)
            # What is observed is a whole, so of two for the same attributes the later one counts.
            readings[labels_of(attributes, OPENTELEMETRY)] = attributes, number, seen
        return trouble


class ObservableCounter(Observable, api.ObservableCounter):
    """See :class:`opentelemetry.metrics.ObservableCounter`."""

    api_class, nothing = api.ObservableCounter, api.NoOpObservableCounter


class ObservableUpDownCounter(Observable, api.ObservableUpDownCounter):
    """See :class:`opentelemetry.metrics.ObservableUpDownCounter`."""

    api_class, nothing = api.ObservableUpDownCounter, api.NoOpObservableUpDownCounter


class ObservableGauge(Observable, api.ObservableGauge):
    """See :class:`opentelemetry.metrics.ObservableGauge`."""

    api_class, nothing = api.ObservableGauge, api.NoOpObservableGauge
