"""What sends the spans, built from the settings.

OTLP is spoken by transports of our own, which say what became of a request; see
:mod:`otpylib_telemetry_otel.otlp_grpc` and :mod:`otpylib_telemetry_otel.otlp_http`. Any other exporter is had
by the name under which a package registers it, and used through its public ``export``, which answers success
or failure and nothing else: why it failed is read from its own log message.

OpenTelemetry is imported by :func:`build` and not by this module: an application that has the exporter in its
supervision tree but no endpoint never pays for it.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

from otpylib_telemetry.exporter.base import ExportError, ExportOutcome
from otpylib_telemetry_otel.errors import BackendUnavailableError
from otpylib_telemetry_otel.otlp.credentials import CredentialsError, Files, Watched
from otpylib_telemetry_otel.sdk import plugins
from otpylib_telemetry_otel.sdk.quiet import Quiet, listening
from otpylib_telemetry_otel.version import own_version, user_agent

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

    from otpylib_telemetry_otel.otlp.services import Signal
    from otpylib_telemetry_otel.otlp.values import Encoded
    from otpylib_telemetry_otel.settings.model import OtelSettings


#: An exporter that raises one of these was given something it cannot encode, and will not be able to later.
_LASTING_ERRORS: Final = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError)

_INSTALL: Final = "pip install 'otpylib-telemetry[otel]'"


class Transport(Protocol):
    """Sends encoded requests of one signal. All methods block."""

    def send(self, body: bytes) -> ExportOutcome | None:
        """Send one request; raises :class:`~otpylib_telemetry.exporter.ExportError`."""
        ...

    def close(self) -> None:
        """Release the connection."""
        ...


class Destination(Protocol):
    """Takes items of one signal, spans or log records, and says what became of them.

    All methods block: they belong on a thread.
    """

    def send(self, items: Sequence[Any], /) -> ExportOutcome | None:
        """Export items.

        Args:
            items: Sealed spans, or log records.

        Returns:
            None if all were taken, or what was refused.

        Raises:
            ExportError: They did not arrive, or will not be taken.
        """
        ...

    def close(self) -> None:
        """Release the connection."""
        ...


class OtlpDestination:
    """Speaks OTLP.

    Args:
        encode: Makes a request of items.
        transport: Sends it.
    """

    def __init__(self, encode: Callable[[Sequence[Any]], Encoded], transport: Transport) -> None:
        self._encode = encode
        self._transport = transport

    def send(self, items: Sequence[Any]) -> ExportOutcome | None:
        """Encode and send items; see :meth:`Backend.send`."""
        encoded = self._encode(items)
        if encoded.refused == len(items) > 0:
            raise ExportError(f"nothing of it can be encoded: {encoded.reason}", retryable=False)
        outcome = self._transport.send(encoded.body)
        if not encoded.refused:
            return outcome
        said = f"{encoded.refused} could not be encoded: {encoded.reason}"
        if outcome is None:
            return ExportOutcome(encoded.refused, said)
        return ExportOutcome(outcome.rejected + encoded.refused, f"{outcome.message}; {said}")

    def close(self) -> None:
        """Release the connection."""
        self._transport.close()


class Converts(Protocol):
    """Makes OpenTelemetry's items of ours."""

    def convert(self, items: Sequence[Any], /) -> Any:
        """Return the same as OpenTelemetry's."""
        ...


class SdkDestination:
    """An OpenTelemetry exporter of any package, for whichever signal, made to say why it failed.

    Args:
        exporter: The exporter.
        converter: Makes what it takes of our items.
    """

    def __init__(
        self, exporter: SpanExporter | LogRecordExporter | MetricExporter, converter: Converts
    ) -> None:
        self._exporter = exporter
        self._converter = converter
        # Each class of an exporter logs to the logger of the module it comes from.
        modules = {kind.__module__ for kind in type(exporter).__mro__ if kind is not object}
        self._quiet = Quiet(modules)

    def send(self, items: Sequence[Any]) -> ExportOutcome | None:
        """Export items; see :meth:`Backend.send`."""
        with listening() as heard:
            try:
                result = self._exporter.export(self._converter.convert(items))
            except Exception as error:
                lasting = isinstance(error, _LASTING_ERRORS)
                raise ExportError(f"{type(error).__name__}: {error}", retryable=not lasting) from error
        if getattr(result, "name", "SUCCESS") == "FAILURE":
            raise ExportError(_last_words(heard))
        return None

    def close(self) -> None:
        """Release the connection. An attempt under way ends as soon as its transport lets go of it."""
        try:
            with listening():
                self._exporter.shutdown()
        finally:
            self._quiet.lift()


