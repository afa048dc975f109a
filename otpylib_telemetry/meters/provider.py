"""A MeterProvider for the OpenTelemetry API whose instruments write into the series of exporters.

Nothing waits on the way: a measurement is in its series when the call returns, whichever thread makes
it, so there is no reader, no interval and nothing to lose when the process ends. What a measurement costs,
and what becomes of it, does not depend on whether an exporter of that name runs yet.

Instruments of the same name in the same scope are one. No call of an instrument raises.

Imports OpenTelemetry's API, and not its SDK: to be imported only where it is wanted.
"""

from __future__ import annotations

import logging
import os
import re
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar

from opentelemetry import metrics as api

from otpylib_telemetry.aggregation import observers
from otpylib_telemetry.aggregation.metric_spec import Scope
from otpylib_telemetry.exporter.registry import when_forgotten
from otpylib_telemetry.meters import exemplars, instruments, readings
from otpylib_telemetry.meters.attributes import frozen
from otpylib_telemetry.meters.meter import Meter
from otpylib_telemetry.meters.observed_streams import ObservedStream
from otpylib_telemetry.meters.plans import plans_of, report_clash, report_twin
from otpylib_telemetry.meters.streams import Feed, Stream
from otpylib_telemetry.meters.views import View, checked_boundaries, checked_views
from otpylib_telemetry.primitives.any_value import scope_text, text
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.fork import after_fork_in_child, new_rlock
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.primitives.polling import Round

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from opentelemetry.context import Context

    from otpylib_telemetry.aggregation.series import Traced


_log = logging.getLogger("otpylib_telemetry")

#: Seconds the callback of an observable instrument may take.
CALLBACK_TIMEOUT: Final = 1.0

_MS_PER_S: Final = 1_000

#: The syntax of names: OpenTelemetry's metrics API specification ("Instrument name syntax").
_NAME: Final = re.compile(r"[a-zA-Z][-_./a-zA-Z0-9]{0,254}")

#: Characters of a unit (the same specification, "Instrument unit").
_MAX_UNIT: Final = 63

#: How much is quoted of what is no name.
_MAX_SHOWN: Final = 300

Made = TypeVar("Made", bound=instruments.Instrument)

_providers: weakref.WeakSet[MeterProvider] = weakref.WeakSet()


