"""Which events become log records, what these carry, and what becomes of them on the way."""

import enum
import io
import json
import logging
import pickle
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import export
from opentelemetry.sdk.resources import Resource
from otpylib import gen_server

from otpylib_telemetry import execute, otp, span
from otpylib_telemetry.config.resolution import changed_keys
from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry.exporter.base import ExportContext, Exporter
from otpylib_telemetry.exporter.errors import ExportError
from otpylib_telemetry.instrument.logging import LOG_EVENT, install, uninstall
from otpylib_telemetry_mock.otlp_receiver import GrpcStatus, HttpStatus, PartialSuccess
from otpylib_telemetry_otel import destinations, start_otel_exporter
from otpylib_telemetry_otel.backend import OtelBackend
from otpylib_telemetry_otel.errors import BackendUnavailableError
from otpylib_telemetry_otel.log_records.events import LogMaker
from otpylib_telemetry_otel.log_records.item import LogItem
from otpylib_telemetry_otel.log_records.severity import SEVERITIES, short_name
from otpylib_telemetry_otel.otlp.logs import LogEncoder
from otpylib_telemetry_otel.sdk import plugins
from otpylib_telemetry_otel.settings.endpoint import SignalUrl
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_otel.signals.base import Batch
from otpylib_telemetry_otel.signals.logs import Logs
from otpylib_telemetry_otel.traces.spans import FinishedSpan
from tests.support.absurd import DETAILS, ERRORS
from tests.support.ledger import quiet_stats, stats_of
from tests.support.waiting import eventually

START = 1_700_000_000 * 10**9
#: It had another name before OpenTelemetry 1.39.
CONSOLE = getattr(export, "ConsoleLogRecordExporter", None) or export.ConsoleLogExporter
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
EVERYTHING = LogMaker()


def make(name="shop.note", measurements=None, maker=EVERYTHING, around=None, **metadata):
    return maker.make((name, measurements or {}, metadata, 5, "p"), START, around)


def open_span(trace_id=7, span_id=8):
    return FinishedSpan("shop.order", trace_id, span_id, 0, None, START, {})


class TestWhatItCarries:
    def test_name_time_and_attributes_are_those_of_the_event(self):
        item = make("shop.stock.low", {"left": 3}, warehouse="north", express=True)
        assert (item.name, item.at_ns, item.observed_ns) == ("shop.stock.low", START + 5, START + 5)
        assert item.attributes == {"warehouse": "north", "express": True, "left": 3}
        assert (item.body, item.trace_id, item.span_id, item.scope) == (None, 0, 0, None)

    def test_the_body_is_what_message_or_body_says(self):
        assert (make(message="sold out").body, make(message="sold out").attributes) == ("sold out", {})
        both = make(body="sold out", message="tea")
        assert (both.body, both.attributes) == ("sold out", {"message": "tea"})
        assert make(body=3).body == 3
        assert make(body={"left": [1, None], "raw": b"\xff"}).body == {"left": (1, None), "raw": b"\xff"}
        assert make(message=None).body is None

    def test_the_scope_is_the_one_that_is_named(self):
        item = make(**{"otel.scope.name": "shop", "otel.scope.version": "1.2"})
        assert (item.scope, item.attributes) == (("shop", "1.2"), {})

    def test_a_time_in_the_metadata_of_an_event_is_an_attribute(self):
        item = make(time_unix_nano=START)
        assert (item.at_ns, item.attributes) == (START + 5, {"time_unix_nano": START})

    def test_what_does_not_fit_is_counted(self):
        item = make(**{f"key{number}": number for number in range(130)})
        assert (len(item.attributes), item.dropped_attributes) == (128, 2)
        item = make(**{f"key{number}": number for number in range(128)}, trace_id="none")
        assert (len(item.attributes), item.dropped_attributes) == (128, 1)

    @pytest.mark.parametrize(
        "key",
        ["message", "severity", "level", "severity_number", "trace_id", "exception", "otel.scope.name", "x"],
    )
    def test_whatever_is_in_it_it_can_be_sent(self, key):
        values = [*DETAILS, *ERRORS, float("nan"), 10**5000, "\ud800"]
        for name in ("shop.note", LOG_EVENT, "shop.order.error"):
            items = [LogMaker().make((name, {}, {key: value}, 5, "p"), START) for value in values]
            assert LogEncoder(Resource.get_empty()).encode(items).refused == 0


