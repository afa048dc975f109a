"""The kinds of values that settings of the OpenTelemetry exporter have, beside those of every exporter."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, SecretStr, WrapValidator

from otpylib_telemetry.config.field_types import OptionalText, absolute, none_if_blank
from otpylib_telemetry.config.refusals import RefusedError
from otpylib_telemetry.primitives.any_value import any_value, text, unprintable
from otpylib_telemetry_otel.settings.endpoint import SignalName, SignalUrl
from otpylib_telemetry_otel.settings.environment import (
    EXPORTERS,
    ID_GENERATORS,
    SAMPLERS,
    otlp_variable,
    registered_name,
)
from otpylib_telemetry_otel.settings.given import Given, exporters, one_with, several

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
#: OTLP has signed 64-bit integers.
_MAX_INTEGER = 2**63 - 1


def _keep_exact(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    result = handler(value)
    return SignalUrl(result) if isinstance(value, SignalUrl) and isinstance(result, str) else result


def trim(value: object) -> object:
    """Take blanks around a text away."""
    # Only a value that needs it: str.strip() would make a plain string of a SignalUrl.
    return value.strip() if isinstance(value, str) and value != value.strip() else value


def _as_headers(value: object) -> object:
    """Make plain strings of header values that are numbers, as ``x-scope-orgid = 1`` is in TOML."""
    if not isinstance(value, Mapping):
        return value
    return {
        name: str(item) if isinstance(item, (int, float)) and not isinstance(item, bool) else item
        for name, item in value.items()
    }


def _sendable_headers(value: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
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


def _sendable_key(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not _PRINTABLE.fullmatch(value.get_secret_value()):
        raise RefusedError("expected printable ASCII on one line, which is all a header carries")
    return value


def as_severity(value: object) -> object:
    """Take the names of Python's levels, in any case, for those of OpenTelemetry."""
    if not isinstance(value, str):
        return value
    name = value.strip().lower()
    return {"warning": "warn", "critical": "fatal"}.get(name, name)


Endpoint = Annotated[
    str | None, WrapValidator(_keep_exact), BeforeValidator(trim), BeforeValidator(none_if_blank)
]


#: The path of a file of a signal's own; an empty one means none, whatever the one of spans is.
SignalPath = Annotated[str | None, BeforeValidator(absolute)]
Protocol = Literal["grpc", "http/protobuf"]
Compression = Literal["none", "gzip", "deflate"]
Exporter = Annotated[
    str | InstanceOf[Given],
    BeforeValidator(partial(registered_name, groups=EXPORTERS)),
    BeforeValidator(exporters),
]
Sampler = Annotated[
    OptionalText | InstanceOf[Given],
    BeforeValidator(partial(registered_name, groups=(SAMPLERS,))),
    BeforeValidator(one_with("a sampler", "should_sample")),
]
IdGenerator = Annotated[
    OptionalText | InstanceOf[Given],
    BeforeValidator(partial(registered_name, groups=(ID_GENERATORS,))),
    BeforeValidator(one_with("an id generator", "generate_trace_id", "generate_span_id")),
]
MetricProducers = Annotated[
    tuple[InstanceOf[Given], ...],
    BeforeValidator(several("metric producers", "produce(timeout_millis)", ("produce",))),
]
MetricReaders = Annotated[
    tuple[InstanceOf[Given], ...],
    BeforeValidator(several("metric readers", "collect()", ("collect", "_set_collect_callback"))),
]
SpanProcessors = Annotated[
    tuple[InstanceOf[Given], ...],
    BeforeValidator(several("span processors", "on_end(span)", ("on_end",))),
]
LogRecordProcessors = Annotated[
    tuple[InstanceOf[Given], ...],
    BeforeValidator(
        # ``emit`` is what it was called before; the handlers of Python's logging have one too.
        several("log record processors", "on_emit(record)", ("on_emit",), ("emit", "force_flush"))
    ),
]
Headers = Annotated[Mapping[str, SecretStr], AfterValidator(_sendable_headers), BeforeValidator(_as_headers)]
ApiKey = Annotated[
    SecretStr | None, AfterValidator(_sendable_key), BeforeValidator(trim), BeforeValidator(none_if_blank)
]


def unfit_for_grpc(name: str) -> str | None:
    """Return why gRPC cannot send a header of this name, or None if it can."""
    if not _METADATA.fullmatch(name):
        return "over gRPC expected header names of letters, digits, hyphens, underscores and dots"
    if name.endswith("-bin"):
        return "over gRPC a header whose name ends with -bin has a binary value, which a setting cannot have"
    if name.startswith("grpc-"):
        return "over gRPC a header whose name begins with grpc- is reserved"
    return None


def described(key: str, description: str) -> str:
    """Return the description of an OTLP option with its variables: that for spans is the stronger one."""
    of_traces, general = otlp_variable(key, "traces"), otlp_variable(key)
    return f"{description} In the environment: `{of_traces}` (for spans alone), or else `{general}`."


def own_option(signal: SignalName, key: str) -> Any:
    """Return the field that says of an OTLP option what a signal is sent with."""
    items = "log records" if signal == "logs" else signal
    empty = " Empty: none." if key in FILES else ""
    unit = {"unit": "seconds"} if key == "timeout" else {}
    secret = {"secret": True} if key == "headers" else {}
    bounds: dict[str, Any] = {"ge": 0.001, "le": 3_600} if key == "timeout" else {}
    return Field(
        None,
        description=f"What `{key}` is for {items}.{empty} Unset: the same as for spans. In the "
        f"environment: `{otlp_variable(key, signal)}`, unless `{key}` is set for the exporter itself.",
        json_schema_extra={**unit, **secret},
        **bounds,
    )


FILES = frozenset({"certificate", "client_key", "client_certificate"})


def attribute_name(name: object) -> str:
    """Return the name of an attribute."""
    if not isinstance(name, str) or not name.strip():
        raise RefusedError("expected attribute names that are strings and not empty")
    return text(name, None)


def mended(value: object) -> object:
    """Return text that can be encoded, and anything else as it is: names of files may be no Unicode."""
    return text(value, None) if type(value) is str and not value.isascii() else value


def attribute(name: object, value: Any) -> Any:
    """Return the value of an attribute as OpenTelemetry takes it; an object of another class is text."""
    items = [_scalar(item) for item in value] if isinstance(value, (list, tuple)) else [_scalar(value)]
    kinds = {_attribute_kind(item) for item in items}
    if len(kinds) > 1 or None in kinds:
        public = (
            "expected attributes that are strings, booleans, finite numbers or lists of one kind of these"
        )
        raise RefusedError(f"{public}, but {str(name)[:60]!r} is something else", public)
    if any(isinstance(item, float) for item in items):
        # A list of numbers must be of one type, and 1 stands among 0.5 and 2.5 as a float.
        items = [float(item) for item in items]
    plain = [str(item) if isinstance(item, str) else item for item in items]
    return tuple(plain) if isinstance(value, (list, tuple)) else plain[0]


def _scalar(value: Any) -> Any:
    if issubclass(type(value), (Mapping, list, tuple, set, frozenset)) or value is None:
        return value
    found = any_value(value)
    if found == unprintable(type(value)):
        # Not even its text can be had: this is refused.
        return value
    return text(found) if isinstance(found, (bytes, tuple, dict)) else found


def _attribute_kind(value: Any) -> str | None:
    match value:
        case str():
            return "string"
        case bool():
            return "boolean"
        case int() if -_MAX_INTEGER <= value <= _MAX_INTEGER:
            return "number"
        case float() if math.isfinite(value):
            return "number"
        case _:
            return None
