"""The settings of the Prometheus exporter, section ``telemetry.prometheus``."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, field_validator

from otpylib_telemetry.settings import (
    ExporterSettings,
    Number,
    OptionalText,
    RefusedError,
    WholeNumber,
    Words,
    words,
)
from otpylib_telemetry_prometheus.labels import DROPPED_BY_DEFAULT

#: Upper bounds in seconds, from 5 ms to 10 s: Prometheus' customary ones, finer around the usual second.
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

_MAX_BUCKETS = 200
# Prometheus data model: names of metrics may contain colons, but those are reserved for recording rules.
_METRIC_PREFIX = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_RESERVED_LABELS = frozenset({"le", "quantile", "otel_metric_overflow", "outcome"})
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
_ALL_LABELS = frozenset({"all", "*", "all scalars"})


def _label_choice(value: object) -> object:
    only = value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
    return None if isinstance(only, str) and only.strip() in _ALL_LABELS else words(value)


def _without_infinity(value: object) -> object:
    """Take a last bound of +Inf, as other libraries want it, for what it is: implied."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = [value]
    if isinstance(value, (list, tuple)) and len(value) > 1:
        last = value[-1]
        if isinstance(last, str) and last.strip().lower() in {"inf", "+inf"}:
            return list(value[:-1])
        if isinstance(last, float) and last == math.inf:
            return list(value[:-1])
    return value


def _label_value(name: object, value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return str(value)
        case int() | float():
            return repr(value)
        case _:
            public = "expected label values that are strings, numbers or booleans"
            raise RefusedError(f"{public}, but that of {name} is something else", public)


class PrometheusSettings(ExporterSettings):
    """What the Prometheus exporter can be told."""

    kind: ClassVar[str] = "prometheus"

    port: WholeNumber = Field(
        9464,
        ge=0,
        le=65_535,
        description="Where metrics are to be scraped; 0 takes any free port, and `get_stats` tells which.",
        json_schema_extra={"env": ["OTEL_EXPORTER_PROMETHEUS_PORT"]},
    )
    host: str = Field(
        "127.0.0.1",
        description="The address the endpoint listens on; `0.0.0.0` lets other machines reach it.",
        json_schema_extra={"env": ["OTEL_EXPORTER_PROMETHEUS_HOST"]},
    )
    path: str = Field("/metrics", description="The path of the endpoint.")
    namespace: OptionalText = Field(
        None, description="Put before the name of every metric, with an underscore between."
    )
    global_labels: Mapping[str, str] = Field(
        default_factory=dict, description="Labels every series carries, with their values."
    )
    labels: Annotated[tuple[str, ...] | None, BeforeValidator(_label_choice)] = Field(
        None,
        description="Which metadata become labels: a list of names, or `all` (the default): every name whose "
        "value is a string, number or boolean, less `drop_labels`. A name listed here is kept even if it is "
        "one of the correlation keys.",
    )
    drop_labels: Words = Field(
        tuple(sorted(DROPPED_BY_DEFAULT)),
        description="Metadata that do not become labels. A list of your own replaces this one, but the "
        "correlation keys stay out all the same unless `labels` names them.",
    )
    buckets: Annotated[tuple[Number, ...], BeforeValidator(_without_infinity)] = Field(
        DEFAULT_BUCKETS,
        description="Upper bounds of the buckets of histograms of durations, in seconds, ascending; +Inf is "
        "implied.",
    )
    max_series: WholeNumber = Field(
        2_000,
        ge=1,
        le=1_000_000,
        description="How many series one metric may have; what comes beyond is counted in one series "
        'labelled `otel_metric_overflow="true"`.',
    )
    span_metrics: bool = Field(
        True,
        description="Whether every operation also has `<operation>_in_flight` and "
        "`<operation>_duration_seconds`.",
    )

    @field_validator("host")
    @classmethod
    def _host_is_only_a_host(cls, value: str) -> str:
        host = value.strip()
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not host or re.search(r"[\s/\[\]]", host) or "://" in host:
            raise RefusedError("expected a host name or an address, such as 127.0.0.1 or 0.0.0.0")
        if host.count(":") == 1:
            raise RefusedError("expected a host without a port; the port has a key of its own")
        return host

    @field_validator("path")
    @classmethod
    def _path_is_absolute(cls, value: str) -> str:
        path = value.strip()
        if not path.startswith("/"):
            raise RefusedError("expected a path that begins with '/', such as /metrics")
        if not _PATH.fullmatch(path):
            raise RefusedError("expected a path without blanks, braces, '?' or '#', such as /metrics")
        return path

    @field_validator("namespace")
    @classmethod
    def _namespace_begins_a_name(cls, value: str | None) -> str | None:
        if value is None:
            return None
        namespace = value.strip()
        if not _METRIC_PREFIX.fullmatch(namespace):
            raise RefusedError("expected letters, digits and underscores, not beginning with a digit")
        return namespace

    @field_validator("labels")
    @classmethod
    def _labels_name_something(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not value:
            raise RefusedError("expected at least one name, or 'all'")
        return value

    @field_validator("global_labels", mode="before")
    @classmethod
    def _global_labels_can_be_labels(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        for name in value:
            shown_name = repr(name[:60]) if isinstance(name, str) else "one of them"
            if not isinstance(name, str) or not _LABEL.fullmatch(name) or name.startswith("__"):
                raise RefusedError(
                    "expected label names of letters, digits and underscores that begin with neither a digit "
                    f"nor two underscores, but {shown_name} is not"
                )
            if name in _RESERVED_LABELS:
                raise RefusedError(f"the label {name} is reserved: the exporter itself gives it a meaning")
        return {name: _label_value(name, item) for name, item in value.items()}

    @field_validator("buckets")
    @classmethod
    def _buckets_ascend(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not 1 <= len(value) <= _MAX_BUCKETS:
            raise RefusedError(f"expected from 1 to {_MAX_BUCKETS} bounds")
        if value[0] <= 0:
            raise RefusedError("expected bounds above 0, in seconds")
        for number, (lower, upper) in enumerate(itertools.pairwise(value), start=2):
            if not lower < upper:
                raise RefusedError(
                    f"expected ascending bounds, but bound {number} is not above the one before it"
                )
        return value