class TestSeverity:
    @pytest.mark.parametrize(
        ("metadata", "number", "words"),
        [
            ({}, 9, "INFO"),
            ({"severity": "warning"}, 13, "warning"),
            ({"severity": "ERROR"}, 17, "ERROR"),
            ({"severity": "info2"}, 10, "info2"),
            ({"severity": "Critical"}, 21, "Critical"),
            ({"level": "debug"}, 5, "debug"),
            ({"severity": "error", "level": "debug"}, 17, "error"),
            ({"severity_number": 14}, 14, "WARN2"),
            ({"severity_number": 14, "severity": "odd"}, 14, "odd"),
            ({"severity_number": SeverityNumber.FATAL4}, 24, "FATAL4"),
            ({"severity": enum.Enum("Levels", "WARN").WARN}, 13, "WARN"),
        ],
    )
    def test_it_is_what_the_metadata_names(self, metadata, number, words):
        item = make(**metadata)
        assert (item.severity, item.severity_text) == (number, words)
        assert set(item.attributes) == {"level"} - ({"level"} if "severity" not in metadata else set()) - (
            set() if "level" in metadata else {"level"}
        )

    @pytest.mark.parametrize(
        "metadata",
        [
            {"severity": "odd"},
            {"level": 7},
            {"level": "7"},
            {"severity": 3},
            {"severity_number": 0},
            {"severity_number": 25},
            {"severity_number": True},
            {"severity_number": "high"},
        ],
    )
    def test_what_names_none_stays_an_attribute(self, metadata):
        item = make(**metadata)
        assert (item.severity, item.attributes) == (9, metadata)

    @pytest.mark.parametrize("name", ["shop.order.error", "shop.order.exception", "shop.order.failed"])
    def test_an_error_that_ends_nothing_is_one(self, name):
        assert (make(name).severity, make(name).error) == (17, True)
        assert make(name, severity="warn").severity == 13
        assert (make("shop.order.stop").severity, make("shop.order.stop").error) == (9, False)

    def test_every_number_has_a_name(self):
        assert [short_name(number) for number in (1, 4, 5, 9, 13, 17, 20, 21, 24)] == [
            *("TRACE", "TRACE4", "DEBUG", "INFO", "WARN", "ERROR", "ERROR4", "FATAL", "FATAL4")
        ]


class TestTrace:
    def test_ids_in_the_metadata_are_its_own(self):
        item = make(trace_id=TRACE, span_id=SPAN)
        assert (item.trace_id, item.span_id, item.flags) == (int(TRACE, 16), int(SPAN, 16), False)
        assert item.attributes == {}

    def test_the_open_span_is_where_it_belongs(self):
        item = make(around=open_span(), correlation_id="order-7")
        assert (item.trace_id, item.span_id) == (7, 8)
        assert item.attributes == {"correlation_id": "order-7"}

    def test_an_id_of_its_own_goes_before_the_open_span(self):
        item = make(around=open_span(), trace_id=TRACE)
        assert (item.trace_id, item.span_id) == (int(TRACE, 16), 0)
        item = make(around=open_span(), span_id=SPAN)
        assert (item.trace_id, item.span_id) == (7, int(SPAN, 16))

    @pytest.mark.parametrize(("flags", "sampled"), [("01", True), ("00", False)])
    def test_a_traceparent_says_it_all(self, flags, sampled):
        item = make(traceparent=f"00-{TRACE}-{SPAN}-{flags}")
        assert (item.trace_id, item.span_id, item.flags) == (int(TRACE, 16), int(SPAN, 16), sampled)
        assert item.attributes == {}

    def test_a_span_without_a_trace_is_none(self):
        item = make(span_id=SPAN)
        assert (item.trace_id, item.span_id, item.attributes) == (0, 0, {"span_id": SPAN})

    def test_ids_that_are_none_stay_attributes(self):
        item = make(trace_id="none", span_id=3.5, traceparent="00-x")
        assert (item.trace_id, item.span_id) == (0, 0)
        assert item.attributes == {"trace_id": "none", "span_id": 3.5, "traceparent": "00-x"}


class TestExceptions:
    def test_an_exception_is_told_by_type_message_and_stack(self):
        try:
            raise LookupError("no tea")
        except LookupError as raised:
            item = make(exception=raised)
        assert item.attributes["exception.type"] == "LookupError"
        assert item.attributes["exception.message"] == "no tea"
        assert item.attributes["exception.stacktrace"].endswith("LookupError: no tea\n")
        assert "exception" not in item.attributes

    def test_an_error_event_is_told_by_what_it_says(self):
        item = make("shop.order.failed", error="no tea", error_type="StockError")
        assert item.attributes["exception.message"] == "no tea"
        assert item.attributes["exception.type"] == "StockError"
        assert item.attributes["error"] == "no tea"

    def test_an_error_event_that_says_nothing_has_no_exception(self):
        assert make("shop.order.failed", error=True, customer="ann").attributes == {
            "error": True,
            "customer": "ann",
        }

    def test_what_is_called_exception_and_is_none_is_an_attribute(self):
        assert make(exception="of the rule", stacktrace="s").attributes == {
            "exception": "of the rule",
            "stacktrace": "s",
        }


