"""Settings that every exporter of metrics has, with one meaning: which labels, which buckets."""

from __future__ import annotations

import itertools
import json
import math
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from otpylib_telemetry.config.field_types import (
    Number,
    OptionalNumber,
    WholeNumber,
    Words,
    none_if_blank,
    words,
)
from otpylib_telemetry.config.refusals import RefusedError
from otpylib_telemetry.metrics.buckets import DURATION_BOUNDS
from otpylib_telemetry.metrics.definition import Definition
from otpylib_telemetry.metrics.definition_tables import definitions_from_tables
from otpylib_telemetry.metrics.labels import DROPPED_BY_DEFAULT
from otpylib_telemetry.metrics.options import DefinitionError
from otpylib_telemetry.scrubbing.settings import ScrubSettings

_MAX_BUCKETS: Final = 200

_ALL_LABELS: Final = frozenset({"all", "*", "all scalars"})


def _label_choice(value: object) -> object:
    only = value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
    return None if isinstance(only, str) and only.strip().lower() in _ALL_LABELS else words(value)


def _labels_name_something(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if value is not None and not value:
        raise RefusedError("expected at least one name, or 'all'")
    return value


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


def _buckets_ascend(value: tuple[float, ...]) -> tuple[float, ...]:
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


#: Names of metadata; None for all of them.
LabelChoice: TypeAlias = Annotated[
    tuple[str, ...] | None, AfterValidator(_labels_name_something), BeforeValidator(_label_choice)
]


#: Upper bounds of buckets in seconds, ascending.
BucketBounds: TypeAlias = Annotated[
    tuple[Number, ...],
    AfterValidator(_buckets_ascend),
    BeforeValidator(_without_infinity),
    Field(
        description="Upper bounds of the buckets of histograms of durations, in seconds, ascending; +Inf is "
        "implied. Messages and calls of actors have five more below 5 ms, unless this is set to others.",
    ),
]


#: What stands for there being none.
AUTOMATIC: Final = "automatic"


_EXPECTED: Final = '"automatic", or a list of tables that each define a metric'


def definitions_setting(value: object) -> tuple[Definition, ...] | Literal["automatic"]:
    """Return what the value of a key defines."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RefusedError(f"expected {_EXPECTED}, in JSON") from None
    only = value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
    if isinstance(only, str) and only.strip().lower() == AUTOMATIC:
        return AUTOMATIC
    if isinstance(value, (Definition, dict)):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise RefusedError(f"expected {_EXPECTED}")
    try:
        return definitions_from_tables(value) or AUTOMATIC
    except DefinitionError as error:
        raise RefusedError(
            f"expected {_EXPECTED}, but {error}",
            f"expected {_EXPECTED}, but something in one of them is wrong",
        ) from None


#: The type of such a key.
MetricDefinitions: TypeAlias = Annotated[
    tuple[Definition, ...] | Literal["automatic"],
    BeforeValidator(definitions_setting),
    Field(
        description="Definitions of metrics, a list of tables: each has `type` (`counter`, `sum`, "
        "`last_value`, `summary`, `distribution`), `name` and the options of its type. `automatic`: none.",
    ),
]


#: The type of a key beside it.
AutomaticMetrics: TypeAlias = Annotated[
    bool | None,
    BeforeValidator(none_if_blank),
    Field(
        description="Whether metrics are made of every event, without a definition. Unset: if there are no "
        "definitions.",
    ),
]


class MetricsSettings(ScrubSettings):
    """The keys of an exporter of metrics: how events become series."""

    labels: LabelChoice = Field(
        None,
        description="Which metadata become labels: a list of names, or `all` (the default): every name whose "
        "value is a string, number or boolean, less `drop_labels`. A name listed here is kept even if it is "
        "one of the correlation keys. Metrics of actors and HTTP have labels of a fixed list, of which this "
        "leaves those it names.",
        json_schema_extra={"remakes": "series"},
    )
    drop_labels: Words = Field(
        tuple(sorted(DROPPED_BY_DEFAULT)),
        description="Metadata that do not become labels. A list of your own replaces this one, but the "
        "correlation keys stay out all the same unless `labels` names them.",
        json_schema_extra={"remakes": "series"},
    )
    buckets: BucketBounds = Field(
        DURATION_BOUNDS,
        json_schema_extra={"remakes": "series"},
    )
    max_series: WholeNumber = Field(
        2_000,
        ge=1,
        le=1_000_000,
        description="How many series one metric may have. Then the label with the most values is folded; if "
        'that does not help, the rest is counted in one series labelled `otel_metric_overflow="true"`.',
    )
    span_metrics: bool = Field(
        True,
        description="Whether every operation also has `<operation>_in_flight`, "
        "`<operation>_duration_seconds` and, where it waited, `<operation>_wait_seconds`.",
        json_schema_extra={"remakes": "series"},
    )
    metrics: MetricDefinitions = Field(
        AUTOMATIC,
        json_schema_extra={"remakes": "series"},
    )
    automatic_metrics: AutomaticMetrics = Field(
        None,
        json_schema_extra={"remakes": "series"},
    )
    series_ttl: OptionalNumber = Field(
        None,
        ge=1,
        le=31_536_000,
        description="After how long without a measurement a series is removed. Unset: never.",
        json_schema_extra={"unit": "seconds", "remakes": "series"},
    )
    exemplars: bool = Field(
        True,
        description="Whether series remember the trace of a recent measurement, and show it to whoever can "
        "read it (scrapers that read OpenMetrics).",
        json_schema_extra={"remakes": "series"},
    )


class PushedMetricsSettings(MetricsSettings):
    """The keys of an exporter that sends metrics."""

    interval: Number = Field(
        60.0,
        ge=0.1,
        le=86_400,
        description="How often the series are read and sent.",
        json_schema_extra={"unit": "seconds"},
    )


def definitions_in(setting: tuple[Definition, ...] | str) -> tuple[Definition, ...]:
    """Return the definitions a validated setting holds."""
    return () if isinstance(setting, str) else setting
