"""What otpylib has to do: processes by module, mailboxes by server, timers. Our own processes are left out.

Where the actors are instrumented, it is their instrumentation that tells of processes and mailboxes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry import otp
from otpylib_telemetry.aggregation.folding import FOLDED
from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.meters import observed
from otpylib_telemetry.meters.observed import Observation, ObservedMetric
from otpylib_telemetry.poller.polls import Measured

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAME: Final = "telemetry.poller.otpylib"

#: The source of the instrumentation of the actors.
_ACTORS: Final = "otpylib actors"

#: How many servers, or modules, have series of their own; all others are one, so that the sum is right.
MOST_SERIES: Final = 100

SIZE: Final = ObservedMetric(
    Kind.UP_DOWN,
    "otpylib.mailbox.size",
    "otpylib_mailbox_size",
    "{message}",
    "Messages that wait in the mailboxes of a server.",
)
PROCESSES: Final = ObservedMetric(
    Kind.UP_DOWN,
    "otpylib.processes",
    "otpylib_processes",
    "{process}",
    "Processes that are alive, by the module they run.",
)
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
    observations = [Observation(TIMERS, timers)]
    if _ACTORS not in observed.sources():
        observations += _observations(SIZE, "server", waiting)
        observations += _observations(PROCESSES, "module", modules)
    numbers: dict[str, float] = {"processes": modules.total(), "messages": waiting.total(), "timers": timers}
    return Measured([(numbers, {})], observations, [])


def _observations(metric: ObservedMetric, label: str, numbers: Mapping[str, int]) -> Iterator[Observation]:
    """Return the numbers of a metric: those of the greatest, and one for all others."""
    ordered = sorted(numbers.items(), key=_greatest_first)
    for name, number in ordered[:MOST_SERIES]:
        yield Observation(metric, number, {label: name})
    if rest := ordered[MOST_SERIES:]:
        yield Observation(metric, sum(number for _, number in rest), {label: FOLDED})


def _greatest_first(item: tuple[str, Any]) -> tuple[int, str]:
    return -item[1], item[0]