class TestRecordsOfTheBridge:
    def test_they_have_no_name_and_the_logger_as_scope(self):
        item = make(LOG_EVENT, logger="shop.stock", message="low", severity="WARNING", severity_number=13)
        assert (item.name, item.scope, item.body) == ("", ("shop.stock", ""), "low")
        assert (item.severity, item.severity_text, item.attributes) == (13, "WARNING", {})

    def test_they_happened_when_they_were_made_and_were_observed_when_we_heard_of_them(self):
        item = make(LOG_EVENT, time_unix_nano=START - 9)
        assert (item.at_ns, item.observed_ns, item.attributes) == (START - 9, START + 5, {})
        assert make(LOG_EVENT, time_unix_nano=-1).at_ns == START + 5


class TestFilter:
    @pytest.mark.parametrize("measurement", ["count", "value", "duration_ms"])
    def test_a_measurement_is_no_log_record(self, measurement):
        assert make(measurements={measurement: 1}) is None

    def test_names_are_filtered_by_pattern(self):
        maker = LogMaker(["shop.*", "*.error"])
        names = ["shop.note", "bank.note", "bank.x.error", "Shop.note"]
        assert [name for name in names * 2 if make(name, maker=maker)] == ["shop.note", "bank.x.error"] * 2

    def test_records_are_filtered_by_severity(self):
        maker = LogMaker(minimum=SEVERITIES["warn"])
        said = ["info", "warn", "error"]
        assert [each for each in said if make(maker=maker, severity=each)] == ["warn", "error"]

    def test_ever_new_names_do_not_fill_the_memory(self, monkeypatch):
        monkeypatch.setattr("otpylib_telemetry_otel.log_records.events._MAX_KNOWN", 10)
        maker = LogMaker(["shop.*"])
        for number in range(100):
            assert make(f"shop.n{number}", maker=maker) is not None
        assert len(maker._known) <= 10


# --- the exporter ---------------------------------------------------------------------------------


async def nothing():
    """Nothing to catch up with."""


def backend(memory=None, **settings):
    context = ExportContext(
        "otel_exporter", "telemetry.otel", {} if memory is None else memory, nothing, dict
    )
    return OtelBackend(OtelSettings(**{"endpoint": "http://localhost:4317", **settings}), context)


def collect(exporter, *events):
    raw = [
        (name, measurements, metadata, number, "p")
        for number, (name, measurements, metadata) in enumerate(events)
    ]
    collected = exporter.collect(raw, START)
    return collected, [item for item, _ in collected.items if isinstance(item, LogItem)]


ORDER = {"correlation_id": "order-7"}


