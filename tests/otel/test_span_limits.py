"""OpenTelemetry's limits hold for every span, ours and the API's, and do not shift with what is odd in it."""

import pytest
from opentelemetry import _logs
from opentelemetry.sdk.trace import SpanLimits as SdkLimits
from opentelemetry.sdk.trace import TracerProvider
from otpylib import gen_server

from otpylib_telemetry import execute, span
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.attributes import MAX_ATTRIBUTES
from otpylib_telemetry_otel.log_records.events import LogMaker
from otpylib_telemetry_otel.service import start_telemetry_service
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_otel.traces import api_spans
from otpylib_telemetry_otel.traces.limits import UNLIMITED, Limit, SpanLimits, limited
from otpylib_telemetry_otel.traces.spans import FinishedSpan, SpanEvent
from tests.support.chassis import up
from tests.support.telemetry_service import EXPORTER, settings, stop
from tests.support.versions import needs_new_sdk
from tests.support.waiting import eventually

ODD = {
    "bytes": b"\xff",
    "map": {"text": "abcdef"},
    "huge": 2**70,
    "surrogate": "abcdef\ud800",
    "list": ["abcdef", 1],
}


def ours(limits, attributes, events=(), links=(), **more):
    made = FinishedSpan(
        "shop.sale", 1, 2, 0, None, 5, {**attributes, **({"links": links} if links else {})}, end_ns=6
    )
    made.events = [SpanEvent(name, 5, dict(said)) for name, said in events]
    for name, value in more.items():
        setattr(made, name, value)
    made.seal(limits)
    return made


def of_the_api(attributes, limits=None):
    """A span of the SDK under limits of its own, as it comes out of the queue."""
    provider = TracerProvider(shutdown_on_exit=False, span_limits=limits or SdkLimits())
    made = provider.get_tracer("shop").start_span("shop.sale", attributes=attributes)
    made.end()
    api_spans._Seen.any = True
    (found,) = api_spans.sort([(api_spans.EVENT, {}, {"span": made}, 0, None)]).spans
    return found


LINKS = [(f"{number:032x}", f"{number:016x}") for number in range(1, 6)]


class TestOurOwnSpans:
    def test_the_first_of_everything_stay_and_the_rest_is_counted(self):
        limits = SpanLimits(Limit(3, 4), Limit(1, 2), Limit(0, None), 2, 1)
        events = [(f"e{number}", {"k": "abc", "more": 1}) for number in range(5)]
        made = ours(limits, {f"k{number}": "abcdef" for number in range(6)}, events, LINKS)
        assert dict(made.attributes) == {"k0": "abcd", "k1": "abcd", "k2": "abcd"}
        assert made.dropped_attributes == 3
        assert [(event.name, dict(event.attributes), event.dropped_attributes) for event in made.events] == [
            ("e0", {"k": "ab"}, 1),
            ("e1", {"k": "ab"}, 1),
        ]
        assert (made.dropped_events, len(made.links), made.dropped_links) == (3, 1, 4)

    def test_how_it_failed_goes_before_what_happened_earlier(self):
        events = [(f"e{number}", {}) for number in range(5)]
        failure = ("shop.sale.error", {"error": "no card"})
        made = ours(SpanLimits(events=2), {}, events, error=True, failure=failure)
        assert [event.name for event in made.events] == ["e0", "exception"]
        assert made.dropped_events == 4
        assert made.message == "no card"

    def test_a_higher_limit_than_ours_counts_as_well(self):
        many = {f"k{number}": "x" * 20_000 for number in range(200)}
        assert len(ours(UNLIMITED, many).attributes) == MAX_ATTRIBUTES
        made = ours(SpanLimits(Limit(300, 30_000)), many)
        assert (len(made.attributes), made.dropped_attributes) == (200, 0)
        assert {len(value) for value in made.attributes.values()} == {20_000}

    @pytest.mark.parametrize("odd", ODD)
    def test_one_odd_value_moves_no_limit(self, odd):
        many = {f"k{number}": "x" * 20_000 for number in range(200)}
        for limits in (UNLIMITED, SpanLimits(Limit(150, 30_000)), SpanLimits(Limit(150, 10))):
            plain, strange = ours(limits, {odd: 1, **many}), ours(limits, {odd: ODD[odd], **many})
            assert list(strange.attributes) == list(plain.attributes)
            assert strange.dropped_attributes == plain.dropped_attributes
            assert strange.attributes["k7"] == plain.attributes["k7"]

    def test_why_it_is_incomplete_is_said_whatever_the_limit(self):
        made = ours(SpanLimits(Limit(0)), {"k": 1}, incomplete="ttl")
        assert dict(made.attributes) == {"otpylib.telemetry.incomplete": "ttl"}


