"""From the OpenTelemetry API into the queues of exporters. Knows nothing of OpenTelemetry itself."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry import otp
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.primitives.fork import new_rlock
from otpylib_telemetry_otel.traces import api_spans

if TYPE_CHECKING:
    from collections.abc import Iterable


#: How many spans wait for an exporter that has not come up yet. As many as an SDK's queue holds by default
#: (OpenTelemetry, "Environment Variable Specification": OTEL_BSP_MAX_QUEUE_SIZE).
MAX_WAITING: Final = 2048


class Destination:
    """One exporter that spans are handed to."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: Spans that were put into its queue; what becomes of them is in its ledger.
        self.handed_over = 0
        #: Spans that were not, by reason.
        self.dropped: Counter[str] = Counter()
        self._waiting: deque[Any] = deque()
        self._successor: Destination | None = None
        # Re-entrant, because a signal handler may end a span while its thread is in here.
        self._lock = new_rlock()

    @property
    def waiting(self) -> int:
        """How many spans wait for the exporter to come up."""
        return len(self._waiting)

    @property
    def ready(self) -> bool:
        """Whether the exporter has come up, and it is known whether it takes anything."""
        return registry.is_configured(self.name)

    def give(self, span: Any) -> None:
        """Hand a finished span over; safe in any thread."""
        with self._lock:
            if self._successor is not None:
                # Whoever gives it has looked up the former life just before it ended.
                self._successor.give(span)
                return
            if not self.ready:
                if len(self._waiting) < MAX_WAITING:
                    self._waiting.append(span)
                else:
                    self.dropped["no_exporter"] += 1
                return
            self.catch_up()
            self._pass_on(span)

    def catch_up(self) -> None:
        """Hand over what waits, if the exporter has come up meanwhile."""
        with self._lock:
            while self._waiting and self.ready:
                self._pass_on(self._waiting.popleft())

    def take_over(self, former: Destination) -> None:
        """Take over the books of an earlier life, and what waits in it."""
        with former._lock, self._lock:
            former._successor = self
            self._waiting.extendleft(reversed(former._waiting))
            former._waiting.clear()
            self.handed_over += former.handed_over
            self.dropped += former.dropped

    def give_up(self) -> None:
        """Hand over what waits, or count it: nobody looks after it any more."""
        with self._lock:
            self.catch_up()
            self.dropped["no_exporter"] += len(self._waiting)
            self._waiting.clear()

    def stats(self) -> dict[str, Any]:
        """Return the counts."""
        return {
            "handed_over": self.handed_over,
            "waiting": self.waiting,
            "dropped": {reason: count for reason, count in self.dropped.items() if count},
        }

    def _pass_on(self, span: Any) -> None:
        # Listening means: neither disabled nor idle nor drained.
        if not registry.is_listening(self.name):
            self.dropped["exporter_off"] += 1
            return
        api_spans.offer(self.name, span)
        self.handed_over += 1


class SpanForwarder:
    """Hands spans to all exporters that are to have them."""

    def __init__(self, names: Iterable[str], loop: asyncio.AbstractEventLoop) -> None:
        self.targets = [Destination(name) for name in names]
        self._loop = loop

    def give(self, span: Any) -> None:
        """Hand a finished span to every exporter; safe in any thread."""
        for target in self.targets:
            target.give(span)

    def catch_up(self) -> bool:
        """Hand over what waits for exporters that have come up; returns whether all have."""
        for target in self.targets:
            target.catch_up()
        return all(target.ready for target in self.targets)

    def take_over(self, former: SpanForwarder) -> None:
        """Take over from an earlier life, which is given no spans any more."""
        by_name = {target.name: target for target in self.targets}
        for target in former.targets:
            if target.name in by_name:
                by_name[target.name].take_over(target)
        former.give_up()

    def give_up(self) -> None:
        """Hand over what can be, and count the rest."""
        for target in self.targets:
            target.give_up()

    def flush(self, seconds: float) -> bool:
        """Export what was handed over, and tell whether all was; the loop's thread can only begin to."""
        names = [target.name for target in self.targets]
        if otp.running_loop() is self._loop:
            for name in names:
                work = registry.flush_pending(name)
                otp.run_in_background(self._loop, work, name="flush of the API's spans")
            return False

        async def flush() -> bool:
            return all(await asyncio.gather(*(registry.flush(name, seconds) for name in names)))

        flushes = flush()
        try:
            flushing = asyncio.run_coroutine_threadsafe(flushes, self._loop)
        except RuntimeError:
            # The loop is closed.
            flushes.close()
            return False
        try:
            return flushing.result(seconds)
        except Exception:  # noqa: BLE001 - whatever it is, it is not exported, which is all that is said
            flushing.cancel()
            return False