class TestExporter:
    def test_what_is_part_of_no_span_becomes_a_log_record(self):
        exporter = backend()
        collected, logs = collect(
            exporter,
            ("shop.order.start", {}, ORDER),
            ("shop.packed", {}, ORDER),
            ("shop.opened", {}, {}),
            ("shop.sold", {"count": 1}, {}),
            ("shop.order.stop", {}, ORDER),
            ("shop.bill.failed", {}, {}),
        )
        assert [item.name for item in logs] == ["shop.opened", "shop.bill.failed"]
        assert [(exporter.lane(item), weight) for item, weight in collected.items] == [
            *(("spans", 3), ("logs", 1), ("logs", 1))
        ]
        assert (collected.exported, collected.events()) == (1, 6)
        assert exporter.stats()["logs"] == {"records": 2}

    @pytest.mark.parametrize(("metrics", "unused"), [(True, 0), (False, 1)])
    def test_a_measurement_becomes_no_log_record_but_a_metric_if_there_are_any(self, metrics, unused):
        exporter = backend(metrics=metrics)
        collected, logs = collect(exporter, ("shop.sold", {"count": 1}, {}))
        assert (logs, collected.exported) == ([], 1)
        assert exporter.stats()["unused"] == unused
        assert exporter.stats().get("metrics", {}).get("series", 0) == 1 - unused

    def test_a_record_of_the_bridge_is_one_also_during_a_span(self):
        collected, logs = collect(
            backend(),
            ("shop.order.start", {}, ORDER),
            (LOG_EVENT, {}, {"message": "packing", **ORDER}),
            ("shop.order.stop", {}, ORDER),
        )
        (order,) = [item for item, _ in collected.items if item not in logs]
        assert [(item.body, item.trace_id, item.span_id) for item in logs] == [
            ("packing", order.trace_id, order.span_id)
        ]
        assert not order.events

    def test_without_logs_everything_is_as_it_was(self):
        collected, logs = collect(
            backend(logs=False),
            ("shop.order.start", {}, ORDER),
            (LOG_EVENT, {}, {"message": "packing", **ORDER}),
            ("shop.opened", {}, {}),
            ("shop.order.stop", {}, ORDER),
        )
        assert (logs, collected.exported) == ([], 1)
        assert [event.name for event in collected.items[0][0].events] == [LOG_EVENT]

    def test_without_traces_what_happens_during_an_operation_is_a_log_record(self):
        exporter = backend(traces=False)
        assert exporter.idle_reason() is None
        collected, logs = collect(
            exporter,
            ("shop.order.start", {}, ORDER),
            ("shop.packed", {}, ORDER),
            ("shop.order.stop", {}, ORDER),
            ("shop.late.start", {}, {}),
        )
        assert [(item.name, item.span_id > 0) for item in logs] == [("shop.packed", True)]
        assert (collected.exported, len(collected.items), exporter.held) == (2, 1, 1)
        collected = exporter.give_up_held(START)
        assert (collected.exported, collected.items) == (1, [])

    def test_what_is_said_twice_is_no_log_record(self):
        same = {"span_id": SPAN, "trace_id": TRACE}
        collected, logs = collect(
            backend(),
            ("shop.order.start", {}, same),
            ("shop.order.stop", {}, same),
            ("shop.order.stop", {}, same),
        )
        assert (logs, collected.exported) == ([], 1)

    def test_an_event_that_cannot_be_read_costs_itself_only(self, monkeypatch):
        right = LogMaker.make

        def broken(self, event, wall_offset_ns, around=None):
            if event[0] == "bad":
                raise SystemExit
            return right(self, event, wall_offset_ns, around)

        monkeypatch.setattr(LogMaker, "make", broken)
        collected, logs = collect(backend(), ("bad", {}, {}), ("good", {}, {}))
        assert ([item.name for item in logs], collected.rejected) == (["good"], 1)

    async def test_filters_change_in_place(self):
        exporter = backend()
        wanted = OtelSettings(endpoint="http://localhost:4317", log_severity="error", log_patterns=["shop.*"])
        assert await exporter.apply(wanted, frozenset({"log_severity", "log_patterns"}))
        _, logs = collect(
            exporter,
            ("shop.a", {}, {}),
            ("shop.b", {}, {"severity": "fatal"}),
            ("c", {}, {"severity": "fatal"}),
        )
        assert [item.name for item in logs] == ["shop.b"]

    @pytest.mark.parametrize("key", ["logs", "logs_endpoint"])
    async def test_anything_else_about_logs_needs_a_new_exporter(self, key):
        assert not await backend().apply(OtelSettings(), frozenset({key}))

    @settings(deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["a.start", "a.stop", "a.error", "b", LOG_EVENT]),
                st.sampled_from([{}, {"count": 1}]),
                st.fixed_dictionaries(
                    {}, optional={"correlation_id": st.sampled_from("xy"), "span_id": st.just(SPAN)}
                ),
            )
        ),
        st.booleans(),
        st.booleans(),
    )
    def test_every_event_is_counted_once(self, events, traces, logs):
        exporter = backend(traces=traces, logs=logs)
        collected, _ = collect(exporter, *events)
        assert collected.events() + exporter.held == len(events)
        assert exporter.give_up_held(START).events() + collected.events() == len(events)
        assert exporter.held == 0


class TestEndpoint:
    @pytest.mark.parametrize(
        ("given", "url"),
        [
            ({"endpoint": "http://c:4318"}, "http://c:4318/v1/logs"),
            ({"endpoint": "http://c:4318/otlp/"}, "http://c:4318/otlp/v1/logs"),
            ({"endpoint": "http://c:4318/v1/traces"}, "http://c:4318/v1/logs"),
            ({"endpoint": SignalUrl("http://c:4318/v1/traces")}, None),
            ({"endpoint": SignalUrl("http://c:4318/custom")}, None),
            ({"endpoint": "http://c:4318", "logs_endpoint": "http://d:4318"}, "http://d:4318/v1/logs"),
            ({"logs_endpoint": SignalUrl("http://d:4318/l")}, "http://d:4318/l"),
            ({}, None),
        ],
    )
    def test_over_http_it_follows_from_the_endpoint(self, given, url):
        assert OtelSettings(protocol="http/protobuf", **given).connection("logs").url == url

    def test_over_grpc_it_is_the_endpoint(self):
        assert OtelSettings(endpoint="c:4317").connection("logs").url == "c:4317"
        assert OtelSettings(endpoint="c:4317", logs_endpoint="d:4317").connection("logs").url == "d:4317"
        assert OtelSettings(endpoint=SignalUrl("http://c:4317")).connection("logs").url is None

    @pytest.mark.parametrize(
        ("environ", "key", "value"),
        [
            (
                {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://d:4318/l"},
                "logs_endpoint",
                SignalUrl("http://d:4318/l"),
            ),
            (
                {
                    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317",
                    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:4317",
                },
                "logs_endpoint",
                "http://c:4317",
            ),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, "logs_endpoint", None),
            ({"OTEL_LOGS_EXPORTER": "none"}, "logs", False),
            ({"OTEL_LOGS_EXPORTER": "otlp"}, "logs", True),
        ],
    )
    def test_the_variables_of_opentelemetry_are_understood(self, environ, key, value):
        environ = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", **environ}
        found = getattr(resolve(OtelSettings, "telemetry.otel", environ=environ).settings, key)
        assert (found, type(found)) == (value, type(value))


