"""Our encoding of log records is OpenTelemetry's, field by field."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk.resources import Resource

from otpylib_telemetry.primitives.any_value import text
from otpylib_telemetry_otel.attributes import attributes
from otpylib_telemetry_otel.log_records.item import LogItem
from otpylib_telemetry_otel.otlp.logs import LogEncoder
from otpylib_telemetry_otel.sdk.logs import LogConverter
from tests.otel.test_otlp_spans import ATTRIBUTES, COUNTS, RESOURCE, SCALARS, TEXT, TIMES
from tests.support.examples import examples
from tests.support.versions import needs_new_sdk

FULL = ("shop", "1.2", "https://shop.example/schema", (("team", "north"), ("sizes", (1, 2))))
BARE = ("shop", "", "", (("team", "north"),))
IDS = st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1))


@st.composite
def items(draw):
    """A log record with anything in it that one can have."""
    exportable, dropped = attributes(draw(ATTRIBUTES))
    trace_id, span_id = draw(IDS)
    return LogItem(
        text(draw(TEXT)),
        draw(TIMES),
        draw(TIMES),
        draw(st.integers(0, 24)),
        text(draw(TEXT)),
        draw(
            st.one_of(st.none(), SCALARS.map(lambda value: text(value) if isinstance(value, str) else value))
        ),
        exportable,
        dropped + draw(COUNTS),
        trace_id,
        span_id,
        draw(st.integers(0, 255)),
        draw(st.sampled_from([None, ("shop", "1.2"), ("shop", ""), ("stock", "1.2"), FULL, BARE])),
    )


@pytest.fixture(scope="module")
def both():
    """Our encoder and theirs, for the same resource."""
    resource = Resource.create(RESOURCE)
    ours = LogEncoder(resource)
    converter = LogConverter(resource)
    return ours, lambda batch: encode_logs(converter.convert(batch))


@needs_new_sdk
@settings(deadline=None, max_examples=examples(100))
@given(st.lists(items(), min_size=1, max_size=5))
def test_what_is_encoded_is_what_opentelemetry_makes_of_the_same_records(both, batch):
    ours, theirs = both
    encoded = ours.encode(batch)
    assert (encoded.refused, encoded.reason) == (0, "")
    assert ExportLogsServiceRequest.FromString(encoded.body) == theirs(batch)


def test_the_property_above_sees_every_field_of_a_record():
    known = {"name", "at_ns", "observed_ns", "severity", "severity_text", "body", "attributes"}
    known |= {"dropped_attributes", "trace_id", "span_id", "flags", "scope"}
    # This is not exported: it says whether the processors a program gave have had the record.
    known |= {"processed"}
    assert {field.name for field in dataclasses.fields(LogItem)} == known


@pytest.mark.parametrize(
    "breaking",
    [
        {"at_ns": -1},
        {"trace_id": 2**128},
        {"name": "\ud800"},
    ],
)
def test_what_cannot_be_encoded_is_left_out_and_counted(both, breaking):
    def item(number, **fields):
        made = LogItem("shop.note", number, number, 9, "INFO", None, {})
        for name, value in fields.items():
            setattr(made, name, value)
        return made

    encoded = both[0].encode([item(1), item(2, **breaking), item(3)])
    assert encoded.refused == 1
    assert "Error: " in encoded.reason
    (group,) = ExportLogsServiceRequest.FromString(encoded.body).resource_logs
    (scoped,) = group.scope_logs
    assert [message.observed_time_unix_nano for message in scoped.log_records] == [1, 3]
