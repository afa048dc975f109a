"""The settings of the OpenTelemetry exporter, section ``telemetry.otel``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeGuard

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from otpylib_telemetry.aggregation.exporter_stores import DEFAULT_MAX_SERIES
from otpylib_telemetry.config.settings import (
    Conflict,
    Number,
    OptionalNumber,
    OptionalPath,
    OptionalText,
    RefusedError,
    WholeNumber,
    Words,
    none_if_blank,
)
from otpylib_telemetry.metrics.labels import DROPPED_BY_DEFAULT
from otpylib_telemetry.metrics.options import DURATION_BOUNDS
from otpylib_telemetry.metrics.settings import AUTOMATIC, BucketBounds, LabelChoice, MetricDefinitions
from otpylib_telemetry_otel.sampling.rules import tables
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
    Compression,
    Endpoint,
    Exporter,
    Headers,
    IdGenerator,
    LogRecordProcessors,
    MetricProducers,
    MetricReaders,
    Protocol,
    Sampler,
    SignalPath,
    SpanProcessors,
    as_severity,
    attribute,
    attribute_name,
    described,
    mended,
    own_option,
    trim,
)
from otpylib_telemetry_otel.settings.given import Given
from otpylib_telemetry_otel.settings.limits import LimitSettings

if TYPE_CHECKING:
    from pydantic_core.core_schema import ValidatorFunctionWrapHandler

#: RFC 9110, section 5.6.2: what the name of a header is made of.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: What gRPC and HTTP both carry in the value of a header.
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
#: What gRPC takes as the name of metadata ("gRPC over HTTP2", "Requests").
_METADATA = re.compile(r"[0-9a-z_.-]+")
#: Headers that would contradict what is sent.
_OF_THE_BODY = frozenset({"content-length", "content-encoding", "transfer-encoding", "connection"})
_NO_DEFLATE = "over gRPC expected one of 'none', 'gzip'; 'deflate' is for http/protobuf"
_ENTRY_POINT = re.compile(r"[A-Za-z0-9_.-]+")

_PER_SIGNAL = (*OTLP_OPTIONS, *(f"{signal}_{key}" for signal in OTHER_SIGNALS for key in OTLP_OPTIONS))


class OtelSettings(LimitSettings):
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
    api_key: Annotated[SecretStr | None, BeforeValidator(trim), BeforeValidator(none_if_blank)] = Field(
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
    sampling_rate: Number = Field(
        1.0,
        ge=0,
        le=1,
        description="Which share of traces is sent; traces are sent whole or not at all. What is sent of a "
        "share below 1 carries the attribute `sampling.weight`: for how many it stands.",
    )
    always_keep_errors: bool = Field(
        True,
        description="Whether a trace in which an operation failed is sent in any case: all of its spans that "
        "were made in this process.",
    )
    always_keep_slower_than_ms: OptionalNumber = Field(
        None,
        ge=0,
        le=1_000_000_000,
        description="A trace in which an operation took longer is sent in any case: all of its spans that "
        "were made in this process. Unset: no such rule.",
        json_schema_extra={"unit": "milliseconds"},
    )
    sampling_parent_based: bool = Field(
        False,
        description="Whether traces that came from elsewhere, with a `traceparent`, are sent if and only if "
        "they are recorded there, according to its flag. Otherwise they are treated like all others.",
    )
    sampling_rules: Annotated[tuple[Mapping[str, Any], ...], BeforeValidator(tables)] = Field(
        (),
        description="Tables with a `rate` of their own for operations of a certain `name` (a shell pattern) "
        "or with certain `attributes` (by key a pattern, a value, or a list of these); the first that "
        "matches an operation counts. The rule for the operation at the top decides about a trace; one for "
        "an operation further down can only raise the rate.",
    )
    sampler: Sampler = Field(
        None,
        description="The name of a sampler registered under the entry points of OpenTelemetry, which then "
        "decides in place of `sampling_rate`; from a program also a sampler object. Unset: none.",
    )
    id_generator: IdGenerator = Field(
        None,
        description="The name of an id generator registered under the entry points of OpenTelemetry, such as "
        "`xray`, from a program also an object; every operation of the process then has its ids. Unset: ids "
        "are random. In the environment: "
        "`OTEL_PYTHON_ID_GENERATOR`, where `random` is unset.",
    )
    trace_id_from_correlation: bool = Field(
        False,
        description="Whether a trace without ids of its own gets an id derived from its correlation id, so "
        "that processes that share only that id share a trace.",
    )
    sampler_argument: OptionalText = Field(
        None,
        description="What `sampler` is given, such as a rate. Unset: nothing.",
    )
    max_spans_per_second: OptionalNumber = Field(
        None,
        gt=0,
        le=1_000_000_000,
        description="How many spans are sent at most, on average; traces that failed or were slow go first. "
        "Unset: no limit.",
    )
    sampling_wait: Number = Field(
        1.0,
        ge=0,
        le=3_600,
        description="How long to wait for a further operation of a trace before deciding about it, once its "
        "last one here has ended. No effect if everything is sent.",
        json_schema_extra={"unit": "seconds"},
    )
    max_held_spans: WholeNumber = Field(
        20_000,
        ge=1,
        le=10_000_000,
        description="How many finished spans may wait for the end of their traces; beyond it the oldest "
        "traces are decided about early.",
    )
    traces: bool = Field(True, description="Whether spans are made and sent.")
    logs: bool = Field(
        True,
        description="Whether events that are neither part of a span nor a measurement, and records of the "
        "logging bridge, are sent as log records.",
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
    metrics: bool = Field(
        True, description="Whether metrics are made of the events and sent, beside those of other sources."
    )
    metrics_interval: Number = Field(
        60.0,
        ge=0.001,
        le=86_400,
        description="From one export of the metrics to the next; looked at once a second, or more often "
        "where `flush_interval` is shorter. In the environment: `OTEL_METRIC_EXPORT_INTERVAL`, in "
        "milliseconds.",
        json_schema_extra={"unit": "seconds"},
    )
    metrics_temporality: Literal["cumulative", "delta", "lowmemory"] = Field(
        "cumulative",
        description="What a data point counts from: `cumulative`, the beginning of its series; `delta`, "
        "the point before it, but for what rises and falls; `lowmemory`, as `delta`, but for observable "
        "counters. Changed while it runs, nothing is lost or sent twice.",
        json_schema_extra={"env": ["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"]},
    )
    metrics_histogram: Literal["explicit", "exponential"] = Field(
        "explicit",
        description="Which buckets histograms of durations have: those of `metrics_buckets`, or exponential "
        "ones, which adapt to what is measured. In the environment: "
        "`OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION`.",
    )
    metrics_exemplars: bool = Field(
        True,
        description="Whether data points carry the ids of a trace in which something was measured. In the "
        "environment: `OTEL_METRICS_EXEMPLAR_FILTER` (`always_off`).",
    )
    metric_producers: MetricProducers = Field(
        (),
        description="Metric producers whose metrics are sent beside the exporter's own, for as long as it is "
        "there. Only a program can give any.",
    )
    metric_readers: MetricReaders = Field(
        (),
        description="Metric readers of OpenTelemetry, which read the metrics for themselves, also where "
        "there is no endpoint. Only a program can give any.",
    )
    span_processors: SpanProcessors = Field(
        (),
        description="Span processors of OpenTelemetry whose `on_end` is called with every span that is sent, "
        "also where there is no endpoint. Only a program can give any.",
    )
    log_record_processors: LogRecordProcessors = Field(
        (),
        description="Log record processors of OpenTelemetry whose `on_emit` is called with every log record "
        "that is sent, also where there is no endpoint. Only a program can give any.",
    )
    metrics_definitions: MetricDefinitions = Field(
        AUTOMATIC,
        description="Definitions of metrics, a list of tables: each has `type` (`counter`, `sum`, "
        "`last_value`, `summary`, `distribution`), `name` and the options of its type. `automatic`: none.",
    )
    automatic_metrics: Annotated[bool | None, BeforeValidator(none_if_blank)] = Field(
        None,
        description="Whether metrics are made of every event, without a definition. Unset: if there are no "
        "definitions.",
    )
    span_metrics: bool = Field(
        True,
        description="Whether every operation also has the metrics `<operation>.in_flight` and "
        "`<operation>.duration`.",
    )
    metrics_labels: LabelChoice = Field(
        None,
        description="Which metadata become attributes of metrics: a list of names, or `all` (the default): "
        "every name whose value is a string, number or boolean, less `metrics_drop_labels`. A name listed "
        "here is kept even if it is one of the correlation keys.",
    )
    metrics_drop_labels: Words = Field(
        tuple(sorted(DROPPED_BY_DEFAULT)),
        description="Metadata that do not become attributes of metrics. A list of your own replaces this "
        "one, but the correlation keys stay out all the same unless `metrics_labels` names them.",
    )
    metrics_buckets: BucketBounds = Field(
        DURATION_BOUNDS,
        description="Upper bounds of the buckets of histograms of durations, in seconds, ascending; +Inf is "
        "implied.",
    )
    max_series: WholeNumber = Field(
        DEFAULT_MAX_SERIES,
        ge=1,
        le=1_000_000,
        description="How many series one metric may have; what comes beyond is counted in one series "
        "with the attribute `otel.metric.overflow`.",
    )
    series_ttl: OptionalNumber = Field(
        None,
        ge=1,
        le=31_536_000,
        description="After how long without a measurement a series is removed; looked at when metrics are "
        "exported. Unset: never.",
        json_schema_extra={"unit": "seconds"},
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
    max_active_spans: WholeNumber = Field(
        10_000,
        ge=1,
        le=10_000_000,
        description="How many operations may be under way at once; beyond it the oldest is ended as "
        "incomplete.",
    )
    span_ttl: Number = Field(
        300.0,
        ge=0.001,
        le=604_800,
        description="After how long an operation whose end never came is ended as incomplete.",
        json_schema_extra={"unit": "seconds"},
    )

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
        if not _ENTRY_POINT.fullmatch(value):
            raise RefusedError("expected the name of an OpenTelemetry exporter, such as otlp or console")
        return value

    @field_validator("sampler")
    @classmethod
    def _sampler_could_exist(cls, value: str | Given | None) -> str | Given | None:
        if isinstance(value, str) and not _ENTRY_POINT.fullmatch(value):
            raise RefusedError("expected the name of an OpenTelemetry sampler, such as always_on")
        return value

    @field_validator("api_key")
    @classmethod
    def _api_key_fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _PRINTABLE.fullmatch(value.get_secret_value()):
            raise RefusedError("expected printable ASCII on one line, which is all a header carries")
        return value

    @field_validator("headers", "logs_headers", "metrics_headers")
    @classmethod
    def _headers_can_be_sent(cls, value: Mapping[str, SecretStr] | None) -> Mapping[str, SecretStr] | None:
        if value is None:
            return None
        for name, item in value.items():
            if name.lower() in _OF_THE_BODY:
                raise RefusedError("expected no header that the request itself decides, such as its length")
            if not _TOKEN.fullmatch(name):
                raise RefusedError("expected header names of letters, digits and hyphens")
            if not _PRINTABLE.fullmatch(item.get_secret_value()):
                raise RefusedError(
                    f"the value of the header {name} is not printable ASCII on one line",
                    "a value is not printable ASCII on one line",
                )
        # gRPC refuses names that are not lower-case, HTTP does not care.
        return {name.lower(): item for name, item in value.items()}

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
                if wrong := _unfit_for_grpc(name):
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


def _unfit_for_grpc(name: str) -> str | None:
    """Return why gRPC cannot send a header of this name, or None if it can."""
    if not _METADATA.fullmatch(name):
        return "over gRPC expected header names of letters, digits, hyphens, underscores and dots"
    if name.endswith("-bin"):
        return "over gRPC a header whose name ends with -bin has a binary value, which a setting cannot have"
    if name.startswith("grpc-"):
        return "over gRPC a header whose name begins with grpc- is reserved"
    return None


def _key(signal: SignalName, option: str) -> str:
    """Return the key of an option of OTLP for a signal; for spans it has no prefix."""
    return option if signal == "traces" else f"{signal}_{option}"


def _conflict(keys: Iterable[str], reason: str, public: str | None = None) -> Conflict:
    return Conflict(tuple(dict.fromkeys(keys)), reason, public)


def _is_standard(value: object) -> TypeGuard[StandardText | StandardTable]:
    return isinstance(value, (StandardText, StandardTable))