OTLP = "OTEL_EXPORTER_OTLP_"
TRACES_HOST = {f"{OTLP}ENDPOINT": "http://c:4317", f"{OTLP}TRACES_HEADERS": "authorization=for-traces"}


def in_force(environ, previous=None, **config):
    return resolve(OtelSettings, "otel", environ=environ, config=config, previous=previous)


class TestOptionsOfEachSignal:
    @pytest.mark.parametrize(
        ("key", "texts", "values"),
        [
            ("protocol", ("http/protobuf", "grpc"), ("http/protobuf", "grpc")),
            ("timeout", ("2", "3"), (2.0, 3.0)),
            ("compression", ("gzip", "none"), ("gzip", "none")),
            ("certificate", ("/t.pem", "/l.pem"), ("/t.pem", "/l.pem")),
            ("insecure", ("true", "false"), (True, False)),
        ],
    )
    def test_a_variable_for_one_signal_is_about_that_one(self, key, texts, values):
        name = key.upper()

        def seen(connection):
            if key == "certificate":
                return connection.files[0]
            return not connection.encrypted if key == "insecure" else getattr(connection, key)

        default = getattr(OtelSettings(), key)

        def both(environ, **config):
            variables = {f"{OTLP}{signal}{name}": text for signal, text in environ.items()}
            # Whether a connection is encrypted is for "insecure" to say where the address has no scheme.
            address = {"endpoint": "c:4317"} if key == "insecure" else {}
            settings = in_force(variables, **address, **config)
            assert settings.problems == ()
            connections = settings.settings.connection("traces"), settings.settings.connection("logs")
            return tuple(seen(one) for one in connections)

        assert both({"TRACES_": texts[0]}) == (values[0], default)
        assert both({"LOGS_": texts[0]}) == (default, values[0])
        assert both({"": texts[0]}) == (values[0], values[0])
        assert both({"": texts[0], "LOGS_": texts[1]}) == values
        assert both({"": texts[1], "TRACES_": texts[0]}) == values
        assert both({"TRACES_": texts[0], "LOGS_": texts[1]}) == values
        everything = {"": texts[0], "TRACES_": texts[0], "LOGS_": texts[1]}
        assert both(everything, **{key: values[0]}) == (values[0], values[0])
        assert both(everything, **{key: values[1], f"logs_{key}": values[0]}) == (values[1], values[0])

    def test_a_pair_of_files_for_one_signal_is_a_pair(self):
        files = {f"{OTLP}TRACES_CLIENT_KEY": "/k", f"{OTLP}TRACES_CLIENT_CERTIFICATE": "/c"}
        found = in_force(files)
        logs = found.settings.connection("logs")
        assert (found.problems, found.settings.client_key) == ((), "/k")
        assert logs.files == (None, None, None)

    @pytest.mark.parametrize(
        "bad", [{"headers": "no table"}, {"logs_headers": "no table"}, {"headers": {"a b": "c"}}]
    )
    def test_a_header_of_the_spans_stays_theirs_when_a_new_value_is_refused(self, bad):
        before = in_force(TRACES_HOST)
        after = in_force(TRACES_HOST, before, **bad)
        again = in_force(TRACES_HOST, after, **bad)
        for found in (before, after, again):
            assert found.settings.connection("traces").headers == {"authorization": "for-traces"}
            assert found.settings.connection("logs").headers == {}

    def test_a_bad_variable_for_logs_does_not_give_them_what_is_for_spans(self):
        found = in_force({**TRACES_HOST, f"{OTLP}LOGS_HEADERS": "hunter2"})
        assert found.settings.connection("logs").headers == {}
        assert len(found.problems) == 1
        assert "hunter2" not in found.problems[0].message

    def test_what_is_for_logs_is_as_secret_as_the_rest(self):
        found = in_force({f"{OTLP}LOGS_HEADERS": "authorization=hunter2"}).settings
        assert found.connection("logs").headers == {"authorization": "hunter2"}
        for shown in (repr(found), str(found), found.model_dump_json(), repr(found.connection("logs"))):
            assert "hunter2" not in shown

    def test_what_came_from_a_placeholder_is_hidden_among_the_options_of_logs_too(self):
        found = in_force({"PLACE": "/hunter2.pem"}, logs_certificate="${PLACE}").settings
        assert found.connection("logs").files[0] == "/hunter2.pem"
        assert "hunter2" not in repr(found) + repr(found.connection("logs"))

    def test_what_is_for_one_signal_survives_pickling(self):
        found = in_force(TRACES_HOST).settings
        again = pickle.loads(pickle.dumps(found))  # noqa: S301  # our own pickle
        assert again == found
        assert again.headers.of_traces

    def test_a_change_of_what_is_for_logs_alone_is_seen(self):
        common = {f"{OTLP}HEADERS": "x=1", f"{OTLP}LOGS_HEADERS": "x=2"}
        changed = changed_keys(in_force(common).settings, in_force(common, headers={"x": "1"}).settings)
        assert changed == {"logs_headers"}

    @pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
    def test_an_address_for_spans_alone_is_none_for_logs(self, protocol):
        spans = {
            f"{OTLP}TRACES_ENDPOINT": "http://t:4317" if protocol == "grpc" else "http://t:4318/v1/traces",
            f"{OTLP}TRACES_HEADERS": "authorization=for-traces",
            f"{OTLP}PROTOCOL": protocol,
        }

        def url(environ, **config):
            return in_force(environ, **config).settings.connection("logs").url

        assert (url(spans), in_force(spans).problems) == (None, ())
        assert url({**spans, f"{OTLP}LOGS_ENDPOINT": "http://l:1"}) is not None
        assert url({**spans, f"{OTLP}ENDPOINT": "http://g:1"}) is not None
        assert url(spans, logs_endpoint="http://l:1") is not None
        assert url(spans, endpoint="http://e:1") is not None

    async def test_with_an_address_for_spans_alone_no_log_record_leaves_the_machine(
        self, grpc_receiver, caplog
    ):
        caplog.set_level(logging.INFO, "otpylib_telemetry")
        environ = {
            f"{OTLP}TRACES_ENDPOINT": grpc_receiver.endpoint,
            f"{OTLP}TRACES_HEADERS": "x-secret=t",
        }
        exporter = OtelBackend(
            in_force(environ).settings, ExportContext("otel_exporter", "telemetry.otel", {}, nothing, dict)
        )
        await exporter.open()
        collected, logs = collect(
            exporter, ("shop.a.start", {}, {}), ("shop.a.stop", {}, {}), ("shop.note", {}, {})
        )
        assert (logs, collected.exported) == ([], 1)
        assert await exporter.export([item for item, _ in collected.items]) is None
        await exporter.close()
        assert [request.signal for request in grpc_receiver.requests] == ["traces"]
        assert caplog.text.count("sends no logs: the endpoint is one for traces alone") == 1

    async def sent(self, grpc_receiver, http_receiver, environ, **config):
        """Send a span to the one and a log record to the other; return their headers."""
        environ = {
            f"{OTLP}TRACES_ENDPOINT": grpc_receiver.endpoint,
            f"{OTLP}TRACES_PROTOCOL": "grpc",
            f"{OTLP}LOGS_ENDPOINT": f"{http_receiver.endpoint}/v1/logs",
            f"{OTLP}LOGS_PROTOCOL": "http/protobuf",
            **{f"{OTLP}{name}": value for name, value in environ.items()},
        }
        found = in_force(environ, **config)
        assert found.problems == ()
        exporter = OtelBackend(
            found.settings, ExportContext("otel_exporter", "telemetry.otel", {}, nothing, dict)
        )
        await exporter.open()
        spans, logs = collect(
            exporter, ("shop.a.start", {}, {}), ("shop.a.stop", {}, {}), ("shop.note", {}, {})
        )
        assert await exporter.export([item for item, _ in spans.items if type(item) is not LogItem]) is None
        assert await exporter.export(logs) is None
        await exporter.close()
        assert [request.signal for request in grpc_receiver.requests] == ["traces"]
        assert [request.signal for request in http_receiver.requests] == ["logs"]
        return tuple(
            {name.lower(): value for name, value in receiver.requests[0].headers.items()}.get("x-secret")
            for receiver in (grpc_receiver, http_receiver)
        )

    @pytest.mark.parametrize(
        ("environ", "config", "seen"),
        [
            ({"TRACES_HEADERS": "x-secret=t"}, {}, ("t", None)),
            ({"LOGS_HEADERS": "x-secret=l"}, {}, (None, "l")),
            ({"HEADERS": "x-secret=g"}, {}, ("g", "g")),
            ({"HEADERS": "x-secret=g", "TRACES_HEADERS": "x-secret=t"}, {}, ("t", "g")),
            ({"TRACES_HEADERS": "x-secret=t", "LOGS_HEADERS": "x-secret=l"}, {}, ("t", "l")),
            (
                {"TRACES_HEADERS": "x-secret=t", "LOGS_HEADERS": "x-secret=l"},
                {"headers": {"x-secret": "c"}},
                ("c", "c"),
            ),
        ],
    )
    async def test_each_host_sees_the_headers_that_are_for_it(
        self, grpc_receiver, http_receiver, environ, config, seen
    ):
        assert await self.sent(grpc_receiver, http_receiver, environ, **config) == seen