class TestSpansOfTheApi:
    @needs_new_sdk
    def test_without_limits_nothing_is_cut(self):
        made = of_the_api({**ODD, "text": "x" * 20_000})
        made.seal()
        assert made.attributes["text"] == "x" * 20_000
        assert made.attributes["map"] == {"text": "abcdef"}

    @needs_new_sdk
    @pytest.mark.parametrize("odd", ODD)
    def test_what_the_sdk_left_is_left_alone(self, odd):
        limits = SdkLimits(max_span_attributes=300)
        for value in (1, ODD[odd]):
            made = of_the_api({odd: value, **{f"k{number}": "x" * 20_000 for number in range(200)}}, limits)
            made.seal(SpanLimits(Limit(300)))
            assert (len(made.attributes), made.dropped_attributes) == (201, 0)
            assert len(made.attributes["k0"]) == 20_000

    @needs_new_sdk
    def test_limits_that_the_sdk_was_not_told_hold_all_the_same(self):
        made = of_the_api({"first": {"deep": ["abcdef"]}, "second": 2, "third": 3})
        made.seal(SpanLimits(Limit(2, 3)))
        assert dict(made.attributes) == {"first": {"deep": ("abc",)}, "second": 2}
        assert made.dropped_attributes == 1


class TestSettings:
    def test_the_special_ones_go_before_the_general_ones(self):
        general = OtelSettings(attribute_count_limit=7, attribute_value_length_limit=70)
        assert general.span_limits() == SpanLimits(Limit(7, 70), Limit(7, 70), Limit(7, 70))
        assert general.log_limit() == Limit(7, 70)
        special = OtelSettings(
            attribute_count_limit=7,
            span_attribute_count_limit=0,
            span_attribute_value_length_limit=1,
            event_attribute_count_limit=2,
            link_attribute_count_limit=3,
            span_event_count_limit=4,
            span_link_count_limit=5,
            logrecord_attribute_count_limit=6,
            logrecord_attribute_value_length_limit=8,
        )
        assert special.span_limits() == SpanLimits(Limit(0, 1), Limit(2), Limit(3), 4, 5)
        assert special.log_limit() == Limit(6, 8)
        assert OtelSettings().span_limits() == UNLIMITED

    async def test_the_environment_and_a_change_while_it_runs_count(
        self, runtime, http_receiver, monkeypatch
    ):
        monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2")
        monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3")
        monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "1")
        await start_otel_exporter(settings(http_receiver, metrics=False, logs=False))
        await up(EXPORTER)

        async def sent(name):
            with span(name, {"a": "abcdef", "b": "abcdef", "c": "abcdef"}) as made:
                for number in range(3):
                    execute(f"step{number}", {}, {"span_id": made.context.span_id, "k": "abcdef"})
            await eventually(lambda: any(each.name == name for each in http_receiver.spans))
            return next(each for each in http_receiver.spans if each.name == name)

        first = await sent("first")
        assert first.attributes == {"a": "abc", "b": "abc"}
        assert [(event.name, event.attributes["k"]) for event in first.events] == [("step0", "abc")]
        await gen_server.cast(EXPORTER, ("config_changed", "telemetry.otel.span_attribute_count_limit", 2, 1))
        number = 0
        while (await sent(f"later{number}")).attributes != {"a": "abc"}:
            number += 1


def test_what_is_within_its_limit_is_the_same_thing():
    attributes = {"a": 1}
    assert limited(attributes, Limit(1, None)) == (attributes, 0)
    assert limited(attributes, Limit(None, 5)) == (attributes, 0)


class TestLogRecords:
    async def test_the_limits_hold_for_those_of_events_and_for_those_of_the_api(self, runtime, http_receiver):
        # Not in the environment: the SDK's provider would keep them for the tests that follow.
        limits = {"logrecord_attribute_count_limit": 2, "attribute_value_length_limit": 3}
        await start_otel_exporter(settings(http_receiver, metrics=False, **limits))
        await up(EXPORTER)
        await start_telemetry_service()
        execute("shop.note", {}, {"a": "abcdef", "b": ["abcdef"], "c": 3, "message": "as long as it is"})
        _logs.get_logger("shop").emit(
            _logs.LogRecord(body="the api's", attributes={"a": {"k": "abcdef"}, "b": b"abcdef", "c": 3})
        )
        await eventually(lambda: len(http_receiver.logs) == 2)
        await stop()
        by_body = {record.body: dict(record.attributes) for record in http_receiver.logs}
        assert by_body == {
            "as long as it is": {"a": "abc", "b": ["abc"]},
            "the api's": {"a": {"k": "abc"}, "b": b"abcdef"},
        }

    def test_more_than_our_own_limit_may_be_asked_for(self):
        event = ("shop.note", {}, {f"k{number}": "x" * 20_000 for number in range(200)}, 1, None)
        kept = LogMaker(limit=Limit(300, 30_000)).make(event, 0)
        assert (len(kept.attributes), kept.dropped_attributes) == (200, 0)
        assert len(kept.attributes["k0"]) == 20_000
        assert len(LogMaker().make(event, 0).attributes) == MAX_ATTRIBUTES
