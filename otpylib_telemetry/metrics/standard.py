"""The metrics of instrumentations whose names and labels somebody fixed: a convention, or our own pages.

An instrumentation declares them when it is imported. The automatic metrics ask here once for each name of an
event, so an event pays nothing for it. Where nothing is declared, the general rules hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


#: The label that says how an operation has failed, by OpenTelemetry's conventions; and its value where
#: nothing says it (https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/).
ERROR_TYPE: Final = "error.type"
OTHER_ERROR: Final = "_OTHER"


class Named(NamedTuple):
    """A metric by its OpenTelemetry name; Prometheus sees the unit, and ``_total``, at the end of it.

    Attributes:
        name: Its name, with dots.
        description: What it says, for a person to read.
        unit: Its unit, as OpenTelemetry writes it.
    """

    name: str
    description: str
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """What the metrics of one event, or of one operation, are; what is not said follows the general rules.

    Attributes:
        labels: The metadata keys that become labels, with the key that each has as a label: no others do.
            Of several keys that become one label, the first by alphabet counts that has a value. None: all.
        count: What adds up ``count``.
        duration: What observes ``duration_ms``.
        wait: What observes ``wait_ms``.
        in_flight: What counts the operations that are open.
        has_in_flight: Whether these are counted at all.
        in_flight_labels: Those of the labels that tell these apart; None: all that the beginning has.
        bounds: Upper bounds of the buckets, unless the setting has others than the default.
        by_error_type: Whether it is the label ``error.type`` alone that tells the outcome.
    """

    labels: Mapping[str, str] | None = None
    count: Named | None = None
    duration: Named | None = None
    wait: Named | None = None
    in_flight: Named | None = None
    has_in_flight: bool = True
    in_flight_labels: frozenset[str] | None = None
    bounds: tuple[float, ...] = ()
    by_error_type: bool = False


_declared: Final[dict[str, Standard]] = {}

#: Of what nothing is declared.
NOTHING_FIXED: Final = Standard()


def declare(name: str, standard: Standard) -> None:
    """Fix the metrics of an event, or of an operation; to be called before the first of them comes."""
    _declared[name] = standard


def standard_of(event: str, operation: str) -> Standard:
    """Return what is fixed for an event; ``operation`` is the one that it begins or ends, or itself."""
    return _declared.get(event) or _declared.get(operation, NOTHING_FIXED)


def as_they_are(keys: Iterable[str]) -> dict[str, str]:
    """Return labels that have the names of the metadata."""
    return {key: key for key in keys}
