"""The behaviour an exporter author writes; everything else is :mod:`otpylib_telemetry.exporter.server`'s.

The smallest useful exporter overrides :meth:`Exporter.export` alone::

    class Lines(Exporter[ExporterSettings]):
        async def export(self, batch):
            await run_in_thread(append_lines, batch)

    LinesExporter = exporter_module("LinesExporter", Lines, name="lines_exporter", section="telemetry.lines")

An exporter lives on the event loop's thread. It owns no queue, no timer, no retry and no subscription: the
server that runs it has those, and the same for every exporter.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from otpylib_telemetry.bus.events import Event, RawEvent
from otpylib_telemetry.config.settings import ExporterSettings
from otpylib_telemetry.exporter.collected import Collected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from otpylib_telemetry.exporter.collected import ExportOutcome
    from otpylib_telemetry.exporter.probe import Probe

SettingsT = TypeVar("SettingsT", bound=ExporterSettings)

#: The lane of items of which there is one kind only.
DEFAULT_LANE = ""


@dataclass(slots=True)
class ExportContext:
    """What the server lends to the exporter it runs.

    Attributes:
        name: Registered name of the process, for instance ``otel_exporter``.
        section: Configuration section, for instance ``telemetry.otel``.
        memory: Kept under the exporter's name for as long as the interpreter runs: what is put here survives
            crash, restart and replacement of the exporter.
        catch_up: Awaitable call that collects every event emitted so far.
        stats: Returns the ledger, breaker state and queue depth, as ``get_stats`` answers them.
    """

    name: str
    section: str
    memory: dict[str, Any]
    catch_up: Callable[[], Awaitable[object]]
    stats: Callable[[], dict[str, Any]]


class Exporter(Generic[SettingsT]):
    """Turns events into what a backend takes, and hands it over.

    Args:
        settings: The configuration in force, already validated.
        context: What the server lends.
    """

    #: The pydantic model of the exporter's configuration section.
    settings_type: ClassVar[type[ExporterSettings]] = ExporterSettings

    #: Sets of keys that are taken over together or not at all, such as an address and the password that goes
    #: with it. Of all other keys, one that cannot be had does not hold up the rest.
    inseparable: ClassVar[tuple[frozenset[str], ...]] = ()

    #: Keys of its own that are taken over without reaching for anything outside the process: of a change of
    #: these alone, nothing has to be tried first.
    in_place: ClassVar[frozenset[str]] = frozenset()

    #: Whether :meth:`collect` takes the entries of the log of events as they are (see ``bus/event_log.py``),
    #: operations among them, and changes nothing in them. It counts for the class that says so and has a
    #: ``collect`` of its own. All others get events.
    takes_operations: ClassVar[bool] = False

    def __init__(self, settings: SettingsT, context: ExportContext) -> None:
        self.settings = settings
        self.context = context

    @classmethod
    def tells_of_traces(cls, settings: SettingsT | None) -> bool:
        """Tell whether operations that only this exporter hears of are parents of others, here and elsewhere.

        They are if it tells of traces: somebody will find them there. An exporter that makes nothing but
        metrics says no; what runs inside an operation then continues the trace around it.

        Args:
            settings: Those to come into force; None as long as nobody knows them.
        """
        del settings
        return True

    @classmethod
    def probes(cls, settings: SettingsT) -> Sequence[Probe]:
        """Return what can be tried of settings before an exporter goes by them.

        Override it where settings name files, destinations or ports: ``otpylib-telemetry check`` then tells
        which of them cannot be had.

        Args:
            settings: The settings; no exporter with them need exist.
        """
        del settings
        return ()

    @classmethod
    def effects(cls, before: SettingsT, after: SettingsT, changed: frozenset[str]) -> Sequence[str]:
        """Return in words what a change of settings would do, for whoever asks before making it.

        Override it where a change costs something: series that begin again, connections that are closed.

        Args:
            before: The settings.
            after: Those to come.
            changed: The keys that differ.
        """
        del before, after, changed
        return ()

    @classmethod
    async def prove(cls, settings: SettingsT, instead_of: SettingsT | None) -> Sequence[str] | None:
        """Try where settings send to, without sending anything of what waits.

        Called before an exporter gives way to one with these settings, before one that was off is opened
        again, and by a dry run. The default tries the :meth:`probes` that connect somewhere. Override it
        where there is something that can be sent in vain, such as an empty request. It must leave nothing
        behind.

        Args:
            settings: Those to come into force.
            instead_of: Those that have proved themselves: what they have in common with the others needs no
                proof. None to try everything, as where they are not ``enabled``: that is what was open before
                the exporter was switched off, or idle.

        Returns:
            What was tried, such as "traces to http://collector:4317", for whoever asks; None to tell nothing.

        Raises:
            Exception: Nothing is taken there. The exporter goes on as it was, says why, and tries again.
        """
        known = set[str]()
        if instead_of is not None and instead_of.enabled:
            known = {probe.what for probe in cls.probes(instead_of)}
        tried = []
        for probe in cls.probes(settings):
            if probe.connects and not probe.takes and probe.what not in known:
                await probe.run()
                tried.append(probe.what)
        return tried

    def ahead(self) -> Mapping[str, Any]:
        """Return values that count already, by key, though the settings they are part of wait.

        Override it where something is to protect at once, whatever else of a change cannot be had.
        """
        return {}

    def idle_reason(self) -> str | None:
        """Return why there is nothing to do under the present settings, or None if there is.

        An idle exporter is not subscribed to anything and costs nothing.
        """
        return None

    async def open(self) -> None:
        """Acquire what exporting needs.

        Raises:
            Exception: Anything: the exporter is then degraded, says why, and is opened again later.
        """

    def collect(self, events: Sequence[RawEvent], wall_offset_ns: int) -> Collected:
        """Take events over, in the order in which they were emitted.

        The default makes every event an item of its own. An override must not raise for an event it
        cannot use: it counts that event as rejected.

        Args:
            events: The events.
            wall_offset_ns: What to add to an event's ``monotonic_ns`` to get nanoseconds since the epoch.

        Returns:
            What became of the events. Those still held back are reported by :attr:`held` instead.
        """
        del wall_offset_ns
        return Collected(items=[(Event._make(event), 1) for event in events])

    @property
    def held(self) -> int:
        """How many collected events are held back, neither items nor done with (open spans, for instance)."""
        return 0

    def tick(self, now_ns: int, wall_offset_ns: int, alive: Callable[[object], bool]) -> Collected:
        """Do what is due by the clock; called about once a second.

        Args:
            now_ns: The present, on the clock of :func:`time.monotonic_ns`.
            wall_offset_ns: What to add to it to get nanoseconds since the epoch.
            alive: Tells whether an event's ``emitter`` still runs.

        Returns:
            What became of events held until now.
        """
        del now_ns, wall_offset_ns, alive
        return Collected()

    def give_up_held(self, wall_offset_ns: int) -> Collected:
        """Give up what is held: the exporter is being drained and nothing more will come.

        Args:
            wall_offset_ns: What to add to a monotonic time to get nanoseconds since the epoch.

        Returns:
            What became of the events held until now.
        """
        del wall_offset_ns
        return Collected()

    def produce_due(self, now_ns: int) -> bool:
        """Tell whether it is time for :meth:`produce`; asked at each tick.

        Args:
            now_ns: The present, on the clock of :func:`time.monotonic_ns`.
        """
        del now_ns
        return False

    async def produce(
        self, book: Callable[[Callable[[], Collected]], bool], held: int, seconds: float, *, last_chance: bool
    ) -> None:
        """Make items of what was added up so far: see :attr:`Collected.produced_items`.

        Called when :meth:`produce_due` says so, at every flush, and for the last time when the exporter is
        being drained. Never called again before an earlier call has ended.

        Args:
            book: Runs a function and enters what it returns, in one step. What is remembered of what was read
                belongs into that function, so that nothing is read that is not entered. False if it was not
                run: somebody else bears the name by now.
            held: The weight of the items made earlier that still wait or are under way.
            seconds: How long it may take.
            last_chance: Whether this may be the last time.
        """
        del book, held, seconds, last_chance

    def lane(self, item: Any) -> str:
        """Return the lane an item goes out on; items of different lanes are never in one batch.

        Override it where items are of several kinds that the backend takes separately, such as spans and log
        records. Each lane is filled, sent and retried by itself; only the circuit breaker is common to all.

        Args:
            item: One of those in :attr:`Collected.items`.

        Returns:
            A name, one of a few: ``spans``.
        """
        del item
        return DEFAULT_LANE

    def urgent(self, item: Any) -> bool:
        """Tell whether an item goes first when the exporter is being drained and time may run out.

        Otherwise items are exported in the order in which they were made.

        Args:
            item: One that waits to be exported.
        """
        del item
        return False

    async def export(self, batch: Sequence[Any]) -> ExportOutcome | None:
        """Hand a batch of items to the backend.

        Blocking work belongs on a thread: see :func:`~otpylib_telemetry.run_in_thread`. With a
        ``concurrency`` above 1, or with several lanes, it is called again before an earlier call has ended.

        Args:
            batch: Items of one lane, oldest first, at most ``batch_size`` of them.

        Returns:
            None if all of it arrived, or what was refused.

        Raises:
            ExportError: It did not arrive, or will not be taken.
            Exception: Anything else counts as a failure that is worth another try.
        """
        raise NotImplementedError(f"{type(self).__name__} makes items but does not say how to export them")

    async def apply(self, settings: SettingsT, changed: frozenset[str]) -> bool:
        """Take new settings into use.

        Args:
            settings: The settings to come.
            changed: The keys of its own that differ from those in force. Those every exporter has
                (``batch_size``, ``queue_limit``, ...) are not its business.

        Returns:
            True if they are in force now. False to be replaced: a new instance is opened with them, and
            this one is closed as soon as the batch it may be exporting is done.

        Raises:
            Exception: They cannot be applied for an outside reason; the old ones stay in force, the exporter
                is degraded, and it is tried again later.
        """
        del settings, changed
        return False

    async def close(self) -> None:
        """Release everything :meth:`open` acquired. Also called when ``open`` failed half-way."""

    def noticed(self, path: str, old_value: Any, new_value: Any) -> None:
        """Hear of a configuration change in the exporter's section, before it is applied.

        Args:
            path: For instance ``telemetry.otel.sampling_rate``.
            old_value: What it was.
            new_value: What it is to be.
        """

    def answer(self, request: tuple[Any, ...]) -> Any:
        """Answer a call that the server itself does not know.

        Args:
            request: The message; everything emitted before it was sent has been collected.

        Returns:
            The reply.

        Raises:
            LookupError: The exporter does not know it either.
        """
        raise LookupError(request)

    def place(self) -> str | None:
        """Return where it serves or sends, as the log is to say it once it works; None says nothing.

        For instance ``metrics are served at http://127.0.0.1:9464/metrics``.
        """
        return None

    def stats(self) -> Mapping[str, Any]:
        """Return what is worth knowing about this exporter in particular."""
        return {}


def overridden(exporter: object, name: str) -> Callable[[Any], Any] | None:
    """Return a method that an exporter has of its own; None for one it has from :class:`Exporter`.

    What most exporters leave as it is must cost them nothing per item.

    Args:
        exporter: The exporter.
        name: The method's name, ``lane`` or ``urgent``.
    """
    method = getattr(type(exporter), name, None)
    if method is None or method is getattr(Exporter, name):
        return None
    bound: Callable[[Any], Any] = getattr(exporter, name)
    return bound


def takes_operations(exporter: object) -> bool:
    """Tell whether an exporter's ``collect`` takes operations: who overrides one that does gets events.

    Args:
        exporter: The exporter.
    """
    kind = type(exporter)
    found = _takes_operations.get(kind)
    if found is None:
        owner = next((one for one in kind.__mro__ if "collect" in one.__dict__), kind)
        found = _takes_operations[kind] = bool(owner.__dict__.get("takes_operations", False))
    return found


_takes_operations: weakref.WeakKeyDictionary[type, bool] = weakref.WeakKeyDictionary()
