"""How event names and metadata keys become names of metrics and labels, as each exit spells them.

Through OpenTelemetry they leave as they are, with dots. For Prometheus they are made to fit; the rules are
those of its data model (https://prometheus.io/docs/concepts/data_model/): metric names match
``[a-zA-Z_:][a-zA-Z0-9_:]*``, label names ``[a-zA-Z_][a-zA-Z0-9_]*``; a colon is left to recording rules, a
label name that begins with ``__`` to Prometheus itself.

Who names a metric, by a definition or an instrument, has its letters kept, whatever their script: Prometheus
knows such names since its version 3, and whoever scrapes without knowing them gets them escaped, each in a
way of its own. Names that are made of events have underscores there.

Both spellings belong together: what a collector makes of our OpenTelemetry names for Prometheus ("Prometheus
and OpenMetrics compatibility" of the OpenTelemetry specification) are the names our own endpoint has. Pure.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass, replace
from string import digits
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.aggregation.metric import OVERFLOW_LABELS
from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.metrics.units import unit_word

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


#: Longer names are cut: nothing that shows metrics copes with more, and names cost memory per series.
MAX_NAME: Final = 200

#: Bytes of the digest of what is cut: two texts in some thousand million have the same.
_DIGEST_BYTES: Final = 8

_ILLEGAL: Final = re.compile(r"[^a-zA-Z0-9_]")
#: Neither letter nor digit of any script, nor a mark that belongs to one. What is a mark is told by hand.
_NO_LETTER: Final = re.compile(r"\W")
_UNDERSCORES: Final = re.compile("__+")

#: Label names with a meaning of their own: in histograms, in summaries, and on the overflow series.
_RESERVED: Final = frozenset({"le", "quantile", OVERFLOW_LABELS[0][0]})

_SUFFIXES: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.COUNTER: (),
    Kind.GAUGE: (),
    Kind.UP_DOWN: (),
    Kind.HISTOGRAM: ("_bucket", "_sum", "_count"),
    Kind.EXPONENTIAL: ("_bucket", "_sum", "_count"),
    Kind.SUMMARY: ("_sum", "_count"),
}


@dataclass(frozen=True, slots=True)
class Naming:
    """How one exit spells names.

    Attributes:
        metric: Makes a metric's name of a dotted name.
        label: Makes a label's name of a metadata key.
        claims: Returns the names a metric of a kind and a name takes up besides its own.
        separator: What stands between the parts of a name.
        counter_suffix: The last part of a counter's name.
        seconds: What seconds are called where a metric's unit is told.
        seconds_suffix: The last part of the name of what is measured in seconds; empty for none.
        instrument: Makes a metric's name and unit of an instrument's name, its unit and the metric's kind.
        attribute: Makes a label's name of an attribute's key.
        scopes: Whether metrics are told apart by what made them. Where they are not, labels tell it.
    """

    metric: Callable[[str], str]
    label: Callable[[str], str]
    claims: Callable[[Kind, str], tuple[str, ...]]
    separator: str
    counter_suffix: str
    seconds: str
    seconds_suffix: str
    instrument: Callable[[str, str, Kind], tuple[str, str]]
    attribute: Callable[[str], str]
    scopes: bool

    def cleaned(self, clean: Callable[[str], str]) -> Naming:
        """Return the same, made of texts that were cleaned before: afterwards no secret is seen to be one."""
        return replace(
            self,
            metric=lambda text: self.metric(clean(text)),
            label=lambda text: self.label(clean(text)),
            instrument=lambda name, unit, kind: self.instrument(clean(name), clean(unit), kind),
            attribute=lambda text: self.attribute(clean(text)),
        )

    def counter(self, event: str) -> str:
        """Return the name of the counter of an event."""
        return self._ending(self.metric(event), self.counter_suffix)

    def in_flight(self, operation: str) -> str:
        """Return the name of the number of operations under way."""
        return f"{self.metric(operation)}{self.separator}in_flight"

    def duration(self, event: str) -> str:
        """Return the name of the distribution of durations of an event or an operation."""
        return self._in_seconds(event, "duration")

    def wait(self, operation: str) -> str:
        """Return the name of the distribution of times that operations waited before they began."""
        return self._in_seconds(operation, "wait")

    def _in_seconds(self, event: str, what: str) -> str:
        name = f"{self.metric(event)}{self.separator}{what}"
        return self._ending(name, self.seconds_suffix) if self.seconds_suffix else name

    def _ending(self, name: str, part: str) -> str:
        ending = self.separator + part
        return name if name.endswith((ending, f"_{part}")) else name + ending


def metric_name(text: str) -> str:
    """Return a metric name for an event name: every character that is illegal becomes an underscore."""
    name = _ILLEGAL.sub("_", shortened(text, MAX_NAME))
    return f"_{name}" if not name or name[0].isdigit() else name


def label_name(text: str) -> str:
    """Return a label name for a metadata key.

    A name with a meaning of its own gets the prefix ``exported_``, which is what Prometheus does with the
    labels of a target that clash with its own; of several leading underscores one is left.
    """
    name = metric_name(text)
    if name.startswith("__"):
        name = "_" + name.lstrip("_")
    return f"exported_{name}" if name in _RESERVED else name


def claims(kind: Kind, name: str) -> tuple[str, ...]:
    """Return the names of samples that a metric has in the exposition, besides its own name."""
    return tuple(name + suffix for suffix in _SUFFIXES[kind])


def instrument_name(name: str, unit: str, kind: Kind) -> tuple[str, str]:
    """Return what an instrument of OpenTelemetry is called at a Prometheus endpoint.

    Rules: "Prometheus and OpenMetrics compatibility", sections "Metric Metadata" and "Sums". A unit ``1`` is
    told of gauges alone, as the collector does it: other metrics of that unit are counts. Letters and digits
    stay what they are; all else becomes underscores. Returns the metric's name and its unit.
    """
    base = _collapsed(_lettered(name))
    if kind is Kind.COUNTER:
        base = base.removesuffix("_total")
    word = "ratio" if unit == "1" and kind is Kind.GAUGE else unit_word(unit)
    if word and base != word and not base.endswith(f"_{word}"):
        base = f"{base}_{word}"
    return (f"{base}_total" if kind is Kind.COUNTER else base), word


def attribute_name(key: str) -> str:
    """Return a label name for an attribute's key, as for metadata, without two underscores in a row."""
    return _collapsed(label_name(key))


