"""A page for whoever scrapes: the series of stores, and families of others, in the format he reads.

How to use it::

    exposition = Exposition(namespace, global_labels, report)
    form = negotiation.choose(request.accept)
    for chunk in exposition.render(form, [store], families, wall_offset_ns, names=request.names):
        ...  # some milliseconds of work each: on an event loop, let others run between them
    body = compress(b"".join(chunks)) if negotiation.takes_gzip(request.accept_encoding) else ...

A page of many series is mostly what was prepared at an earlier one: see :mod:`.series_text`. What is prepared
is kept for each format for as long as somebody scrapes it.

Names. A counter is called ``..._total`` in either format; where OpenMetrics cannot have it as a counter,
because something else bears its name without ``_total``, it is there as a metric of unknown type, under the
same name and with the same numbers. A name that does not fit the format gets underscores; if another metric
has the name that comes of it, it is written so that every character can be told (``U__my_2e_name``). Whatever
cannot be resolved is left out and reported: a page that has a name or a series twice is refused as a whole.

A page has the series there were when it was begun, each with the numbers it has when its turn comes: whatever
definitions or buckets change meanwhile, of each metric it has the old state or the new one. And a metric that
cannot be written costs itself alone: so it is there whole or not at all.

There are no ``_created`` lines: Prometheus stores them as one further series for each series, which nothing
needs, for it sees for itself when a counter starts again; OTLP, which does need the time, has a field for it.
"""

from __future__ import annotations

