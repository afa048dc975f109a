"""Metrics of otpylib's actors, whoever counts them: the instrumentation, or else the poller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otpylib_telemetry.aggregation.folding import FOLDED
from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.meters.observed import Observation, ObservedMetric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

#: How many servers, or modules, have series of their own; all others are one, so that the sum is right.
MAX_SERIES: Final = 100

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


def observations(
    metric: ObservedMetric,
    label: str,
    numbers: Mapping[str, int],
    fold: Callable[[Iterable[int]], int] = sum,
) -> Iterator[Observation]:
    """Return the numbers of a metric: those of the greatest, and one for all others."""
    ordered = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    for name, number in ordered[:MAX_SERIES]:
        yield Observation(metric, number, {label: name})
    if rest := ordered[MAX_SERIES:]:
        yield Observation(metric, fold(number for _, number in rest), {label: FOLDED})
