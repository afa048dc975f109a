"""Objects that a program gives where configuration can only name what a package registers.

What an object is for is told by its methods, and only of one that has ``export`` by its class: OpenTelemetry
need not be imported for that, since whoever has made one has imported it.
"""

from __future__ import annotations

import datetime as dt
import difflib
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.config.refusals import RefusedError
from otpylib_telemetry_otel.settings.environment import EXPORTERS

if TYPE_CHECKING:
    from otpylib_telemetry_otel.settings.endpoint import SignalName

#: The classes of exporters by signal; that of log records has had two names.
_EXPORTERS: Final[Mapping[SignalName, tuple[str, tuple[str, ...]]]] = {
    "logs": ("opentelemetry.sdk._logs.export", ("LogRecordExporter", "LogExporter")),
    "metrics": ("opentelemetry.sdk.metrics.export", ("MetricExporter",)),
    "traces": ("opentelemetry.sdk.trace.export", ("SpanExporter",)),
}

#: The exporter that nobody need register, and how much alike two names are of which one is misspelt.
_OTLP: Final = "otlp"
_NEAR: Final = 0.85

#: What a file can have and a program cannot mean.
_DATA: Final = (bool, int, float, bytes, Mapping, dt.date, dt.time)


class Given:
    """An object, or several: equal only where they are the same ones, and shown by their classes."""

    __slots__ = ("objects",)

    def __init__(self, *objects: Any) -> None:
        self.objects = objects

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Given) and [*map(id, self.objects)] == [*map(id, other.objects)]

    def __hash__(self) -> int:
        return hash(tuple(map(id, self.objects)))

    def __repr__(self) -> str:
        return ", ".join(type(one).__name__ for one in self.objects)

    def as_table(self) -> str:
        """Return what is shown of it."""
        return repr(self)

    def exporter(self, signal: SignalName) -> Any:
        """Return the one of several exporters that takes a signal, or None."""
        return next((one for one in self.objects if _signal_of(one) == signal), None)


def exporters(value: object) -> object:
    """Take an exporter of OpenTelemetry, or a list with one for each signal."""
    if isinstance(value, str):
        _refuse_misspelt(value)
    if isinstance(value, (str, Given)):
        return value
    _refuse_data(value)
    found = list(value) if isinstance(value, (list, tuple)) else [value]
    signals = [_signal_of(one) for one in found if _has(one, "export", "shutdown")]
    if not found or len(signals) < len(found):
        raise RefusedError(
            "expected the name of an exporter or, from a program, an exporter object of OpenTelemetry "
            "(SpanExporter, LogRecordExporter, MetricExporter) or a list of these"
        )
    if len(set(signals)) < len(signals):
        raise RefusedError("expected at most one exporter object for each of traces, logs and metrics")
    return Given(*found)


def one_with(what: str, *methods: str) -> Callable[[object], object]:
    """Return what takes an object with these methods in place of a name."""

    def taken(value: object) -> object:
        if value is None or isinstance(value, (str, Given)):
            return value
        _refuse_data(value)
        if not _has(value, *methods):
            raise RefusedError(
                f"expected the name of {what} or, from a program, {what} object of OpenTelemetry, "
                f"with {' and '.join(methods)}"
            )
        return Given(value)

    return taken


def several(what: str, call: str, *choices: tuple[str, ...]) -> Callable[[object], object]:
    """Return what takes a list of objects, or one, that have all the methods of one of the choices."""

    def taken(value: object) -> object:
        found = value if isinstance(value, (list, tuple)) else [value]
        given = [one if isinstance(one, Given) else Given(one) for one in found]
        if not all(any(_has(one.objects[0], *methods) for methods in choices) for one in given):
            raise RefusedError(
                f"expected a list of {what}, objects with {call}, which only a program can give"
            )
        return tuple(dict.fromkeys(given))

    return taken


def _refuse_misspelt(name: str) -> None:
    """Refuse what is nearly the name of an exporter; any other may be that of a package still to install."""
    wanted = name.strip().lower()
    if wanted == _OTLP:
        return
    known = {_OTLP: _OTLP}
    known.update(
        (entry.name.lower(), entry.name) for group in EXPORTERS for entry in entry_points(group=group)
    )
    near = [] if wanted in known else difflib.get_close_matches(wanted, known, n=1, cutoff=_NEAR)
    if near:
        raise RefusedError(f"expected the name of an installed exporter; did you mean {known[near[0]]!r}?")


def _refuse_data(value: object) -> None:
    if isinstance(value, _DATA):
        raise RefusedError("expected a string")


def _has(value: object, *methods: str) -> bool:
    if isinstance(value, type):
        # Not an object of that class yet.
        return False
    try:
        return all(callable(getattr(value, method, None)) for method in methods)
    except Exception:  # noqa: BLE001  # an object may do anything when it is asked for an attribute
        return False


def _signal_of(exporter: object) -> SignalName:
    """Return the signal an exporter takes; one that derives from none of the SDK's is one of spans."""
    for signal, (module, names) in _EXPORTERS.items():
        kinds = (getattr(sys.modules.get(module), name, None) for name in names)
        if any(isinstance(kind, type) and isinstance(exporter, kind) for kind in kinds):
            return signal
    return "traces"
