"""What the signals of one exporter have in common: each is sent by itself, and may be given up by itself.

A backend may know spans and nothing else, and there may be none at all for log records or metrics. Neither is
a reason not to export the rest.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

from otpylib_telemetry.exporter.collected import Collected, ExportOutcome
from otpylib_telemetry.exporter.errors import ExportError
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.primitives.threads import run_in_thread, run_in_thread_to_end
from otpylib_telemetry.scrubbing.scrubber import scrubber_in
from otpylib_telemetry_otel.destinations import build, why_none
from otpylib_telemetry_otel.errors import BackendUnavailableError
from otpylib_telemetry_otel.sdk.suppression import unobserved
from otpylib_telemetry_otel.settings.endpoint import SIGNALS, SignalName, Transport

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Container, Mapping, Sequence

    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.tracing.operation import Place
    from otpylib_telemetry_otel.destinations import Destination
    from otpylib_telemetry_otel.errors import SignalRefusedError
    from otpylib_telemetry_otel.settings.model import OtelSettings
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


_log = logging.getLogger("otpylib_telemetry")

#: Key into the memory that survives the exporter.
_SAID: Final = "signals_said"

#: The transport has its own timeout and keeps it, as a rule; over HTTP it starts again with each part of the
#: answer. Seconds granted beyond it before an attempt is given up from outside.
_GRACE: Final = 1.0

#: Seconds that giving up an attempt waits for the answer that may be on its way: it fits into the time that
#: the chassis grants what it abandons.
_LINGER: Final = 0.2


#: What the conventions call the items of a signal.
_NOUNS: Final = {"traces": "span", "logs": "log", "metrics": "metric"}


@dataclass(slots=True)
class Batch:
    """Events on their way through the signals; ``others`` are those of which nothing was made so far."""

    events: Sequence[Entry]
    wall_offset_ns: int
    apart: Container[str] = ()
    span_events: str = "event"
    collected: Collected = field(default_factory=Collected)
    others: Sequence[tuple[Entry, FinishedSpan | Place | None]] = ()
    unused: int = 0


class Signal:
    """One signal of one exporter: what it makes of events, and how that is sent."""

    #: The signal, which is also the key that switches it off.
    name: ClassVar[SignalName]
    #: The lane its items go out on.
    lane: ClassVar[str]
    #: The keys that it takes into use without a new connection.
    in_place: ClassVar[frozenset[str]]

    def __init__(self, exporter: Exporter[OtelSettings], counts: Counter[str]) -> None:
        settings = exporter.settings
        #: Whose settings are the ones in force.
        self._exporter = exporter
        self._context = exporter.context
        #: They survive the exporter.
        self._counts = counts
        self._said: Once = exporter.context.memory.setdefault(_SAID, Once())
        self._wanted = settings.sends(self.name)
        self._scrubber = scrubber_in(exporter.context.memory, settings.scrub_plan())
        connection = settings.connection(self.name)
        self._timeout = connection.timeout
        #: What OpenTelemetry's conventions call that which sends them ("otel.component.type").
        self.component = _component(settings, self.name, connection.protocol)
        self._destination: Destination | None = None
        #: Why none are sent though they are wanted.
        self._off: str | None = None

    @property
    def _settings(self) -> OtelSettings:
        return self._exporter.settings

    @property
    def taken(self) -> bool:
        """Whether any are made."""
        return self._wanted and self._off is None

    @property
    def held(self) -> int:
        """How many events are held back, neither items nor done with."""
        return 0

    async def open(self, resource: Mapping[str, Any]) -> None:
        """Build what sends them, if they are wanted and there is anything that does."""
        self._off = None
        if not getattr(self._settings, self.name):
            return
        reason = await run_in_thread(why_none, self._settings, self.name)
        if reason is None:
            try:
                self._destination = await run_in_thread(build, self._settings, self.name, resource)
            except BackendUnavailableError as error:
                if not any(self._settings.sends(name) for name in SIGNALS[: SIGNALS.index(self.name)]):
                    raise
                reason = str(error)
            else:
                reason = await self._why_not_made()
        if reason is not None:
            self._switch_off(reason)

    async def _why_not_made(self) -> str | None:
        """Return why none can be made under the settings, or None if they can."""
        return None

    def collect(self, batch: Batch) -> None:
        """Make items of events."""

    def tick(self, now_ns: int, alive: Callable[[object], bool], collected: Collected) -> None:
        """Do what is due by the clock."""

    def give_up_held(self, collected: Collected) -> None:
        """Give up what is held: nothing more will come."""

    def produce_due(self, now_ns: int) -> bool:
        """Tell whether it is time for :meth:`produce`."""
        del now_ns
        return False

    async def produce(
        self, book: Callable[[Callable[[], Collected]], bool], held: int, seconds: float, *, last_chance: bool
    ) -> None:
        """Make items of what was added up so far; see ``Exporter.produce``."""

    async def export(self, batch: Sequence[Any]) -> ExportOutcome | None:
        """Send some; returns what was refused."""
        if self._destination is None or self._off is not None:
            return ExportOutcome(len(batch), self._off or f"{self.name} are switched off")
        return await self._send(self._destination, batch)

    def give_up(self, error: SignalRefusedError, items: int) -> ExportOutcome:
        """Send none any more: the backend takes other signals, and does not know this one.

        It is not in trouble, so neither the breaker nor a retry has anything to do with it.
        """
        self._off = (
            f"the backend takes no {self.name} ({error}); none are sent until the configuration "
            f"changes, and {self.name} = false says that none are wanted"
        )
        return ExportOutcome(items, self._off)

    async def _send(self, destination: Destination, batch: Sequence[Any]) -> ExportOutcome | None:
        try:
            return await run_in_thread_to_end(
                unobserved, destination.send, batch, timeout=self._timeout + _GRACE, linger=_LINGER
            )
        except TimeoutError as error:
            raise ExportError(f"no answer within {self._timeout:g} s") from error

    async def apply(self, settings: OtelSettings, changed: frozenset[str]) -> None:
        """Take settings into use that need no other connection: all of them, or none.

        If any of the signal's own are among them, a backend that refused it is asked again.
        """
        self._scrubber = scrubber_in(self._context.memory, settings.scrub_plan())
        if changed & self.in_place and self._destination is not None:
            self._off = None

    async def close(self) -> None:
        """Release the connection."""
        destination, self._destination = self._destination, None
        if destination is not None:
            await run_in_thread(destination.close)

    def stats(self) -> Mapping[str, Any]:
        """Return what is worth knowing about the signal."""
        return {}

    def _switch_off(self, reason: str) -> None:
        """Send none for a reason; it is said once, though the exporter may be replaced many times."""
        self._off = reason
        if self._said.is_news(reason):
            _log.info(
                "%s sends no %s: %s. With %s = false that is not said.",
                self._context.name,
                self.name,
                reason,
                self.name,
            )


def _component(settings: OtelSettings, signal: SignalName, protocol: Transport | None) -> str:
    if protocol is not None:
        return f"otlp_{protocol.partition('/')[0]}_{_NOUNS[signal]}_exporter"
    exporter = settings.exporter
    return exporter if isinstance(exporter, str) else type(exporter.exporter(signal)).__name__