class MeterProvider(api.MeterProvider):
    """Makes instruments that write into the series of exporters.

    Raises:
        TypeError: A view is not one of ours.
        ValueError: The time limit is not positive.
    """

    def __init__(
        self,
        feeds: Iterable[Feed] = (),
        views: Iterable[View] = (),
        *,
        callback_timeout: float = CALLBACK_TIMEOUT,
        flush: Callable[[float], bool] | None = None,
    ) -> None:
        if not callback_timeout > 0:
            raise ValueError(f"callback_timeout: expected seconds above 0, got {callback_timeout!r}")
        self._views = checked_views(views)
        self._feeds: tuple[Feed, ...] = ()
        self._callback_timeout = callback_timeout
        self.flush = flush
        self._lock = new_rlock()
        self._meters: dict[Scope, Meter] = {}
        self._instruments: dict[tuple[Any, ...], instruments.Instrument] = {}
        self._names: dict[tuple[Scope, str], instruments.Instrument] = {}
        #: By scope and name, of which instruments a metric is made.
        self._sources: dict[tuple[Scope, str], dict[instruments.Instrument, None]] = {}
        self._said = Once()
        self._reading: Future[None] | None = None
        self._shut = False
        self._disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        wanted = os.environ.get("OTEL_METRICS_EXEMPLAR_FILTER", "").strip().lower()
        self.traced = _FILTERS.get(wanted, exemplars.traced)
        #: Instruments that could not be made, with what was wrong.
        self.refused: dict[str, str] = {}
        _providers.add(self)
        for feed in feeds:
            self.add_feed(feed)

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """The exporters that are written for."""
        return self._feeds

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> api.Meter:
        """Return the meter of a scope; see :meth:`opentelemetry.metrics.MeterProvider.get_meter`.

        Returns the meter; one without effect where metrics are disabled or the provider is shut down.
        """
        name, version, schema_url = map(scope_text, (name, version, schema_url))
        if self._disabled or self._shut:
            if self._shut:
                self._say(
                    f"A MeterProvider that is shut down makes no more instruments; those of the meter {name} "
                    f"are without effect."
                )
            return api.NoOpMeter(name, version, schema_url)
        if not name:
            self._say("A meter has no name; its metrics are told apart by their own names alone.")
        scope = Scope(name, version, schema_url, frozen(attributes))
        with self._lock:
            meter = self._meters.get(scope)
            if meter is None:
                meter = self._meters[scope] = Meter(scope, self.instrument)
            return meter

    def add_feed(self, feed: Feed) -> None:
        """Write for one more exporter from now on."""
        with self._lock:
            if feed in self._feeds or self._shut:
                return
            self._feeds = (*self._feeds, feed)
            self._plumb()
            observers.register(feed.exporter, self)

    def remove_feed(self, feed: Feed, *, keep: bool = True) -> None:
        """Write for an exporter no more."""
        with self._lock:
            self._feeds = tuple(each for each in self._feeds if each != feed)
            self._plumb()
            if not keep:
                for instrument in self._instruments.values():
                    for stream in instrument.known:
                        if stream.feed == feed:
                            _give_up(stream, (), ())
                    instrument.known = tuple(each for each in instrument.known if each.feed != feed)
            if not any(each.exporter == feed.exporter for each in self._feeds):
                observers.unregister(feed.exporter, self)

    @property
    def instrument_count(self) -> int:
        """How many instruments have been made."""
        return len(self._instruments)

    def use_views(self, views: Iterable[View]) -> None:
        """Take other views into use. Metrics that come about in the same way as before go on.

        Those that nothing comes about any more in these exporters go; those that come about in another way,
        with other buckets or other attributes for instance, start again with nothing. Of an exporter that is
        not written for at the moment that holds from when it is again.

        Raises:
            TypeError: One is not of ours; then nothing has changed.
        """
        checked = checked_views(views)
        with self._lock:
            if checked != self._views:
                self._views = checked
                self._plumb()

    def take_reading(self) -> Future[None] | None:
        """Begin to ask the callbacks of the observable instruments.

        It makes this provider an observer; see :mod:`otpylib_telemetry.aggregation.observers`.

        What they return goes to all exporters, whichever is about to be read: so all of them have the same
        numbers, and no callback is called twice at once.
        """
        with self._lock:
            if not any(isinstance(each, instruments.Observable) for each in self._instruments.values()):
                return None
            if self._reading is not None and not self._reading.done():
                return self._reading
            self._reading = readings.begin(self._read)
            return self._reading

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Have everything observed, and exported by exporters that send.

        Returns whether it was, in that time.
        """
        until = time.monotonic() + timeout_millis / _MS_PER_S
        reading = self.take_reading()
        observed = True
        if reading is not None:
            try:
                reading.result(timeout_millis / _MS_PER_S)
            except Exception:  # noqa: BLE001 - late, or given up
                observed = False
        flush = self.flush
        return (flush is None or flush(max(0.0, until - time.monotonic()))) and observed

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Let the instruments be without effect from now on. What was written stays, and is exported."""
        with self._lock:
            if self._shut:
                self._say("A MeterProvider has been shut down more than once; once is enough.")
                return
        self.force_flush(timeout_millis)
        with self._lock:
            self._shut = True
            for feed in self._feeds:
                observers.unregister(feed.exporter, self)
            self._feeds = ()
            self._plumb()

    def renew(self) -> None:
        """Look up anew where the series of every exporter are."""
        with self._lock:
            for instrument in self._instruments.values():
                for stream in instrument.streams:
                    stream.detach()

    def instrument(  # noqa: PLR0913, PLR0917 - what an instrument has
        self,
        kind: type[Made],
        scope: Scope,
        name: Any,
        unit: Any,
        description: Any,
        boundaries: Sequence[float] | None = None,
    ) -> Made | None:
        """Return an instrument, a new one if need be; None if it cannot be made.

        What cannot be used of what it is made with is reported once and left out.
        """
        if issubclass(type(name), str):
            name = str.__str__(name)
        if type(name) is not str or not _NAME.fullmatch(name):
            shown = repr(text(name, _MAX_SHOWN))
            self.refused.setdefault(shown, "name")
            self._say(
                f"The instrument {shown} ({scope.name}) is without effect: a name begins with a letter, and "
                f"has at most 255 letters, digits and characters of _.-/ in all."
            )
            return None
        unit = text(unit, None) if issubclass(type(unit), str) else ""
        if len(unit) > _MAX_UNIT:
            self._say(f"The unit of {name} ({scope.name}) has more than {_MAX_UNIT} characters; it is cut.")
            unit = unit[:_MAX_UNIT]
        description = text(description, None) if issubclass(type(description), str) else ""
        bounds = self._bounds(name, scope, boundaries)
        same = (scope, name.lower(), kind, unit, description)
        with self._lock:
            found = self._instruments.get(same)
            if isinstance(found, kind):
                if bounds != found.boundaries:
                    self._say(
                        f"{name} ({scope.name}) suggests other buckets than when it was made first; those of "
                        f"then stay."
                    )
                return found
            first = self._names.setdefault(
                (scope, name.lower()), made := kind(self.traced, scope, name, unit, description, bounds)
            )
            if first is not made:
                report_twin(first, made, self._views, self._say)
                # OpenTelemetry's metrics SDK specification, "Name conflict": the case seen first.
                made.name = first.name
            self._instruments[same] = made
            made.write_to(self._streams(made))
            made.known = made.streams
            return made

    def _bounds(
        self, name: str, scope: Scope, boundaries: Sequence[float] | None
    ) -> tuple[float, ...] | None:
        if boundaries is None:
            return None
        try:
            return checked_boundaries(boundaries)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a suggestion that cannot be used costs itself alone
            self._say(f"The buckets that {name} ({scope.name}) suggests are not used: {describe(error)}.")
            return None

    def _plumb(self) -> None:
        """Give every instrument streams to the exporters there are now; those it has go on."""
        self._sources.clear()
        before = {stream: None for each in self._instruments.values() for stream in each.known}
        for instrument in self._instruments.values():
            instrument.write_to(self._streams(instrument))
            parted = [each for each in instrument.known if each.feed not in self._feeds]
            instrument.known = (*instrument.streams, *parted)
        present: dict[tuple[Feed, str], list[Stream]] = {}
        for instrument in self._instruments.values():
            for stream in instrument.streams:
                present.setdefault((stream.feed, stream.key), []).append(stream)
        known = {stream for each in self._instruments.values() for stream in each.known}
        for stream in before:
            if stream not in known:
                _give_up(stream, present.get((stream.feed, stream.key), []), before)

    def _streams(self, instrument: instruments.Instrument) -> tuple[Stream, ...]:
        kind = ObservedStream if isinstance(instrument, instruments.Observable) else Stream
        present = {(stream.feed, stream.plan): stream for stream in instrument.known}
        plans = plans_of(instrument, self._views, self._say)
        for plan in plans:
            sources = self._sources.setdefault((plan.scope, plan.name.lower()), {})
            report_clash(plan, instrument, sources, self._say)
            sources[instrument] = None
        return tuple(present.get((feed, plan)) or kind(feed, plan) for feed in self._feeds for plan in plans)

    def _read(self) -> None:
        try:
            with self._lock:
                observed = [
                    each for each in self._instruments.values() if isinstance(each, instruments.Observable)
                ]
            options = api.CallbackOptions(timeout_millis=self._callback_timeout * _MS_PER_S)
            watches = [watch for instrument in observed for watch in instrument.watches]
            outcomes = Round(watches, options, self._callback_timeout).wait()
            for instrument in observed:
                instrument.take(outcomes)
        except BaseException as error:  # noqa: BLE001 - the exit is read all the same
            self._say(f"The observable instruments could not be read: {describe(error)}.")

    def _say(self, message: str) -> None:
        """Tell a person, once."""
        if self._said.is_news(message):
            _log.warning("%s", message)

    def begin_anew(self) -> None:
        """Be the provider of a forked child: its series are its own, and begin with nothing."""
        self._reading = None
        self.renew()
        for instrument in self._instruments.values():
            if isinstance(instrument, instruments.Observable):
                for watch in instrument.watches:
                    watch.busy = False


def _give_up(stream: Stream, present: Sequence[Stream], before: Container[Stream]) -> None:
    """End a stream that a provider has no more."""
    successors = [one for one in present if one not in before and one.plan.shape == stream.plan.shape]
    shared = frozenset[Any]().union(*(one.written for one in present if one in before))
    try:
        if successors:
            # The limit or the description is another: the series go on.
            successors[0].succeed(stream)
        else:
            stream.retire(shared)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not reach the application
        _log.warning("The series of %s could not be removed: %s.", stream.name, describe(error))


#: By the words of ``OTEL_METRICS_EXEMPLAR_FILTER``; ``trace_based`` is the default.
_FILTERS: Final[Mapping[str, Callable[[Context | None], Traced | None]]] = {
    "always_off": lambda _context: None,
    "always_on": exemplars.always,
}


def _after_fork() -> None:
    for provider in list(_providers):
        provider.begin_anew()


after_fork_in_child(_after_fork)


def _renew_all(_names: list[str]) -> None:
    for provider in list(_providers):
        provider.renew()


when_forgotten(_renew_all)
