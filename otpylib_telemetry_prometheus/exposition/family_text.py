"""Metric families, ours and prometheus_client's, as lines of text.

How a family of OpenMetrics reads in the classic text is settled as prometheus_client settles it, so that a
registry reads the same on its own endpoint and on ours. Pure.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry_prometheus.exposition.families import ENDINGS
from otpylib_telemetry_prometheus.exposition.text import (
    after_labels,
    before_labels,
    exemplar_text,
    header,
    value_text,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping

    from otpylib_telemetry_prometheus.exposition.labels_text import LabelWriter


#: Samples written in one go: some milliseconds' work.
PIECE: Final = 1_000

_CLASSIC_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {"info": "gauge", "stateset": "gauge", "gaugehistogram": "histogram", "unknown": "untyped"}
)

#: What the classic text adds to the names of families of some types.
_CALLED: Final[Mapping[str, str]] = MappingProxyType({"counter": "_total", "info": "_info"})

#: Samples that are families of their own in the classic text.
_ASIDE: Final = ("_created", "_gcount", "_gsum")

#: The label a type gives a meaning.
_RESERVED: Final[Mapping[str, str]] = MappingProxyType(
    {"histogram": "le", "gaugehistogram": "le", "summary": "quantile"}
)


class UnfitFamilyError(Exception):
    """A family is none of its format; the message says why, for a person to read."""


def claims_of(name: str, kind: str, *, openmetrics: bool) -> tuple[str, ...]:
    """Return the names a family takes for itself."""
    if openmetrics:
        return tuple(dict.fromkeys((name, *(name + ending for ending in ENDINGS.get(kind, ())))))
    # Here a counter's name is the one with ``_total``, and nothing says when a series was created.
    endings = [ending for ending in ENDINGS.get(kind, ()) if ending not in {"", "_created"}]
    return tuple(name + ending for ending in (endings if kind in _CALLED else ["", *endings]))


def family_text(
    family: Any, name: str, kind: str, labels: LabelWriter, *, openmetrics: bool
) -> Iterator[list[str]]:
    """Write a family."""
    falling: set[Any] = set()
    if openmetrics and kind == "histogram":
        falling = yield from _falling(family)
    blocks: dict[str, list[str]] = {"": []}
    there: set[tuple[str, str]] = set()
    for number, sample in enumerate(family.samples, start=1):
        if number % PIECE == 0:
            yield []
        if getattr(sample, "native_histogram", None) is not None:
            continue  # neither format has a place for it
        ending = _ending(family, sample.name, kind, openmetrics=openmetrics)
        if openmetrics and _may_not_be(sample, ending, kind, falling):
            continue
        own_name = name + ending if kind == family.type else name
        aside = ending if not openmetrics and ending in _ASIDE else ""
        start = _start(own_name, sample.labels, labels, _RESERVED.get(kind, ""))
        timestamp = _timestamp(sample.timestamp, openmetrics=openmetrics)
        if (start, timestamp) in there:
            raise UnfitFamilyError(f"the series {start} is in it twice")
        there.add((start, timestamp))
        exemplar = _exemplar(sample, kind, own_name) if openmetrics else ""
        line = f"{start} {value_text(sample.value)}{timestamp}{exemplar}\n"
        blocks.setdefault(aside, []).append(line)
    for ending, lines in blocks.items():
        if lines:
            lines[0] = _header(family, name, kind, ending, openmetrics=openmetrics) + lines[0]
            yield from (lines[start : start + PIECE] for start in range(0, len(lines), PIECE))


def _header(family: Any, name: str, kind: str, ending: str, *, openmetrics: bool) -> str:
    shown = kind
    if not openmetrics:
        shown = "gauge" if ending else _CLASSIC_TYPES.get(kind, kind)
        ending = ending or _CALLED.get(kind, "")
    unit = "" if kind in {"info", "stateset"} else family.unit
    return header(name + ending, shown, family.documentation, unit, openmetrics=openmetrics)


def _ending(family: Any, sample: str, kind: str, *, openmetrics: bool) -> str:
    """Return what a sample's name has besides its family's."""
    ending = sample[len(family.name) :] if sample.startswith(family.name) else None
    if ending is None or (openmetrics and ending not in ENDINGS.get(family.type, ("",))):
        raise UnfitFamilyError(f"a {family.type} has no sample named {sample[:100]}")
    if kind != family.type and ending != "_total":
        raise UnfitFamilyError(f"a counter of unknown type has no sample named {sample[:100]}")
    return ending


def _falling(family: Any) -> Generator[list[str], None, set[Any]]:
    """Return the series of a histogram that have negative sums or bounds; yields as :func:`family_text`."""
    found: set[Any] = set()
    for number, sample in enumerate(family.samples, start=1):
        if number % PIECE == 0:
            yield []
        if (sample.name.endswith("_sum") and sample.value < 0) or sample.labels.get("le", "")[:1] == "-":
            found.add(_series(sample))
    return found


def _series(sample: Any) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, text) for name, text in sample.labels.items() if name != "le"))


def _may_not_be(sample: Any, ending: str, kind: str, falling: Collection[Any]) -> bool:
    """Tell whether OpenMetrics 1.0 ("Histogram", "Summary") has no room for a sample: its sum may fall."""
    if kind == "summary":
        return ending in {"", "_sum"} and bool(sample.value < 0)
    return bool(falling) and ending in {"_sum", "_count"} and _series(sample) in falling


def _start(name: str, labels: Mapping[str, str], writer: LabelWriter, kept: str) -> str:
    own = tuple(sorted((str(key), str(text)) for key, text in labels.items() if key != kept))
    text = writer.text(own)[0]
    if kept in labels:
        last = f'{kept}="{labels[kept]}"'
        text = f"{text},{last}" if text else last
    return f"{before_labels(name)}{text}}}" if text else after_labels(name)


def _timestamp(timestamp: Any, *, openmetrics: bool) -> str:
    if timestamp is None:
        return ""
    # Seconds in OpenMetrics, milliseconds in the classic text.
    return f" {timestamp}" if openmetrics else f" {int(float(timestamp) * 1000):d}"


def _exemplar(sample: Any, kind: str, name: str) -> str:
    seen = sample.exemplar
    if seen is None or not (
        (kind == "counter" and name.endswith("_total"))
        or (kind in {"histogram", "gaugehistogram"} and name.endswith("_bucket"))
    ):
        return ""
    at = "" if seen.timestamp is None else str(seen.timestamp)
    return exemplar_text(dict(seen.labels), seen.value, at)
