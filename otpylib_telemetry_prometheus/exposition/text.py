"""The smallest parts of both text formats: names, labels, numbers, the lines that begin a family.

Sources: https://prometheus.io/docs/instrumenting/exposition_formats/ and the OpenMetrics specification 1.0
(https://prometheus.io/docs/specs/om/open_metrics_spec/); names of any characters as
https://prometheus.io/docs/instrumenting/escaping_schemes/ has them. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.metrics.labels import number_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otpylib_telemetry.aggregation.series import Traced


_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_NOT_OF_METRICS: Final = re.compile(r"[^a-zA-Z0-9_:]")
_NOT_OF_LABELS: Final = re.compile(r"[^a-zA-Z0-9_]")

_ESCAPED: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_ESCAPED_HELP: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})

#: Characters all labels of an exemplar may have together, names and values: OpenMetrics 1.0, "Exemplars".
_MAX_RUNES: Final = 128


def printable(text: str) -> str:
    """Return a text without what UTF-8 cannot carry: lone surrogates become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def is_metric_name(name: str) -> bool:
    """Return whether a metric's name can do without quotation marks."""
    return _METRIC.fullmatch(name) is not None


def is_label_name(name: str) -> bool:
    """Return whether a label's name can do without quotation marks, and is no name of Prometheus' own."""
    return _LABEL.fullmatch(name) is not None and not name.startswith("__")


def underscored_metric(name: str) -> str:
    """Return a metric's name with an underscore for whatever a reader without UTF-8 names does not take."""
    return _begun(_NOT_OF_METRICS.sub("_", name))


def underscored_label(name: str) -> str:
    """Return a label's name likewise; of several leading underscores one is left."""
    plain = _begun(_NOT_OF_LABELS.sub("_", name))
    return f"_{plain.lstrip('_')}" if plain.startswith("__") else plain


def encoded_name(name: str) -> str:
    """Return a name in which every character can be told: Prometheus' escaping scheme ``values``."""
    return "U__" + "".join(_encoded(character) for character in name)


def value_text(value: float) -> str:
    """Return a sample's value: a whole number without a fraction, anything else as it reads back exactly."""
    if type(value) is int:
        return str(value)
    text = repr(float(value))
    if text[-2:] == ".0":
        return text[:-2]
    return number_text(float(value)) if text[-1] in "nf" else text


def before_labels(name: str) -> str:
    """Return what stands before the labels of a sample."""
    return f"{name}{{" if is_metric_name(name) else f'{{"{name.translate(_ESCAPED)}",'


def after_labels(name: str) -> str:
    """Return a sample's beginning if it has no labels."""
    return name if is_metric_name(name) else f'{{"{name.translate(_ESCAPED)}"}}'


def pairs_text(pairs: Iterable[tuple[str, str]]) -> str:
    """Return labels as they stand between the braces."""
    return ",".join([f'{shown_label(name)}="{escaped(text)}"' for name, text in pairs])


def header(name: str, kind: str, description: str, unit: str, *, openmetrics: bool) -> str:
    """Return the lines that begin a family."""
    shown = name if is_metric_name(name) else f'"{name.translate(_ESCAPED)}"'
    lines = ""
    if description:
        told = printable(description).translate(_ESCAPED if openmetrics else _ESCAPED_HELP)
        lines = f"# HELP {shown} {told}\n"
    lines += f"# TYPE {shown} {kind}\n"
    if openmetrics and unit and name.endswith(f"_{unit}"):
        lines += f"# UNIT {shown} {unit}\n"
    return lines


def trace_labels(traced: Traced) -> dict[str, str]:
    """Return the labels of an exemplar: what leads to the operation it is of, and what fits beside it."""
    labels = {"trace_id": traced.trace_id, "span_id": traced.span_id}
    found = {name: text for name, text in labels.items() if text}
    if not traced.attributes:
        return found
    whole = {**dict(traced.attributes), **found}
    return whole if _fit_an_exemplar(whole) else found


def exemplar_text(labels: Mapping[str, str], value: float, timestamp: str) -> str:
    """Return what follows a sample's value."""
    if not labels or not _fit_an_exemplar(labels):
        return ""
    at = f" {timestamp}" if timestamp else ""
    return f" # {{{pairs_text(labels.items())}}} {value_text(value)}{at}"


def _fit_an_exemplar(labels: Mapping[str, str]) -> bool:
    if sum(len(name) + len(text) for name, text in labels.items()) > _MAX_RUNES:
        return False
    return all(map(is_label_name, labels)) and all(escaped(text) == text for text in labels.values())


def _begun(name: str) -> str:
    return f"_{name}" if not name or name[0].isdigit() else name


def _encoded(character: str) -> str:
    if character == "_":
        return "__"
    if character.isascii() and (character.isalnum() or character == ":"):
        return character
    return f"_{ord(character):x}_"


def shown_label(name: str) -> str:
    """Return the name of a label as it is written: in quotation marks unless it can do without."""
    return name if _LABEL.fullmatch(name) else f'"{printable(name).translate(_ESCAPED)}"'


def escaped(text: str) -> str:
    """Return the value of a label as it stands between its quotation marks."""
    if not text.isascii():
        text = printable(text)
    if '"' in text or "\\" in text or "\n" in text:
        return text.translate(_ESCAPED)
    return text