def build(settings: OtelSettings, resource: Mapping[str, Any] | None = None) -> Destination:
    """Build what sends spans. Imports OpenTelemetry, reads files, connects to nothing.

    Args:
        settings: With an endpoint, if OTLP is to be spoken.
        resource: The resource attributes; found out by the settings' detectors if not given.

    Raises:
        BackendUnavailableError: A package or a file is missing, or the exporter cannot be built.
    """
    attributes = resource_of(settings) if resource is None else resource
    if (protocol := settings.transport()) is None:
        try:
            from otpylib_telemetry_otel.sdk.spans import Converter  # noqa: PLC0415 - see the module's docstring
        except ImportError as error:
            raise BackendUnavailableError(missing("exporting spans", error)) from error
        exporter = plugins.load(
            plugins.EXPORTERS, settings.exporter, "span exporter", "opentelemetry-exporter-{}"
        )
        return SdkDestination(exporter, Converter(attributes))
    what = "OTLP over gRPC" if protocol == "grpc" else "OTLP over HTTP"
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - see the module's docstring

        from otpylib_telemetry_otel.otlp.services import TRACES  # noqa: PLC0415
        from otpylib_telemetry_otel.otlp.spans import SpanEncoder  # noqa: PLC0415

        complete = Resource.create(dict(attributes))
        encoder = SpanEncoder(complete.attributes, complete.schema_url, ("otpylib_telemetry", own_version()))
        if protocol == "grpc":
            return OtlpDestination(encoder.encode, grpc_transport(settings, TRACES))
        return OtlpDestination(encoder.encode, http_transport(settings, TRACES, settings.traces_url() or ""))
    except ImportError as error:
        raise BackendUnavailableError(missing(what, error)) from error


def resource_of(settings: OtelSettings) -> Mapping[str, Any]:
    """Return the resource attributes: those of the settings, and what their detectors find. It may block.

    Args:
        settings: The settings.

    Raises:
        BackendUnavailableError: A detector is not installed, or cannot be made.
    """
    return plugins.detect_resource(settings.resource_detectors, settings.resource_attributes())


def grpc_transport(settings: OtelSettings, signal: Signal) -> Transport:
    """Build what sends one signal over gRPC.

    Args:
        settings: With an endpoint.
        signal: What is sent.

    Raises:
        BackendUnavailableError: A file cannot be used.
        ImportError: A package is missing.
    """
    from otpylib_telemetry_otel.otlp.grpc_transport import GrpcTransport  # noqa: PLC0415 - see the module's docstring

    endpoint = settings.endpoint or ""
    url = urlsplit(endpoint)
    return GrpcTransport(
        signal,
        # Without a scheme, or with one of gRPC's own, it is a name for gRPC to resolve.
        url.netloc.rpartition("@")[2] if url.scheme in {"http", "https"} else endpoint,
        timeout=settings.timeout,
        headers=_headers(settings, endpoint),
        user_agent=user_agent(),
        compress=settings.compression == "gzip",
        credentials=_credentials(settings),
        encrypted=settings.is_encrypted(),
    )


def http_transport(settings: OtelSettings, signal: Signal, url: str) -> Transport:
    """Build what sends one signal over HTTP.

    Args:
        settings: What else there is to know.
        signal: What is sent.
        url: Where to, complete.

    Raises:
        BackendUnavailableError: A file cannot be used.
        ImportError: A package is missing.
    """
    from otpylib_telemetry_otel.otlp.http_transport import HttpTransport  # noqa: PLC0415 - see the module's docstring

    parts = urlsplit(url)
    return HttpTransport(
        signal,
        urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])),
        timeout=settings.timeout,
        headers=_headers(settings, url),
        user_agent=user_agent(),
        compression=settings.compression,
        credentials=_credentials(settings),
    )


def _headers(settings: OtelSettings, url: str) -> dict[str, str]:
    """Return the headers of the settings; name and password in the URL are one, unless there is one."""
    headers = settings.request_headers()
    parts = urlsplit(url)
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers.setdefault("authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    return headers


def _credentials(settings: OtelSettings) -> Watched | None:
    files = Files(settings.certificate, settings.client_key, settings.client_certificate)
    if files == Files():
        return None
    try:
        return Watched(files)
    except CredentialsError as error:
        raise BackendUnavailableError(str(error)) from error


def missing(what: str, error: ImportError) -> str:
    """Return what is said where a package is missing.

    Args:
        what: What needs it.
        error: What importing it raised.
    """
    return f"{what} needs a package that is not installed ({error}): {_INSTALL}"


def _last_words(heard: Sequence[logging.LogRecord]) -> str:
    """What an exporter logged while it failed."""
    if not heard:
        return "the exporter reported a failure and gave no reason"
    try:
        return heard[-1].getMessage()
    except Exception:  # noqa: BLE001 - a message that does not fit its arguments, in somebody else's code
        return str(heard[-1].msg)
