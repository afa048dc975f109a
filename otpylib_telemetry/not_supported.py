"""Keys that are planned but do nothing yet: the one place that lists them.

They are neither refused nor accepted in silence. The value is ignored and the user is told so, once, unless
it asks for exactly what happens anyway.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Pending(NamedTuple):
    """A key whose feature does not exist yet.

    Attributes:
        instead: What happens today, as the end of a sentence.
        in_force: Values that ask for just that, and so need no answer.
    """

    instead: str
    in_force: tuple[Any, ...] = ()


_NO_OTLP_METRICS = "no metrics are sent over OTLP; the Prometheus exporter has them"
_AUTOMATIC_ONLY = "metrics are made automatically from the events"
_NO_TLS = "the endpoint speaks plain HTTP to anybody who can reach it"

#: By kind of exporter, then by key.
NOT_SUPPORTED: Mapping[str, Mapping[str, Pending]] = MappingProxyType(
    {
        "otel": MappingProxyType(
            {
                "metrics": Pending(_NO_OTLP_METRICS, in_force=(False, [], ())),
                "metrics_interval": Pending(_NO_OTLP_METRICS),
                "metrics_temporality": Pending(_NO_OTLP_METRICS),
                "metrics_definitions": Pending(_NO_OTLP_METRICS, in_force=([], ())),
            }
        ),
        "prometheus": MappingProxyType(
            {
                "metrics": Pending(_AUTOMATIC_ONLY, in_force=("automatic", [], ())),
                "certificate": Pending(_NO_TLS, in_force=("",)),
                "key": Pending(_NO_TLS, in_force=("",)),
                "client_ca": Pending(_NO_TLS, in_force=("",)),
                "basic_auth": Pending(_NO_TLS, in_force=("", {})),
                "push_interval": Pending("metrics are only there to be scraped"),
            }
        ),
    }
)


def pending(kind: str, key: str) -> Pending | None:
    """Return what is to be said of a key that does nothing yet, or None if it is no such key.

    Args:
        kind: The settings class's ``kind``, for instance ``otel``.
        key: The key, for instance ``metrics_interval``.
    """
    return NOT_SUPPORTED.get(kind, {}).get(key)


def asks_for_more(entry: Pending, value: object) -> bool:
    """Tell whether a value asks for something that does not happen anyway.

    Args:
        entry: The key's entry.
        value: The value it was given, unchecked.
    """
    # Types are compared too: 0 and False are equal, and mean different things here.
    return not any(type(value) is type(known) and value == known for known in entry.in_force)