class TestWithoutAnybodyToTakeThem:
    async def opened(self, memory=None, **given):
        exporter = backend(memory, **given)
        await exporter.open()
        return exporter

    async def test_an_endpoint_for_traces_alone_gives_no_logs_and_says_so_once(self, caplog):
        caplog.set_level(logging.INFO, "otpylib_telemetry")
        memory = {}
        for _ in range(2):
            exporter = await self.opened(
                memory, protocol="http/protobuf", endpoint=SignalUrl("http://localhost:1/custom")
            )
            collected, logs = collect(exporter, ("shop.note", {}, {}))
            assert (logs, collected.exported) == ([], 1)
            assert "traces alone" in exporter.stats()["logs"]["off"]
            await exporter.close()
        assert caplog.text.count("sends no logs") == 1

    async def test_an_exporter_that_has_none_for_logs_still_sends_spans(self, monkeypatch, caplog):
        monkeypatch.setattr(destinations, "entry_points", lambda group: [])
        caplog.set_level(logging.INFO, "otpylib_telemetry")
        exporter = await self.opened(endpoint=None, exporter="console")
        assert "registers a log exporter named 'console'" in caplog.text
        _, logs = collect(exporter, ("shop.note", {}, {}))
        assert logs == []
        await exporter.close()

    async def test_one_that_cannot_be_built_leaves_the_spans_alone(self, monkeypatch):
        def broken(*arguments):
            raise BackendUnavailableError("it is broken")

        monkeypatch.setattr("otpylib_telemetry_otel.signals.base.build", broken)
        exporter = await self.opened()
        assert exporter.stats()["logs"]["off"] == "it is broken"
        await exporter.close()
        with pytest.raises(BackendUnavailableError, match="it is broken"):
            await self.opened(traces=False)

    async def test_records_made_before_logs_were_switched_off_are_rejected(self):
        exporter = await self.opened(logs=False)
        outcome = await exporter.export([make(), make()])
        assert (outcome.rejected, outcome.message) == (2, "logs are switched off")
        await exporter.close()

    async def test_spans_made_before_traces_were_switched_off_are_rejected(self):
        exporter = await self.opened(traces=False)
        outcome = await exporter.export([open_span()])
        assert (outcome.rejected, outcome.message) == (1, "traces are switched off")
        await exporter.close()


