"""What otpylib has to do: processes by module, mailboxes by server, timers. Our own processes are left out.

Where the actors are instrumented, it is their instrumentation that tells of processes and mailboxes.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from otpylib_telemetry import otp
from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.meters import observed
from otpylib_telemetry.meters.actors import PROCESSES, SIZE, observations
from otpylib_telemetry.meters.observed import Observation, ObservedMetric
from otpylib_telemetry.poller.polls import Measured

NAME: Final = "telemetry.poller.otpylib"

#: The source of the instrumentation of the actors.
_ACTORS: Final = "otpylib actors"

TIMERS: Final = ObservedMetric(
    Kind.UP_DOWN, "otpylib.timers", "otpylib_timers", "{timer}", "Timers that have been set and not come due."
)


def measure() -> Measured:
    """Return what there is now; to be called on the loop of the runtime, which may not change meanwhile."""
    from otpylib_telemetry.instrument.otpylib.identity import module_of, readable_name  # noqa: PLC0415 - only where polled

    modules: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    for record, name in otp.process_records():
        module, ours = module_of(record)
        if ours:
            continue
        modules[module] += 1
        if record.mailbox is not None:
            waiting[module if name is None else readable_name(name)] += record.mailbox.queue.qsize()
    timers = otp.timers()
    found = [Observation(TIMERS, timers)]
    if _ACTORS not in observed.sources():
        found += observations(SIZE, "server", waiting)
        found += observations(PROCESSES, "module", modules)
    numbers: dict[str, float] = {"processes": modules.total(), "messages": waiting.total(), "timers": timers}
    return Measured([(numbers, {})], found, [])