def shortened(text: str, limit: int) -> str:
    """Return a text within a limit; what is longer ends in an ellipsis and a digest of the whole."""
    if len(text) <= limit:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{text[: limit - len(digest) - 1]}…{digest}"


def readable(text: str) -> str:
    """Return a text cut to a length that fits a sentence, and free of what UTF-8 cannot carry."""
    cut = text if len(text) <= MAX_NAME else text[: MAX_NAME - 1] + "…"
    return cut if cut.isascii() else cut.encode("utf-8", "replace").decode("utf-8")


def _lettered(text: str) -> str:
    if text.isascii():
        return metric_name(text)
    name = _NO_LETTER.sub(_mark_or_underscore, shortened(text, MAX_NAME))
    return f"_{name}" if not name or name[0] in digits else name


def _mark_or_underscore(found: re.Match[str]) -> str:
    """Keep a mark: letters of many scripts are not complete without theirs."""
    return found[0] if unicodedata.category(found[0]).startswith("M") else "_"


def _collapsed(name: str) -> str:
    return _UNDERSCORES.sub("_", name)


def _as_it_is(text: str) -> str:
    return readable(shortened(text, MAX_NAME)) or "_"


#: What the Prometheus endpoint shows.
PROMETHEUS: Final = Naming(
    metric=metric_name,
    label=label_name,
    claims=claims,
    separator="_",
    counter_suffix="total",
    seconds="seconds",
    seconds_suffix="seconds",
    instrument=instrument_name,
    attribute=attribute_name,
    scopes=False,
)

#: What is sent over OTLP. A counter's name would be the event's alone, were a gauge's not the same.
OPENTELEMETRY: Final = Naming(
    metric=_as_it_is,
    label=_as_it_is,
    claims=lambda _kind, _name: (),
    separator=".",
    counter_suffix="total",
    seconds="s",
    seconds_suffix="",
    instrument=lambda name, unit, _kind: (name, unit),
    attribute=str,
    scopes=True,
)