class TestNamedExporters:
    async def test_the_console_shows_log_records(self, monkeypatch):
        shown = io.StringIO()
        real = plugins.load

        def load(group, *rest):
            # It writes to what was the standard output when it was first imported.
            return CONSOLE(shown) if group == "opentelemetry_logs_exporter" else real(group, *rest)

        monkeypatch.setattr(plugins, "load", load)
        exporter = backend(endpoint=None, exporter="console", service_name="shop")
        await exporter.open()
        _, logs = collect(
            exporter, ("shop.note", {}, {"message": "open", "severity": "warn", "trace_id": TRACE, "till": 3})
        )
        assert await exporter.export(logs) is None
        await exporter.close()
        record = json.loads(shown.getvalue())
        assert (record["body"], record["event_name"], record["severity_number"]) == ("open", "shop.note", 13)
        assert record["trace_id"] == f"0x{TRACE}"
        assert record["attributes"]["till"] == 3
        assert record["resource"]["attributes"]["service.name"] == "shop"


@pytest.fixture(params=["grpc", "http/protobuf"])
def receiver(request):
    """Our OTLP server over one of the protocols; `protocol` says which."""
    found = request.getfixturevalue("grpc_receiver" if request.param == "grpc" else "http_receiver")
    found.protocol_name = request.param
    return found


def logs_at(receiver):
    return [
        record
        for request in receiver.requests
        if request.signal == "logs"
        for group in request.message.resource_logs
        for scoped in group.scope_logs
        for record in scoped.log_records
    ]


NO_SUCH_SERVICE = {
    "grpc": GrpcStatus("UNIMPLEMENTED", "unknown service LogsService"),
    "http/protobuf": HttpStatus(404),
}


