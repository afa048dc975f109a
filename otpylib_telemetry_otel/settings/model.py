"""The settings of the OpenTelemetry exporter, section ``telemetry.otel``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeGuard

from pydantic import BeforeValidator, Field, field_validator, model_validator

from otpylib_telemetry.config.field_types import Number, OptionalNumber, OptionalPath, Words
from otpylib_telemetry.config.refusals import Conflict, RefusedError
from otpylib_telemetry_otel.settings.connection import Connection, login_in
from otpylib_telemetry_otel.settings.endpoint import (
    SIGNALS,
    SignalName,
    SignalUrl,
    Transport,
    address_of,
    complaint,
    has_transport_security,
)
from otpylib_telemetry_otel.settings.environment import (
    OTHER_SIGNALS,
    OTLP_OPTIONS,
    SERVICE_NAME,
    StandardTable,
    StandardText,
    mark,
    standard_environment,
)
from otpylib_telemetry_otel.settings.fields import (
    FILES,
    ApiKey,
    Compression,
    Endpoint,
    Exporter,
    Headers,
    LogRecordProcessors,
    Protocol,
    SignalPath,
    as_severity,
    attribute,
    attribute_name,
    described,
    mended,
    own_option,
    trim,
    unfit_for_grpc,
)
from otpylib_telemetry_otel.settings.given import Given
from otpylib_telemetry_otel.settings.series import SeriesSettings
from otpylib_telemetry_otel.settings.spans import ENTRY_POINT, SpanSettings

if TYPE_CHECKING:
    from pydantic_core.core_schema import ValidatorFunctionWrapHandler

_NO_DEFLATE = "over gRPC expected one of 'none', 'gzip'; 'deflate' is for http/protobuf"

_PER_SIGNAL = (*OTLP_OPTIONS, *(f"{signal}_{key}" for signal in OTHER_SIGNALS for key in OTLP_OPTIONS))


class OtelSettings(SpanSettings, SeriesSettings):
    """What the OpenTelemetry exporter can be told."""

    kind: ClassVar[str] = "otel"

    service_name: str = Field(
        "otpylib",
        description="The resource attribute `service.name` of everything sent.",
        json_schema_extra={"env": ["OTEL_SERVICE_NAME"]},
    )
    resource: Mapping[str, Any] = Field(
        default_factory=dict,
        description="Further resource attributes. Those of OTEL_RESOURCE_ATTRIBUTES are kept beside them.",
        json_schema_extra={"merge_environment": True},
    )
    resource_detectors: Words = Field(
        (),
        description="Names of resource detectors registered under the entry points of OpenTelemetry, such as "
        "`process`, `host`, or those of a cloud; `resource` goes before what they find.",
    )
    endpoint: Endpoint = Field(
        None,
        description="Where an OTLP receiver listens: `http://host:4317` for gRPC, a base URL such as "
        "`http://host:4318` for http/protobuf (`/v1/traces` is appended unless it is there). gRPC also takes "
        "`host:port`, which is encrypted unless `insecure` says otherwise. Unset: nothing leaves the "
        "machine.",
    )
    exporter: Exporter = Field(
        "otlp",
        description="Which OpenTelemetry span exporter sends: `otlp` or any name registered under the entry "
        "points of OpenTelemetry, such as `console`. A program may also give an exporter object, or a list "
        "with one for each signal; what these do not take goes over OTLP.",
    )
    protocol: Protocol = Field(
        "grpc",
        description=described("protocol", "How OTLP is spoken."),
    )
    api_key: ApiKey = Field(
        None,
        description="Sent as the header `authorization: Bearer <api_key>`; a value that names its own scheme "
        "(`Basic dXNlcjpwYXNz`) is sent as it is. For a vendor's own header use `headers`.",
        json_schema_extra={"secret": True},
    )
    headers: Headers = Field(
        default_factory=dict,
        description=described(
            "headers", "Headers sent with every request. An `authorization` here beats `api_key`."
        ),
        json_schema_extra={"secret": True},
    )
    timeout: Number = Field(
        10.0,
        ge=0.001,
        le=3_600,
        description=described(
            "timeout",
            "How long one request may take. As everywhere in Python's OpenTelemetry, the variables "
            "are seconds too.",
        ),
        json_schema_extra={"unit": "seconds"},
    )
    compression: Compression = Field(
        "none",
        description=described(
            "compression", "How requests are compressed; `deflate` only over http/protobuf."
        ),
    )
    certificate: OptionalPath = Field(
        None,
        description=described(
            "certificate",
            "File with the certificates the server's is checked against (PEM). Unset: "
            "the system's over http/protobuf, those that come with grpcio over gRPC.",
        ),
    )
    client_key: OptionalPath = Field(
        None,
        description=described(
            "client_key", "File with the client's private key (PEM); only together with `client_certificate`."
        ),
    )
    client_certificate: OptionalPath = Field(
        None,
        description=described(
            "client_certificate", "File with the client's certificate (PEM); only together with `client_key`."
        ),
    )
    insecure: bool = Field(
        False,
        description=described(
            "insecure",
            "Whether a gRPC endpoint without scheme (`host:port`) is spoken to without encryption. "
            "With `http://` or `https://` the scheme decides.",
        ),
    )
    logs: bool = Field(
        True,
        description="Whether events that are neither part of a span nor a measurement, and records of the "
        "logging bridge, are sent as log records.",
    )
    span_events: Literal["event", "log", "both"] = Field(
        "event",
        description="What an event emitted inside an operation becomes, if it is no start, end or "
        "measurement: an `event` of its span, a `log` record with the ids of the span, or `both`. Log "
        "records are chosen by `log_patterns` and `log_severity`. Where no log records are sent, it is "
        "`event`; where no spans are, `log`.",
    )
    log_patterns: Words = Field(
        ("*",),
        description="Which of these become log records, as shell patterns over the event's name; records of "
        "the logging bridge have the name `log.record`.",
    )
    log_severity: Annotated[
        Literal["trace", "debug", "info", "warn", "error", "fatal"], BeforeValidator(as_severity)
    ] = Field("info", description="How severe they have to be at least.")
    logs_endpoint: Endpoint = Field(
        None,
        description="Where log records go if not to `endpoint`, by the same rules, with `/v1/logs` for "
        "`/v1/traces`.",
    )
    logs_protocol: Protocol | None = own_option("logs", "protocol")
    logs_headers: Headers | None = own_option("logs", "headers")
    logs_timeout: OptionalNumber = own_option("logs", "timeout")
    logs_compression: Compression | None = own_option("logs", "compression")
    logs_certificate: SignalPath = own_option("logs", "certificate")
    logs_client_key: SignalPath = own_option("logs", "client_key")
    logs_client_certificate: SignalPath = own_option("logs", "client_certificate")
    logs_insecure: bool | None = own_option("logs", "insecure")
    log_record_processors: LogRecordProcessors = Field(
        (),
        description="Log record processors of OpenTelemetry whose `on_emit` is called with every log record "
        "that is sent, also where there is no endpoint. Only a program can give any.",
    )
    metrics_endpoint: Endpoint = Field(
        None,
        description="Where metrics go if not to `endpoint`, by the same rules, with `/v1/metrics` for "
        "`/v1/traces`.",
    )
    metrics_protocol: Protocol | None = own_option("metrics", "protocol")
    metrics_headers: Headers | None = own_option("metrics", "headers")
    metrics_timeout: OptionalNumber = own_option("metrics", "timeout")
    metrics_compression: Compression | None = own_option("metrics", "compression")
    metrics_certificate: SignalPath = own_option("metrics", "certificate")
    metrics_client_key: SignalPath = own_option("metrics", "client_key")
    metrics_client_certificate: SignalPath = own_option("metrics", "client_certificate")
    metrics_insecure: bool | None = own_option("metrics", "insecure")

    @model_validator(mode="before")
    @classmethod
    def _keep_signals_apart(cls, values: Any) -> Any:
        """Have what is set for this exporter count for all signals, and what is for spans for them alone."""
        if not isinstance(values, dict):
            return values
        sorted_out = dict(values)
        for signal, key in itertools.product(OTHER_SIGNALS, OTLP_OPTIONS):
            own, general = sorted_out.get(f"{signal}_{key}"), sorted_out.get(key)
            if general is not None and not _is_standard(general) and _is_standard(own):
                del sorted_out[f"{signal}_{key}"]
            elif own is None and _is_standard(general) and general.of_traces:
                default = cls.model_fields[key].get_default(call_default_factory=True)
                sorted_out[f"{signal}_{key}"] = "" if default is None else default
        return sorted_out

    @field_validator("service_name", mode="before")
    @classmethod
    def _service_has_a_name(cls, value: object) -> object:
        if isinstance(value, str) and not value.strip():
            raise RefusedError("expected a name, not an empty string")
        return mended(trim(value))

    @field_validator("resource", mode="before")
    @classmethod
    def _resource_is_attributes(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        return {attribute_name(name): attribute(name, item) for name, item in value.items()}

    @field_validator("exporter")
    @classmethod
    def _exporter_could_exist(cls, value: str | Given) -> str | Given:
        if isinstance(value, Given):
            return value
        if value == "none":
            raise RefusedError("expected the name of an exporter; enabled = false switches exporting off")
        if not ENTRY_POINT.fullmatch(value):
            raise RefusedError("expected the name of an OpenTelemetry exporter, such as otlp or console")
        return value

    @field_validator(*_PER_SIGNAL, mode="wrap")
    @classmethod
    def _keep_marks(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        # What stays in force in spite of a bad new value is offered again, and must still be told apart.
        if not _is_standard(value):
            return handler(value)
        plain = str(value) if isinstance(value, str) else dict(value)
        return mark(handler(plain), of_traces=value.of_traces)

    def conflicts(self) -> Iterable[Conflict]:
        """Return the settings that do not go together."""
        for signal in SIGNALS:
            yield from self._conflicts_of(signal)

    def _conflicts_of(self, signal: SignalName) -> Iterable[Conflict]:
        protocol = self._protocol(signal)
        address, is_base = self._own_endpoint(signal), not isinstance(self.endpoint, SignalUrl)
        if address is None and is_base and protocol != self._protocol("traces"):
            address = self.endpoint
        if address is not None and protocol is not None:
            found = complaint(address, protocol)
            if found is not None:
                keys = (_key(signal, "endpoint"), _key(signal, "protocol"), "protocol", "exporter")
                yield _conflict(keys, found.reason, found.public)
        if protocol == "grpc":
            owner = "headers" if getattr(self, _key(signal, "headers")) is None else _key(signal, "headers")
            for name in self._option(signal, "headers"):
                if wrong := unfit_for_grpc(name):
                    yield Conflict((owner,), wrong, entry=name)
        pair = self._option(signal, "client_key"), self._option(signal, "client_certificate")
        if pair.count(None) == 1:
            own = _key(signal, "client_key"), _key(signal, "client_certificate")
            reason = f"{own[0]} and {own[1]} are of use only together"
            yield _conflict((*own, "client_key", "client_certificate"), reason)
        if protocol == "grpc" and self._option(signal, "compression") == "deflate":
            own = _key(signal, "compression"), _key(signal, "protocol")
            yield _conflict((*own, "compression", "protocol", "exporter"), _NO_DEFLATE)

    @classmethod
    def standard_environment(cls, environ: Mapping[str, str]) -> Mapping[str, tuple[str, Any]]:
        """Read the OpenTelemetry variables that are not simply another name of a key."""
        return standard_environment(environ)

    def sends(self, signal: SignalName) -> bool:
        """Tell whether the settings have a signal sent anywhere."""
        takers = self.metric_readers if signal == "metrics" else self.processors(signal)
        return getattr(self, signal) and (bool(takers) or self.connection(signal).has_target)

    def processors(self, signal: SignalName) -> tuple[Given, ...]:
        """Return the processors that are handed what is made of a signal."""
        return {"traces": self.span_processors, "logs": self.log_record_processors}.get(signal, ())

    def connection(self, signal: SignalName) -> Connection:
        """Return where and how a signal is sent."""
        protocol = self._protocol(signal)
        endpoint = address_of(signal, protocol, self._own_endpoint(signal), self.endpoint)
        url, login = (None, None) if endpoint is None else login_in(endpoint)
        headers = {name: value.get_secret_value() for name, value in self._option(signal, "headers").items()}
        if self.api_key is not None:
            name, value = self._key_header(self.api_key.get_secret_value())
            headers.setdefault(name, value)
        if login is not None:
            headers.setdefault("authorization", login)
        return Connection(
            protocol,
            url,
            headers,
            timeout=self._option(signal, "timeout"),
            compression=self._option(signal, "compression"),
            files=(
                self._option(signal, "certificate"),
                self._option(signal, "client_key"),
                self._option(signal, "client_certificate"),
            ),
            encrypted=url is not None
            and has_transport_security(url, insecure=self._option(signal, "insecure")),
        )

    def _protocol(self, signal: SignalName) -> Transport | None:
        """Return how OTLP is spoken; None for an exporter that does not speak it."""
        exporter = self.exporter
        if isinstance(exporter, Given):
            exporter = "otlp" if exporter.exporter(signal) is None else ""
        match exporter:
            case "otlp":
                protocol: Transport = self._option(signal, "protocol")
                return protocol
            case "otlp_proto_grpc":
                return "grpc"
            case "otlp_proto_http":
                return "http/protobuf"
            case _:
                return None

    def _own_endpoint(self, signal: SignalName) -> str | None:
        endpoint: str | None = getattr(self, _key(signal, "endpoint"))
        return endpoint

    def _option(self, signal: SignalName, key: str) -> Any:
        """Return an option of OTLP: the signal's own, or else that of spans."""
        own = getattr(self, _key(signal, key))
        if own is None:
            return getattr(self, key)
        return None if key in FILES and not own.strip() else own

    def _key_header(self, api_key: str) -> tuple[str, str]:
        """Return the header that carries the ``api_key``, and its value."""
        return "authorization", api_key if " " in api_key else f"Bearer {api_key}"

    def resource_attributes(self) -> dict[str, Any]:
        """Return all resource attributes.

        A ``service.name`` among them counts only where ``service_name`` itself was left at its default.
        """
        attributes = dict(self.resource)
        if "service_name" in self.model_fields_set or SERVICE_NAME not in attributes:
            attributes[SERVICE_NAME] = self.service_name
        return attributes


def _key(signal: SignalName, option: str) -> str:
    """Return the key of an option of OTLP for a signal; for spans it has no prefix."""
    return option if signal == "traces" else f"{signal}_{option}"


def _conflict(keys: Iterable[str], reason: str, public: str | None = None) -> Conflict:
    return Conflict(tuple(dict.fromkeys(keys)), reason, public)


def _is_standard(value: object) -> TypeGuard[StandardText | StandardTable]:
    return isinstance(value, (StandardText, StandardTable))
