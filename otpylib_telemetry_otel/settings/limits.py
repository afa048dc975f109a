"""How much of a span or a log record is sent at most: OpenTelemetry's limits, under its names."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from otpylib_telemetry.config.field_types import WholeNumber
from otpylib_telemetry.config.settings import ExporterSettings
from otpylib_telemetry_otel.traces.limits import Limit, SpanLimits

_MOST = 2**31 - 1


def _limit(what: str, key: str, default: str) -> Any:
    """Return the field of a limit, which has the name of the variable."""
    fate = "cut off" if "length" in key else "left out, and counted"
    return Field(
        None,
        ge=0,
        le=_MOST,
        description=f"{what}; what is beyond is {fate}. Without it: {default}.",
        json_schema_extra={"env": [f"OTEL_{key.upper()}"]},
    )


class LimitSettings(ExporterSettings):
    """The limits; the special ones go before the general ones."""

    attribute_count_limit: WholeNumber | None = _limit(
        "How many attributes a span, an event or a link of it, or a log record has",
        "attribute_count_limit",
        "128",
    )
    attribute_value_length_limit: WholeNumber | None = _limit(
        "How many characters a text among the attributes of these has",
        "attribute_value_length_limit",
        "16384; what came through the OpenTelemetry API is not cut",
    )
    span_attribute_count_limit: WholeNumber | None = _limit(
        "How many attributes a span has", "span_attribute_count_limit", "`attribute_count_limit`"
    )
    span_attribute_value_length_limit: WholeNumber | None = _limit(
        "How many characters a text among a span's attributes has",
        "span_attribute_value_length_limit",
        "`attribute_value_length_limit`",
    )
    span_event_count_limit: WholeNumber | None = _limit(
        "How many events a span has", "span_event_count_limit", "128"
    )
    span_link_count_limit: WholeNumber | None = _limit(
        "How many links a span has", "span_link_count_limit", "128"
    )
    event_attribute_count_limit: WholeNumber | None = _limit(
        "How many attributes an event of a span has",
        "event_attribute_count_limit",
        "`attribute_count_limit`",
    )
    link_attribute_count_limit: WholeNumber | None = _limit(
        "How many attributes a link of a span has", "link_attribute_count_limit", "`attribute_count_limit`"
    )
    span_stack_traces: bool = Field(
        True,
        description="Whether the exceptions on spans, by which they end or that were recorded there, have "
        "their stack traces. The variable `TELEMETRY_SPAN_STACK_TRACES=false` has none written in the first "
        "place.",
    )
    logrecord_attribute_count_limit: WholeNumber | None = _limit(
        "How many attributes a log record has",
        "logrecord_attribute_count_limit",
        "`attribute_count_limit`",
    )
    logrecord_attribute_value_length_limit: WholeNumber | None = _limit(
        "How many characters a text among a log record's attributes has",
        "logrecord_attribute_value_length_limit",
        "`attribute_value_length_limit`",
    )

    def span_limits(self) -> SpanLimits:
        """Return what is said about spans."""
        length = self.attribute_value_length_limit
        count = self.attribute_count_limit
        return SpanLimits(
            Limit(
                _first(self.span_attribute_count_limit, count),
                _first(self.span_attribute_value_length_limit, length),
            ),
            Limit(_first(self.event_attribute_count_limit, count), length),
            Limit(_first(self.link_attribute_count_limit, count), length),
            self.span_event_count_limit,
            self.span_link_count_limit,
            self.span_stack_traces,
        )

    def log_limit(self) -> Limit:
        """Return what is said about log records."""
        return Limit(
            _first(self.logrecord_attribute_count_limit, self.attribute_count_limit),
            _first(self.logrecord_attribute_value_length_limit, self.attribute_value_length_limit),
        )


def _first(*limits: int | None) -> int | None:
    return next((limit for limit in limits if limit is not None), None)


_LIMITS = frozenset(LimitSettings.model_fields) - frozenset(ExporterSettings.model_fields)

#: The keys that are about spans, and those about log records; the general ones are about both.
SPAN_LIMITS = frozenset(key for key in _LIMITS if not key.startswith("logrecord_"))
LOG_LIMITS = frozenset(key for key in _LIMITS if key.startswith(("logrecord_", "attribute_")))