class TestDelivery:
    async def start(self, receiver, **more):
        await start_otel_exporter(
            {
                "endpoint": receiver.endpoint,
                "protocol": receiver.protocol_name,
                "flush_interval": 0.05,
                "event_patterns": ["shop.*", LOG_EVENT],
                **more,
            }
        )
        await eventually(_is_running)

    async def test_log_records_arrive_beside_the_spans(self, runtime, receiver):
        await self.start(receiver)
        logger = logging.getLogger("shop.stock")
        install(logger)
        try:
            execute("shop.opened", {}, {"message": "we are open"})
            with span("shop.order"):
                logger.error("no tea")
        finally:
            uninstall(logger)
        await eventually(lambda: len(logs_at(receiver)) == 2 and receiver.spans)
        stats = await quiet_stats("otel_exporter")
        assert (stats["accepted"], stats["exported"], stats["rejected"]) == (4, 4, 0)
        opened, record = logs_at(receiver)
        assert (opened.event_name, opened.body.string_value) == ("shop.opened", "we are open")
        assert (record.event_name, record.body.string_value) == ("", "no tea")
        assert record.trace_id.hex() == receiver.spans[0].trace_id
        assert record.span_id.hex() == receiver.spans[0].span_id

    async def test_a_backend_that_takes_no_logs_is_asked_once(self, runtime, receiver, caplog):
        refusal = NO_SUCH_SERVICE[receiver.protocol_name]
        receiver.script(refusal)
        await self.start(receiver, failure_threshold=1)
        execute("shop.opened")
        await eventually(lambda: _rejected(1))
        for _ in range(3):
            execute("shop.opened")
            with span("shop.order"):
                pass
            await eventually(_nothing_waits)
        stats = await quiet_stats("otel_exporter")
        assert (stats["rejected"], stats["exported"], stats["breaker"]) == (1, 9, "closed")
        assert "takes no logs" in stats["logs"]["off"]
        assert [request.signal for request in receiver.requests].count("logs") == 1
        assert len(receiver.spans) == 3
        assert caplog.text.count("takes no logs") == 1

    async def test_it_is_asked_again_after_a_change(self, runtime, receiver):
        receiver.script(NO_SUCH_SERVICE[receiver.protocol_name])
        await self.start(receiver)
        execute("shop.opened")
        await eventually(lambda: _rejected(1))
        await gen_server.cast(
            "otel_exporter", ("config_changed", "telemetry.otel.log_severity", "info", "debug")
        )
        await eventually(lambda: _severity_is("debug"))
        execute("shop.opened")
        await eventually(lambda: len(logs_at(receiver)) == 2)
        stats = await quiet_stats("otel_exporter")
        assert (stats["rejected"], stats["exported"]) == (1, 1)
        assert stats["logs"] == {"records": 2}

    async def test_a_backend_in_trouble_is_tried_again(self, runtime, receiver):
        trouble = GrpcStatus("UNAVAILABLE") if receiver.protocol_name == "grpc" else HttpStatus(503)
        receiver.script(trouble, PartialSuccess(1, "too old"))
        await self.start(receiver)
        execute("shop.opened")
        execute("shop.closed")
        stats = await _quiet_stats_with(2)
        assert (stats["rejected"], stats["exported"]) == (1, 1)
        assert stats["logs"] == {"records": 2}


async def _is_running():
    return (await stats_of("otel_exporter"))["state"] == "running"


async def _rejected(number):
    return (await stats_of("otel_exporter"))["rejected"] == number


async def _nothing_waits():
    stats = await stats_of("otel_exporter")
    return stats["queued"] == stats["in_flight"] == 0


async def _quiet_stats_with(number):
    await eventually(lambda: _accepted(number))
    return await quiet_stats("otel_exporter")


async def _accepted(number):
    return (await stats_of("otel_exporter"))["accepted"] == number


async def _severity_is(severity):
    config = await otp.safe_call("otel_exporter", ("get_config",), timeout=60)
    return severity in str(config)


async def test_a_refusal_is_not_taken_for_trouble(monkeypatch):
    """An error that is no refusal of the signal goes its usual way."""

    class Down:
        def send(self, items):
            raise ExportError("down")

        def close(self):
            pass

    monkeypatch.setattr("otpylib_telemetry_otel.signals.base.build", lambda *_: Down())
    context = ExportContext("otel_exporter", "telemetry.otel", {}, nothing, dict)
    logs = Logs(Exporter(OtelSettings(endpoint="http://localhost:4317"), context), Counter())
    await logs.open({})
    with pytest.raises(ExportError, match="down"):
        await logs.export([make()])
    event = ("shop.note", {}, {}, 5, "p")
    batch = Batch([event], START, others=[(event, None)], unused=1)
    logs.collect(batch)
    assert (list(batch.others), batch.unused, len(batch.collected.items)) == ([], 0, 1)
    await logs.close()