import gzip
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.metrics.names import metric_name, readable
from otpylib_telemetry.primitives.fork import new_lock
from otpylib_telemetry_prometheus.exposition.families import TYPE_OF
from otpylib_telemetry_prometheus.exposition.family_text import (
    PIECE,
    UnfitFamilyError,
    claims_of,
    family_text,
)
from otpylib_telemetry_prometheus.exposition.labels_text import LabelWriter, common_labels
from otpylib_telemetry_prometheus.exposition.negotiation import CLASSIC
from otpylib_telemetry_prometheus.exposition.pieces import Planned, Wanted, called, pieces_of
from otpylib_telemetry_prometheus.exposition.series_text import text_of
from otpylib_telemetry_prometheus.exposition.text import (
    encoded_name,
    header,
    is_metric_name,
    printable,
    underscored_metric,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from otpylib_telemetry.aggregation.metric import AnyMetric
    from otpylib_telemetry.aggregation.store import SeriesStore
    from otpylib_telemetry_prometheus.exposition.metric_text import MetricText
    from otpylib_telemetry_prometheus.exposition.negotiation import TextFormat


_NO_LABELS: Final[Mapping[str, Any]] = MappingProxyType({})

#: Pages of other formats after which what was prepared for a format goes.
_KEPT_PAGES: Final = 20

#: Characters of text about families in one chunk.
_CHUNK: Final = 200_000

#: How many different sentences are reported; then there is nothing new to be learnt from more.
_MAX_REPORTS: Final = 1_000

#: Compresses a page of metrics to a twentieth already.
_COMPRESS_LEVEL: Final = 1


def compress(body: bytes) -> bytes:
    """Return a page compressed with gzip.

    Takes about 2 ms per megabyte, without the GIL: a large page belongs into a thread.
    """
    return gzip.compress(body, compresslevel=_COMPRESS_LEVEL, mtime=0)


class Exposition:
    """Writes pages.

    Labels of series that are named like one of ``global_labels``, or are ``taken`` by whoever gets the page,
    are called ``exported_...``.

    Attributes:
        failures: How many metrics and families were left out because writing them failed, each as often as
            it was.
    """

    def __init__(
        self,
        namespace: str = "",
        global_labels: Mapping[str, Any] = _NO_LABELS,
        report: Callable[[str], None] = lambda _message: None,
        taken: Collection[str] = (),
    ) -> None:
        self._taken = frozenset(taken)
        self._prefix = f"{metric_name(namespace)}_" if namespace else ""
        self._common = common_labels(global_labels)
        self.failures = 0
        self._tell = report
        self._told: set[str] = set()
        self._writers: dict[tuple[bool, bool], _Writer] = {}
        self._pages = 0
        self._lock = new_lock()

    def render(
        self,
        form: TextFormat,
        stores: Iterable[SeriesStore],
        families: Iterable[Any] = (),
        wall_offset_ns: int = 0,
        names: Collection[str] = (),
    ) -> Iterator[bytes]:
        """Write a page. May be called by several threads at once."""
        with self._lock:
            writer = self._writer(form)
            series: dict[AnyMetric, Sequence[Any]] = {}
            owned: list[tuple[SeriesStore, AnyMetric]] = []
            for store in stores:
                with store.lock:
                    owned += [(store, metric) for metric in store.metrics]
                    series |= {metric: metric.all_series() for metric in store.metrics}
            plan = [Planned(store, one, series[one.metric]) for store, one in writer.planned(owned)]
            claims = dict(writer.claims)
        wanted = Wanted(names) if names else None
        yield from pieces_of(plan, wall_offset_ns, wanted, self._failed)
        page: list[bytes] = []
        size = 0
        for family in families:
            only = None if wanted is None else wanted.of_family()
            for text in writer.family(family, claims):
                if not text:
                    yield b""
                    continue
                page.append((text if only is None else only(text)).encode())
                size += len(page[-1])
                if size >= _CHUNK:
                    yield b"".join(page)
                    page, size = [], 0
        if form.openmetrics:
            page.append(b"# EOF\n")
        if page:
            yield b"".join(page)

    def text(
        self,
        stores: Iterable[SeriesStore],
        families: Iterable[Any] = (),
        form: TextFormat = CLASSIC,
        wall_offset_ns: int = 0,
    ) -> str:
        """Return what :meth:`render` yields as one text."""
        return b"".join(self.render(form, stores, families, wall_offset_ns)).decode()

    def _writer(self, form: TextFormat) -> _Writer:
        self._pages += 1
        key = (form.openmetrics, form.utf8)
        writer = self._writers.get(key)
        if writer is None:
            writer = self._writers[key] = _Writer(
                form,
                self._prefix,
                LabelWriter(self._common, utf8=form.utf8, taken=self._taken),
                self._report,
                self._failed,
            )
        writer.page = self._pages
        for other, stale in list(self._writers.items()):
            if self._pages - stale.page > _KEPT_PAGES:
                del self._writers[other]
        return writer

    def _failed(self, what: str, error: Exception) -> None:
        self.failures += 1
        self._report(
            f"{what} is left out of the page: it cannot be written "
            f"({type(error).__name__}: {readable(str(error))})",
            about=what,
        )

    def _report(self, message: str, about: str = "") -> None:
        if (about or message) not in self._told and len(self._told) < _MAX_REPORTS:
            self._told.add(about or message)
            self._tell(message)


class _Writer:
    """What is prepared for pages of one format; ``claims`` tells which metric has taken a name."""

    def __init__(
        self,
        form: TextFormat,
        prefix: str,
        labels: LabelWriter,
        report: Callable[[str], None],
        failed: Callable[[str, Exception], None],
    ) -> None:
        self.page = 0
        self.claims: dict[str, str] = {}
        self._openmetrics = form.openmetrics
        self._utf8 = form.utf8
        self._prefix = prefix
        self._labels = labels
        self._report = report
        self._failed = failed
        self._owned: Sequence[tuple[SeriesStore, AnyMetric]] = ()
        self._plan: list[tuple[SeriesStore, MetricText]] = []

    def planned(
        self, owned: Sequence[tuple[SeriesStore, AnyMetric]]
    ) -> Sequence[tuple[SeriesStore, MetricText]]:
        """Return what writes the metrics, in their order; those that must be left out are reported."""
        if owned != self._owned:
            known = {writer.metric: writer for _, writer in self._plan}
            self.claims = {}
            # Who need not be renamed has the first choice, and who can do with another type the last.
            order = sorted(range(len(owned)), key=lambda at: self._rank(owned[at][1]))
            found = {at: self._prepared(owned[at][1], known) for at in order}
            self._plan = [
                (store, writer) for at, (store, _) in enumerate(owned) if (writer := found[at]) is not None
            ]
            self._owned = owned
        return self._plan

    def family(self, family: Any, claims: dict[str, str]) -> Iterator[str]:
        """Write a family; nothing if there is nothing in it, or if it must be left out."""
        try:
            name, kind = str(family.name), str(family.type)
            if not family.samples:
                return
            taken, fit, shown = self._place(name, kind, claims)
            if fit is None:
                self._report(
                    f"metric family {readable(name)} ({kind}) is left out of the page: the name {taken} "
                    f"belongs to {claims[taken]}, which came first"
                )
                return
            texts: list[str] = []
            for lines in family_text(family, fit, shown, self._labels, openmetrics=self._openmetrics):
                if lines:
                    texts.append("".join(lines))
                    texts[-1].encode()
                if len(lines) in {0, PIECE}:
                    yield ""
        except UnfitFamilyError as error:
            self._report(f"metric family {readable(name)} ({kind}) is left out of the page: {error}")
            return
        except Exception as error:  # noqa: BLE001 - somebody else's objects: they must not cost the page
            called = readable(str(getattr(family, "name", family.__class__.__name__)))
            self._failed(f"metric family {called}", error)
            return
        self._claim(fit, shown, f"the metric family {readable(name)}", claims)
        yield from texts

    def _rank(self, metric: AnyMetric) -> tuple[bool, bool]:
        fits = self._utf8 or is_metric_name(metric.name)
        return (not fits, metric.kind is Kind.COUNTER)

    def _prepared(self, metric: AnyMetric, known: Mapping[AnyMetric, MetricText]) -> MetricText | None:
        try:
            return self._claimed(metric, known)
        except Exception as error:  # noqa: BLE001 - one metric must not cost the page
            self._failed(called(metric), error)
            return None

    def _claimed(self, metric: AnyMetric, known: Mapping[AnyMetric, MetricText]) -> MetricText | None:
        kind = TYPE_OF[metric.kind]
        name = printable(metric.name)
        base = self._prefix + (name.removesuffix("_total") if kind == "counter" else name)
        taken, fit, shown = self._place(base, kind, self.claims)
        if fit is None:
            self._report(
                f"{called(metric)} is left out of the page: the name "
                f"{taken} belongs to {self.claims[taken]}, which came first"
            )
            return None
        self._claim(fit, shown, f"the {metric.kind.value} {readable(metric.name)}", self.claims)
        full = fit + "_total" if shown == "counter" else fit
        writer = known.get(metric)
        if writer is None or writer.name != full:
            writer = text_of(metric, full, self._labels, openmetrics=self._openmetrics, report=self._report)
        family = fit if self._openmetrics else full
        writer.header = header(family, shown, metric.description, metric.unit, openmetrics=self._openmetrics)
        writer.exemplars = self._openmetrics and shown != "unknown"
        return writer

    def _place(self, name: str, kind: str, claims: Mapping[str, str]) -> tuple[str, str | None, str]:
        """Find a name and a type for a family."""
        if self._utf8 or is_metric_name(name):
            candidates = [name or "_"]
        else:
            candidates = [underscored_metric(name), encoded_name(name)]
        taken = ""
        for fit in candidates:
            shapes = [(fit, kind)]
            if kind == "counter" and self._openmetrics:
                shapes.append((f"{fit}_total", "unknown"))
            for shape, shown in shapes:
                clashes = [
                    one for one in claims_of(shape, shown, openmetrics=self._openmetrics) if one in claims
                ]
                if not clashes:
                    return taken, shape, shown
                taken = taken or clashes[0]
        return taken, None, kind

    def _claim(self, name: str, kind: str, owner: str, claims: dict[str, str]) -> None:
        claims.update(dict.fromkeys(claims_of(name, kind, openmetrics=self._openmetrics), owner))
