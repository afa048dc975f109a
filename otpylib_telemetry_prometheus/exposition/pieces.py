"""The metrics of a page in pieces, each some milliseconds' work."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry.metrics.names import readable
from otpylib_telemetry_prometheus.exposition.series_text import ROUND
from otpylib_telemetry_prometheus.exposition.text import after_labels, before_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from otpylib_telemetry.aggregation.metric import AnyMetric
    from otpylib_telemetry.aggregation.store import SeriesStore
    from otpylib_telemetry_prometheus.exposition.metric_text import MetricText


#: What a line begins with: the name of its sample, with what comes before its first label or its value.
_START: Final = re.compile(r'\{"[^"\\]*(?:\\.[^"\\]*)*"(?:,|\} )|[^ {]*[ {]')


class Wanted:
    """Keeps the lines of some samples only."""

    def __init__(self, names: Collection[str]) -> None:
        # Looked up, not tried one after the other: a query may name thousands.
        self._starts = {start for name in names for start in (f"{after_labels(name)} ", before_labels(name))}

    def of_family(self) -> Callable[[str], str]:
        """Return what keeps the lines of these samples, with the lines that begin their families.

        It is to be called with the text of one metric or family, in as many pieces of whole lines as it has.
        """
        heads: list[str] = []
        among_samples = False

        def only(text: str) -> str:
            nonlocal heads, among_samples
            kept: list[str] = []
            for line in text.split("\n")[:-1]:
                if line.startswith("# "):
                    if among_samples:
                        heads, among_samples = [], False
                    heads.append(line)
                    continue
                among_samples = True
                start = _START.match(line)
                if start is not None and start[0] in self._starts:
                    kept += [*heads, line]
                    heads = []
            return "".join(f"{line}\n" for line in kept)

        return only


class Planned(NamedTuple):
    """A metric of a page, with its series when the page was begun."""

    store: SeriesStore
    writer: MetricText
    series: Sequence[Any]


def called(metric: AnyMetric) -> str:
    """Return what a metric is called in a report."""
    return f"metric {readable(metric.name)} ({metric.kind.value})"


def pieces_of(
    plan: Iterable[Planned],
    wall_offset_ns: int,
    wanted: Wanted | None,
    failed: Callable[[str, Exception], None],
) -> Iterator[bytes]:
    """Yield the text of metrics; one that cannot be written is left out as a whole, and reported."""
    page: list[bytes] = []
    work = 0
    for planned in plan:
        only = None if wanted is None else wanted.of_family()
        # Nothing of a metric leaves before it has succeeded as a whole.
        whole: list[bytes] = []
        begin = planned.writer.header
        try:
            for cost, step in _steps(planned, wall_offset_ns):
                if work and work + cost > ROUND:
                    yield b"".join(page)
                    page.clear()
                    work = 0
                lines = step()
                work += cost
                if lines:
                    text = begin + "".join(lines)
                    begin = ""
                    whole.append((text if only is None else only(text)).encode())
        except Exception as error:  # noqa: BLE001 - one metric must not cost the page
            failed(called(planned.writer.metric), error)
            continue
        if len(whole) > 1:
            yield b"".join(page)
            page.clear()
            yield from whole
        else:
            page += whole
    if page:
        yield b"".join(page)


def _steps(planned: Planned, wall_offset_ns: int) -> Iterator[tuple[int, Callable[[], Sequence[str]]]]:
    """Yield the steps in which a metric is written: about how many lines' work each is, and what does it."""
    store, writer, series = planned
    each = writer.lines_each()
    size = max(1, ROUND // each)
    with store.lock:
        writer.forget(series)

    def look(some: Sequence[Any]) -> Sequence[str]:
        with store.lock:
            writer.look(some)
        return ()

    def write(some: Sequence[Any]) -> Sequence[str]:
        with store.lock:
            return writer.lines(some, wall_offset_ns)

    parts = [series[start : start + size] for start in range(0, len(series), size)]
    # All series are looked at before any is written.
    for step in (look, write) if writer.looks else (write,):
        for some in parts:
            yield len(some) * each, partial(step, some)
