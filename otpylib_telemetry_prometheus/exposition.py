"""The text format a Prometheus server scrapes, version 0.0.4, from the series store.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format. A scrape of many
series is made of what was prepared at the first one: per metric a template, per series the text of its
labels. Only the numbers are new each time. Pure.
"""

from __future__ import annotations

from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation import Counter, Gauge, Histogram, HistogramSeries
from otpylib_telemetry_prometheus.labels import label_text, number_text
from otpylib_telemetry_prometheus.naming import label_name, metric_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from otpylib_telemetry.aggregation import Labels, Series

__all__ = ["CONTENT_TYPE", "TextExposition"]

#: Value of the ``Content-Type`` header.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

#: Series per chunk: some milliseconds of work, after which a caller on an event loop can let others run.
_CHUNK: Final = 500

#: Stands for a series' labels in a histogram's template; not a character of any name.
_HOLE: Final = "\0"

_ESCAPED_LABEL: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_ESCAPED_HELP: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})

_NO_LABELS: Final[Mapping[str, Any]] = MappingProxyType({})


class _Family:
    """What stays the same from scrape to scrape of one metric."""

    __slots__ = ("bounds", "header", "name", "template", "texts", "used")

    def __init__(self, name: str, metric: Counter | Gauge | Histogram) -> None:
        self.name = name
        description = metric.description.translate(_ESCAPED_HELP)
        self.header = f"# HELP {name} {description}\n# TYPE {name} {metric.kind.value}\n"
        self.bounds: tuple[float, ...] | None = None
        self.template = ""
        self.texts: dict[Series, str] = {}
        self.used: set[str] = set()
        if isinstance(metric, Histogram):
            self.bounds = metric.bounds
            limits = [*map(number_text, map(float, metric.bounds)), "+Inf"]
            self.template = "".join(f'{name}_bucket{{{_HOLE}le="{limit}"}} %d\n' for limit in limits)


class TextExposition:
    """Writes the series of a store as text.

    Args:
        namespace: Put before every metric name, with an underscore; empty for none.
        global_labels: Labels of every series. A series that has a label of such a name itself keeps it as
            ``exported_<name>``, as Prometheus does it.
    """

    def __init__(self, namespace: str = "", global_labels: Mapping[str, Any] = _NO_LABELS) -> None:
        self._prefix = f"{metric_name(namespace)}_" if namespace else ""
        texts = {label_name(str(name)): label_text(value) for name, value in global_labels.items()}
        self._global = {name: text for name, text in texts.items() if text}
        self._families: dict[Counter | Gauge | Histogram, _Family] = {}

    def render(self, metrics: Iterable[Counter | Gauge | Histogram]) -> Iterator[bytes]:
        """Write metrics, in the order given; one without series is left out.

        Args:
            metrics: The metrics. Series may be added and changed while the text is made: each line is as it
                was when its chunk was made.

        Yields:
            Chunks of the text, each some milliseconds' work.
        """
        present: set[Counter | Gauge | Histogram] = set()
        for metric in metrics:
            present.add(metric)
            series = metric.all_series()
            if not series:
                continue
            family = self._family(metric)
            yield family.header.encode()
            for start in range(0, len(series), _CHUNK):
                yield self._lines(family, series[start : start + _CHUNK]).encode()
            if len(family.texts) > len(series):
                # Series have gone; what was prepared for them goes, too.
                family.texts = {one: family.texts[one] for one in series}
                family.used = set(family.texts.values())
        for metric in self._families.keys() - present:
            del self._families[metric]

    def text(self, metrics: Iterable[Counter | Gauge | Histogram]) -> str:
        """Return what :meth:`render` yields as one text.

        Args:
            metrics: The metrics.
        """
        return b"".join(self.render(metrics)).decode()

    def _family(self, metric: Counter | Gauge | Histogram) -> _Family:
        family = self._families.get(metric)
        if family is None or (isinstance(metric, Histogram) and family.bounds != metric.bounds):
            family = self._families[metric] = _Family(self._prefix + metric.name, metric)
        return family

    def _lines(self, family: _Family, series: list[Any]) -> str:
        texts, name, template = family.texts, family.name, family.template
        lines: list[str] = []
        for one in series:
            text = texts.get(one)
            if text is None:
                text = texts[one] = self._labels(family, one.labels)
            block = f"{{{text}}}" if text else ""
            if type(one) is HistogramSeries:
                cumulated = tuple(accumulate(one.counts))
                before = text.replace("%", "%%") + "," if text else ""
                lines.append(template.replace(_HOLE, before) % cumulated)
                lines.append(f"{name}_sum{block} {_value(one.sum)}\n{name}_count{block} {cumulated[-1]}\n")
            else:
                lines.append(f"{name}{block} {_value(one.value)}\n")
        return "".join(lines)

    def _labels(self, family: _Family, labels: Labels) -> str:
        """Return the labels as they stand between the braces."""
        if not self._global:
            return _pairs(labels)
        own = _beside(labels, self._global)
        text = _pairs((own | self._global).items())
        while text in family.used:
            # Renaming has made it equal to another series: rename once more, for a scrape that has a series
            # twice is refused as a whole.
            own = {f"exported_{name}" if name.startswith("exported_") else name: own[name] for name in own}
            text = _pairs((own | self._global).items())
        family.used.add(text)
        return text


def _beside(labels: Labels, taken: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of a series, renamed where global labels have their names."""
    own = {name: text for name, text in labels if name not in taken}
    for name, text in labels:
        if name in taken:
            exported = f"exported_{name}"
            while exported in own or exported in taken:
                exported = f"exported_{exported}"
            own[exported] = text
    return own


def _pairs(labels: Iterable[tuple[str, str]]) -> str:
    return ",".join(f'{name}="{text.translate(_ESCAPED_LABEL)}"' for name, text in sorted(labels))


def _value(value: float) -> str:
    """Return a sample's value: an integer without a fraction, anything else as it reads back exactly."""
    if type(value) is int:
        return str(value)
    return repr(float(value)).removesuffix(".0")
