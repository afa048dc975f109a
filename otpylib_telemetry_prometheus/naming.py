"""How event names and metadata keys become names Prometheus takes.

The rules are those of Prometheus' data model (https://prometheus.io/docs/concepts/data_model/): metric
names match ``[a-zA-Z_:][a-zA-Z0-9_:]*``, label names ``[a-zA-Z_][a-zA-Z0-9_]*``; a colon is left to recording
rules, a label name that begins with ``__`` to Prometheus itself. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.aggregation import OVERFLOW_LABELS, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_NAME", "claims", "label_name", "metric_name", "readable"]

#: Longer names are cut: nothing that shows metrics copes with more, and names cost memory per series.
MAX_NAME: Final = 200

_ILLEGAL: Final = re.compile(r"[^a-zA-Z0-9_]")

#: Label names with a meaning of their own: in histograms, in summaries, and on the overflow series.
_RESERVED: Final = frozenset({"le", "quantile", OVERFLOW_LABELS[0][0]})

_SUFFIXES: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.COUNTER: (),
    Kind.GAUGE: (),
    Kind.HISTOGRAM: ("_bucket", "_sum", "_count"),
}


def metric_name(text: str) -> str:
    """Return a metric name for an event name: every character that is illegal becomes an underscore.

    Args:
        text: The dotted name; any text does.
    """
    return _sanitised(text)


def label_name(text: str) -> str:
    """Return a label name for a metadata key.

    A name with a meaning of its own gets the prefix ``exported_``, which is what Prometheus does with the
    labels of a target that clash with its own; of several leading underscores one is left.

    Args:
        text: The key; any text does.
    """
    name = _sanitised(text)
    if name.startswith("__"):
        name = "_" + name.lstrip("_")
    return f"exported_{name}" if name in _RESERVED else name


def claims(kind: Kind, name: str) -> tuple[str, ...]:
    """Return the names of samples that a metric has in the exposition, besides its own name.

    Args:
        kind: Its kind.
        name: Its name.
    """
    return tuple(name + suffix for suffix in _SUFFIXES[kind])


def readable(text: str) -> str:
    """Return a text cut to a length that fits a sentence, and free of what UTF-8 cannot carry.

    Args:
        text: Any text.
    """
    cut = text if len(text) <= MAX_NAME else text[: MAX_NAME - 1] + "…"
    return cut if cut.isascii() else cut.encode("utf-8", "replace").decode("utf-8")


def _sanitised(text: str) -> str:
    name = _ILLEGAL.sub("_", text[:MAX_NAME])
    return f"_{name}" if not name or name[0].isdigit() else name
