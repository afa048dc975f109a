"""The keys that are about spans: which are made, which of them are sent, and how many are held."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, field_validator

from otpylib_telemetry.config.field_types import Number, OptionalNumber, OptionalText, WholeNumber
from otpylib_telemetry.config.refusals import RefusedError
from otpylib_telemetry_otel.sampling.rules import tables
from otpylib_telemetry_otel.settings.fields import IdGenerator, Sampler, SpanProcessors
from otpylib_telemetry_otel.settings.given import Given
from otpylib_telemetry_otel.settings.limits import LimitSettings

#: What packages register something under.
ENTRY_POINT: Final = re.compile(r"[A-Za-z0-9_.-]+")


class SpanSettings(LimitSettings):
    """What the OpenTelemetry exporter can be told about spans."""

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
    span_processors: SpanProcessors = Field(
        (),
        description="Span processors of OpenTelemetry whose `on_end` is called with every span that is sent, "
        "also where there is no endpoint. Only a program can give any.",
    )
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

    @field_validator("sampler")
    @classmethod
    def _sampler_could_exist(cls, value: str | Given | None) -> str | Given | None:
        if isinstance(value, str) and not ENTRY_POINT.fullmatch(value):
            raise RefusedError("expected the name of an OpenTelemetry sampler, such as always_on")
        return value
