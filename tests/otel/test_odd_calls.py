"""Nothing that an application passes to telemetry is raised back, or costs another item."""

import logging
import sys

import pytest
from opentelemetry import _logs, metrics, trace
from opentelemetry.trace import StatusCode

from otpylib_telemetry import execute, otp
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry_mock.otlp_receiver import HttpReceiver
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.service import start_telemetry_service
from otpylib_telemetry_prometheus import start_prometheus_exporter
from otpylib_telemetry_prometheus.exposition.negotiation import CLASSIC
from otpylib_telemetry_prometheus.exposition.writer import Exposition
from tests.support.chassis import up
from tests.support.ledger import quiet_stats
from tests.support.odd_calls import (
    ALL,
    CALLS,
    OwnError,
    UnaskableError,
    awaited,
    hostile,
    no_garbage_collection,
)
from tests.support.telemetry_service import EXPORTER, stop
from tests.support.versions import needs_new_sdk

PROMETHEUS = "prometheus_exporter"


@pytest.fixture
async def receiver(runtime, caplog):
    """An OTLP server, to which the OpenTelemetry API and the bus send; a Prometheus exporter besides."""
    # What the SDK says of an object, it says with the object's own text.
    caplog.set_level(logging.CRITICAL)
    with HttpReceiver() as started:
        await start_otel_exporter(
            {
                "endpoint": started.endpoint,
                "protocol": "http/protobuf",
                "flush_interval": 0.05,
                "metrics_interval": 0.2,
            }
        )
        await start_prometheus_exporter({"port": 0})
        for name in (EXPORTER, PROMETHEUS):
            await up(name)
        await start_telemetry_service({"exporters": [EXPORTER, PROMETHEUS]})
        yield started
        await stop()
        for name in (EXPORTER, PROMETHEUS):
            await otp.safe_call(name, ("drain", 10.0), timeout=20.0)


async def flushed():
    for name in (EXPORTER, PROMETHEUS):
        assert (await otp.safe_call(name, ("flush", 60.0), timeout=70.0))["left"] == 0


async def still_work(receiver):
    with trace.get_tracer("odd").start_as_current_span("the last one"):
        execute("after.all", {"count": 1})
    await flushed()
    assert "the last one" in {each.name for each in receiver.spans}
    for name in (EXPORTER, PROMETHEUS):
        stats = await quiet_stats(name)
        assert (stats["state"], stats["breaker"], stats["dropped"]) == ("running", "closed", {})


@pytest.mark.parametrize("name", CALLS)
async def test_nothing_that_is_passed_is_raised_back_or_costs_another_item(receiver, name):
    with no_garbage_collection():
        for odd in ALL.values():
            CALLS[name](odd)
    await still_work(receiver)


async def test_nothing_that_is_passed_and_awaited_is_raised_back(receiver):
    for odd in ALL.values():
        await awaited(odd)
    await still_work(receiver)


ENDLESS = ["x"]
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        # Older releases of the SDK fail at no list in a list: they leave it out.
        pytest.param(ENDLESS, ["x", "…"], marks=needs_new_sdk, id="endless"),
        pytest.param(hostile(OwnError), "<Hostile that cannot be shown>", id="hostile"),
    ],
)
async def test_what_fails_in_the_sdk_is_mended_and_the_rest_of_the_span_arrives(receiver, odd, told):
    with trace.get_tracer("odd").start_as_current_span("a", attributes={"in": odd, "n": 1}) as made:
        made.set_attributes({"odd": odd, "raises": hostile(SystemExit), "fine": "yes"})
        made.set_attribute("later", 2)
        made.add_event("e", {"odd": odd, "n": 3})
        made.record_exception(UnaskableError(), {"n": 4})
        made.set_status(StatusCode.ERROR, hostile(OwnError))
    await flushed()
    (found,) = [each for each in receiver.spans if each.name == "a"]
    assert found.attributes == {
        "in": told,
        "n": 1,
        "odd": told,
        "raises": "<Hostile that cannot be shown>",
        "fine": "yes",
        "later": 2,
    }
    event, failure = found.events
    assert event.attributes == {"odd": told, "n": 3}
    assert failure.attributes["exception.message"] == "<UnaskableError that cannot be shown>"
    assert failure.attributes["exception.type"].endswith("UnaskableError")
    assert failure.attributes["n"] == 4
    assert (found.status, found.status_message) == ("ERROR", "<Hostile that cannot be shown>")


@pytest.mark.parametrize("way", ["start_as_current_span", "start_span"])
async def test_an_exception_without_a_text_leaves_the_block_as_it_came(receiver, way):
    error = UnaskableError()
    caught = None
    try:
        with getattr(trace.get_tracer("odd"), way)("a"):
            raise error
    except BaseException as found:
        caught = found
    assert caught is error
    await flushed()
    (found,) = [each for each in receiver.spans if each.name == "a"]
    said = "UnaskableError: <UnaskableError that cannot be shown>"
    assert (found.status, found.status_message) == ("ERROR", said)
    assert [event.name for event in found.events] == ["exception"]


#: What is given as the name, the version or the schema URL of a scope, and what is sent.
SCOPE_TEXTS = [
    ((1, 2, 3), "1.2.3"),
    ([1, "0b1"], "1.0b1"),
    (sys.version_info[:2], f"{sys.version_info[0]}.{sys.version_info[1]}"),
    ((1, None, b"x"), "1.None.x"),
    ((), ""),
    (None, ""),
    (b"1.2", "1.2"),
    (3, "3"),
    (1.5, "1.5"),
    ("a\ud800", "a?"),
    (hostile(SystemExit), "<Hostile that cannot be shown>"),
]


@pytest.mark.parametrize(
    ("given", "text"), [pytest.param(*pair, id=str(n)) for n, pair in enumerate(SCOPE_TEXTS)]
)
async def test_a_scope_reads_the_same_whoever_is_asked_for_it_at_both_exits(receiver, given, text):
    for about in (("shop", given, given), (given,)):
        trace.get_tracer_provider().get_tracer(*about).start_span("a").end()
        metrics.get_meter_provider().get_meter(*about).create_counter("c").add(1)
        _logs.get_logger_provider().get_logger(*about).emit(body="x")
    await flushed()
    for groups, scoped in PARTS.values():
        found = {
            (one.scope.name, one.scope.version, one.schema_url)
            for request in receiver.taken
            for group in getattr(request.message, groups, ())
            for one in getattr(group, scoped)
        }
        # The series of other tests live on. A meter without a name is as good as ours.
        assert found >= {("shop", text, text), *([(text, "", "")] if text else [])}
    page = Exposition().text([store_of(PROMETHEUS)], form=CLASSIC).splitlines()
    said = f',otel_scope_schema_url="{text}",otel_scope_version="{text}"' if text else ""
    assert any(line.startswith(f'c_total{{otel_scope_name="shop"{said}}} ') for line in page)


#: The repeated fields of a request and of a resource's part of it, by signal.
PARTS = {
    "traces": ("resource_spans", "scope_spans"),
    "metrics": ("resource_metrics", "scope_metrics"),
    "logs": ("resource_logs", "scope_logs"),
}
