"""Where each signal is sent, built from the settings.

OTLP is spoken by transports of our own, which say what became of a request; see ``otlp/``. Any other exporter
is had by the name under which a package registers it; see ``sdk/destination.py``.

OpenTelemetry is imported by :func:`build` and not by this module: an application that has the exporter in its
supervision tree but no endpoint never pays for it.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import entry_points
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from otpylib_telemetry.exporter.collected import ExportOutcome
from otpylib_telemetry.exporter.errors import DestinationError, ExportError
from otpylib_telemetry.primitives.fork import importing
from otpylib_telemetry_otel.errors import (
    BackendUnavailableError,
    BatchRefusedError,
    ServerBrokenError,
    StrangeOutcome,
)
from otpylib_telemetry_otel.otlp import mistakes
from otpylib_telemetry_otel.otlp.credentials import CredentialsError
from otpylib_telemetry_otel.resources import complete
from otpylib_telemetry_otel.sdk import plugins
from otpylib_telemetry_otel.sdk.destination import SdkDestination
from otpylib_telemetry_otel.sdk.processors import Processors
from otpylib_telemetry_otel.settings.given import Given

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.sdk.resources import Resource

    from otpylib_telemetry_otel.otlp.services import Service
    from otpylib_telemetry_otel.otlp.values import Encoded
    from otpylib_telemetry_otel.settings.connection import Connection
    from otpylib_telemetry_otel.settings.endpoint import SignalName
    from otpylib_telemetry_otel.settings.model import OtelSettings


#: The part of the time for an attempt that processors may take.
_PROCESSING: Final = 0.5

#: Requests without an item, of any signal: no bytes at all, and one resource that has none. Some receivers
#: take the first for a request without a body, which they refuse.
_NOTHING: Final = (b"", b"\x0a\x00")

_INSTALL: Final = "pip install 'otpylib-telemetry[otel]'"


class _Kind(NamedTuple):
    """What a signal is sent with. The last three import OpenTelemetry, so they are named and not imported."""

    noun: str
    group: str
    service: str
    encoder: str
    converter: str


def _kind(noun: str, signal: SignalName, encoder: str, converter: str) -> _Kind:
    services = f"{__package__}.otlp.services:{signal.upper()}"
    group = f"opentelemetry_{signal}_exporter"
    return _Kind(noun, group, services, f"{__package__}.{encoder}", f"{__package__}.{converter}")


_KINDS: Final[Mapping[SignalName, _Kind]] = {
    "traces": _kind("span", "traces", "otlp.spans:SpanEncoder", "sdk.spans:SpanConverter"),
    "logs": _kind("log", "logs", "otlp.logs:LogEncoder", "sdk.logs:LogConverter"),
    "metrics": _kind("metric", "metrics", "sdk.metrics:MetricEncoder", "sdk.metrics:MetricConverter"),
}


class Transport(Protocol):
    """Sends encoded requests of one signal. All methods block."""

    def send(self, body: bytes) -> ExportOutcome | None:
        """Send one request; raises :class:`~otpylib_telemetry.exporter.errors.ExportError`."""

    def close(self) -> None:
        """Release the connection."""


class Destination(Protocol):
    """Takes items of one signal and says what became of them. All methods block: they belong on a thread."""

    def send(self, items: Sequence[Any], /) -> ExportOutcome | None:
        """Export items; returns what was refused, if any; raises ``ExportError``."""

    def close(self) -> None:
        """Release the connection."""


class OtlpDestination:
    """Speaks OTLP: ``encode`` makes a request of items, ``transport`` sends it."""

    def __init__(self, encode: Callable[[Sequence[Any]], Encoded], transport: Transport) -> None:
        self._encode = encode
        self._transport = transport

    def send(self, items: Sequence[Any]) -> ExportOutcome | None:
        """Encode and send items; see :meth:`Destination.send`."""
        encoded = self._encode(items)
        left_out = ExportOutcome(unusable=encoded.refused, why=encoded.reason)
        if encoded.refused == len(items) > 0:
            return left_out
        outcome = self._transport.send(encoded.body)
        if not encoded.refused:
            return outcome
        return replace(left_out, rejected=outcome.rejected, message=outcome.message) if outcome else left_out

    def close(self) -> None:
        """Release the connection."""
        self._transport.close()


class ProcessedDestination:
    """Hands items to processors, and then sends them where they go besides, if anywhere."""

    def __init__(self, processors: Processors, destination: Destination | None) -> None:
        self._processors = processors
        self._destination = destination

    def send(self, items: Sequence[Any]) -> ExportOutcome | None:
        """Hand over and send items; see :meth:`Destination.send`."""
        self._processors.take(items)
        return None if self._destination is None else self._destination.send(items)

    def close(self) -> None:
        """Flush the processors and release the connection."""
        self._processors.flush()
        if self._destination is not None:
            self._destination.close()


def why_none(settings: OtelSettings, signal: SignalName) -> str | None:
    """Return why nothing of a signal can be sent though it is wanted, or None if it can be."""
    connection, kind = settings.connection(signal), _KINDS[signal]
    if settings.processors(signal) and not connection.has_target:
        return None
    if connection.protocol is None:
        name = settings.exporter
        if isinstance(name, Given) or any(entry.name == name for entry in entry_points(group=kind.group)):
            return None
        what = f"a {kind.noun} exporter named {name!r}"
        return f"no installed package registers {what} (entry points {kind.group})"
    if connection.url is not None:
        return None
    if settings.endpoint is None:
        return "no endpoint is set"
    return (
        f"the endpoint is one for traces alone (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT), and neither "
        f"{signal}_endpoint nor OTEL_EXPORTER_OTLP_ENDPOINT is set"
    )


def service_of(signal: SignalName) -> Service:
    """Return the service of OTLP that takes a signal. Imports the generated classes of OTLP."""
    service: Service = resolve_name(_KINDS[signal].service)
    return service


def resource_of(settings: OtelSettings) -> Mapping[str, Any]:
    """Return the resource attributes: those of the settings, and what their detectors find. It may block."""
    return plugins.detect_resource(settings.resource_detectors, settings.resource_attributes())


def build(settings: OtelSettings, signal: SignalName, resource: Mapping[str, Any]) -> Destination:
    """Build what sends a signal. Imports OpenTelemetry, reads files, connects to nothing."""
    kind, connection = _KINDS[signal], settings.connection(signal)
    over = {None: "", "grpc": " over OTLP/gRPC", "http/protobuf": " over OTLP/HTTP"}[connection.protocol]
    try:
        made = complete(resource)
        with importing():
            given = settings.processors(signal)
            if not given:
                return _unprocessed(settings, signal, made)
            convert = resolve_name(kind.converter)(made).convert
            processors = Processors(given, convert, connection.timeout * _PROCESSING)
            return ProcessedDestination(
                processors, _unprocessed(settings, signal, made) if connection.has_target else None
            )
    except CredentialsError as error:
        raise BackendUnavailableError(str(error)) from error
    except ImportError as error:
        raise BackendUnavailableError(
            f"exporting {signal}{over} needs a package that is not installed ({error}): {_INSTALL}"
        ) from error


def prove(connection: Connection, signal: SignalName) -> None:
    """Send an empty request, which OTLP allows; raises what is wrong with the destination. It blocks.

    A destination that refuses it in OTLP's own words has read it, and that is proof enough.
    """
    try:
        with importing():
            there = transport(connection, resolve_name(_KINDS[signal].service))
    except CredentialsError as error:
        raise BackendUnavailableError(str(error)) from error
    except ImportError as error:
        raise BackendUnavailableError(f"{error}: {_INSTALL}") from error
    try:
        _take_nothing(there)
    finally:
        there.close()


def _take_nothing(there: Transport) -> None:
    refusal = ""
    for body in _NOTHING:
        try:
            outcome = there.send(body)
        except BatchRefusedError:
            return
        except ExportError as error:
            if error.retryable or isinstance(error, ServerBrokenError):
                raise
            refusal = str(error)
            continue
        if isinstance(outcome, StrangeOutcome):
            raise DestinationError(outcome.message)
        return
    raise mistakes.error_of(refusal, mistakes.NOT_OTLP)


def _unprocessed(settings: OtelSettings, signal: SignalName, resource: Resource) -> Destination:
    kind, connection = _KINDS[signal], settings.connection(signal)
    if connection.protocol is None:
        convert = resolve_name(kind.converter)(resource).convert
        given = settings.exporter
        if isinstance(given, Given):
            return SdkDestination(given.exporter(signal), convert, connection.timeout, is_given=True)
        return SdkDestination(_exporter(given, signal), convert, connection.timeout)
    encoder = resolve_name(kind.encoder)(resource)
    return OtlpDestination(encoder.encode, transport(connection, service_of(signal)))


def transport(connection: Connection, service: Service) -> Transport:
    """Build what sends requests to one service of OTLP."""
    if connection.protocol == "grpc":
        from otpylib_telemetry_otel.otlp.grpc_transport import GrpcTransport  # noqa: PLC0415 - as above

        return GrpcTransport(service, connection)
    from otpylib_telemetry_otel.otlp.http_transport import HttpTransport  # noqa: PLC0415 - as above

    return HttpTransport(service, connection)


def _exporter(name: str, signal: SignalName) -> Any:
    from opentelemetry.sdk.metrics.export import MetricReader  # noqa: PLC0415 - see the module's docstring

    kind = _KINDS[signal]
    exporter = plugins.load(kind.group, name, f"{kind.noun} exporter", "opentelemetry-exporter-{}")
    if isinstance(exporter, MetricReader):
        exporter.shutdown()
        raise BackendUnavailableError(
            f"the OpenTelemetry metric exporter {name!r} is a MetricReader, which collects for itself from a "
            f"MeterProvider and takes no metrics from others. For Prometheus there is telemetry.prometheus"
        )
    return exporter
