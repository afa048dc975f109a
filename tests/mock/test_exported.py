"""Assertions over what was exported: spans as a tree, their status and attributes, and values of metrics."""

import re
from datetime import datetime

import aiohttp
import pytest

from otpylib_telemetry import execute, otp, span
from otpylib_telemetry.tracing import propagation
from otpylib_telemetry_mock import assert_metric, assert_span, assert_span_tree, deterministic, span_tree
from otpylib_telemetry_mock.otlp_receiver import GrpcStatus, HttpStatus, Ok, OtlpReceiver, Tls
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_prometheus import start_prometheus_exporter
from tests.support.runtime import running_runtime
from tests.support.waiting import eventually

TREE = """\
shop.checkout order=7
  shop.reserve
  shop.pay
shop.checkout ERROR order=8
  shop.reserve
  shop.pay ERROR"""

PROTOCOLS = ("grpc", "http/protobuf")


def checkout(order, price):
    with span("shop.checkout", {"order": order}):
        with span("shop.reserve"):
            execute("shop.sold", {"value": price, "count": 1}, {"country": "de"})
        with span("shop.pay"):
            if price < 0:
                raise ValueError("a price is never negative")


async def flush(name="otel_exporter"):
    report = await otp.safe_call(name, ("flush", 30.0))
    assert report["left"] == 0


async def shop(receiver, protocol="grpc", **more):
    settings = {"endpoint": receiver.endpoint, "protocol": protocol, "flush_interval": 0.05, **more}
    await start_otel_exporter(settings)
    checkout(7, 12.5)
    with pytest.raises(ValueError, match="never negative"):
        checkout(8, -1)
    await flush()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_one_receiver_takes_every_signal_over_either_protocol(otlp_receiver, runtime, protocol):
    execute("shop.opened", {}, {"message": "good morning", "door": "north"})
    await shop(otlp_receiver, protocol)
    execute("shop.closed", {}, {"message": "good night"})
    await flush()
    assert len(otlp_receiver.spans) == 6
    assert [(record.event_name, record.body) for record in otlp_receiver.logs] == [
        ("shop.closed", "good night")
    ]
    assert assert_metric(otlp_receiver, "shop.sold.total", 2, {"country": "de"}) == 2
    assert otlp_receiver.undecodable == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("trouble", [GrpcStatus("UNAVAILABLE"), HttpStatus(503)], ids=["grpc", "http"])
async def test_it_fails_in_the_words_of_the_protocol_that_is_spoken(runtime, protocol, trouble):
    with OtlpReceiver() as receiver:
        receiver.script(trouble, Ok())
        settings = {"endpoint": receiver.endpoint, "protocol": protocol, "metrics": False, "logs": False}
        await start_otel_exporter({**settings, "flush_interval": 0.05})
        checkout(7, 12.5)
        await eventually(lambda: len(receiver.spans) == 3)
        assert len(receiver.requests) == len(receiver.taken) + 1


def test_with_tls_it_asks_for_one_protocol(tmp_path):
    with pytest.raises(ValueError, match="GrpcReceiver or HttpReceiver"):
        OtlpReceiver(tls=Tls(tmp_path / "certificate", tmp_path / "key"))


async def test_spans_are_found_by_what_is_said_of_them(otlp_receiver, runtime):
    await shop(otlp_receiver)
    [failed] = assert_span(otlp_receiver, "shop.pay", status="ERROR", parent="shop.checkout")
    assert failed.status_message == "a price is never negative"
    assert_span(
        otlp_receiver, "shop.checkout", {"order": 7}, status="OK" if ok_is_set(otlp_receiver) else "UNSET"
    )
    assert_span(otlp_receiver, "shop.*", {"order": int}, parent="", count=2)
    assert_span(otlp_receiver, "shop.*", where=lambda each: each.end_ns >= each.start_ns, count=6)
    assert_span(otlp_receiver.spans, "shop.nothing", count=0)


def ok_is_set(receiver):
    return any(each.status == "OK" for each in receiver.spans)


async def test_a_failure_shows_what_differs_and_the_tree(otlp_receiver, runtime):
    await shop(otlp_receiver)
    with pytest.raises(AssertionError) as failure:
        assert_span(otlp_receiver, "shop.checkout", {"order": 9, "coupon": str}, kind="SERVER", parent="web")
    text = str(failure.value)
    assert "expected at least 1 span named 'shop.checkout', found none among 6" in text
    for line in (
        "kind is 'INTERNAL', expected 'SERVER'",
        "parent is '', expected 'web'",
        "attributes['order'] is 7, expected 9",
        "attributes['coupon'] is missing, expected a value of type str",
    ):
        assert line in text
    assert "  shop.checkout" in text
    assert "    shop.reserve" in text
    with pytest.raises(AssertionError, match="none was exported"):
        assert_span([], "shop.checkout")
    with pytest.raises(AssertionError, match=r"exactly 1 span named 'shop\.checkout', found 2 among 6"):
        assert_span(otlp_receiver, "shop.checkout", count=1)


async def test_the_spans_are_a_tree(otlp_receiver, runtime):
    await shop(otlp_receiver)
    tree = span_tree(otlp_receiver, attributes=["order"]).replace(" OK", "")
    assert tree == TREE
    expected = span_tree(otlp_receiver)
    assert_span_tree(
        otlp_receiver, "\n\n" + "\n".join(f"      {line}" for line in expected.splitlines()) + "\n   "
    )
    with pytest.raises(AssertionError, match=r"(?s)others than expected.*exported:\n  shop\.checkout"):
        assert_span_tree(otlp_receiver, "shop.checkout")


async def test_a_deep_and_a_wide_tree_are_drawn(otlp_receiver, runtime):
    settings = {"endpoint": otlp_receiver.endpoint, "metrics": False, "logs": False, "flush_interval": 0.05}
    await start_otel_exporter(settings)

    def nested(depth):
        with span(f"level.{depth}"):
            if depth < 300:
                nested(depth + 1)

    nested(0)
    await flush()
    lines = span_tree(otlp_receiver).replace(" OK", "").splitlines()
    assert lines[-1] == "  " * 300 + "level.300"


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
async def test_the_value_of_a_metric_is_the_newest_or_the_sum(otlp_receiver, runtime, temporality):
    await start_otel_exporter({"endpoint": otlp_receiver.endpoint, "metrics_temporality": temporality})
    for _ in range(3):
        execute("shop.sold", {"count": 2, "duration_ms": 1000})
        await flush()
    assert_metric(otlp_receiver, "shop.sold.total", 6)
    assert_metric(otlp_receiver, "shop.sold.duration", (3, pytest.approx(3)))


async def test_a_series_that_is_not_there_or_not_alone_is_told_with_those_that_are(otlp_receiver, runtime):
    await start_otel_exporter({"endpoint": otlp_receiver.endpoint})
    for country in ("de", "fr"):
        execute("shop.sold", {"count": 1}, {"country": country})
    await flush()
    with pytest.raises(AssertionError, match=r"(?s)found 2.*'country': 'de'.* = 1.*'country': 'fr'"):
        assert_metric(otlp_receiver, "shop.sold.total")
    with pytest.raises(AssertionError, match=r"(?s)with \{'country': 'at'\}, found none.*'country': 'de'"):
        assert_metric(otlp_receiver, "shop.sold.total", labels={"country": "at"})
    with pytest.raises(AssertionError, match="is 1, expected 2"):
        assert_metric(otlp_receiver, "shop.sold.total", 2, {"country": "de"})
    assert assert_metric(otlp_receiver, "shop.sold.total", labels={"country": re.compile("^d")}) == 1


async def test_the_page_of_an_endpoint_is_asked_in_either_format(runtime):
    await start_prometheus_exporter({"port": 0, "flush_interval": 0.05})
    execute("shop.sold", {"count": 3}, {"country": "de"})
    await flush("prometheus_exporter")
    port = (await otp.safe_call("prometheus_exporter", ("get_stats",)))["port"]
    async with aiohttp.ClientSession() as session:
        for accept in ("text/plain", "application/openmetrics-text"):
            async with session.get(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept}) as answer:
                page = await answer.text()
            assert assert_metric(page, "shop_sold_total", 3, {"country": "de"}) == 3
            with pytest.raises(AssertionError, match="found none"):
                assert_metric(page, "shop_nothing_total")


async def test_ids_and_times_are_the_same_in_every_run(background_errors):
    async def once(seed):
        with OtlpReceiver() as receiver, deterministic(seed=seed):
            async with running_runtime():
                await start_otel_exporter({"endpoint": receiver.endpoint, "flush_interval": 0.05})
                checkout(7, 12.5)
                await flush()
            found = sorted(receiver.spans, key=lambda each: each.span_id)
        assert len({each.trace_id for each in found}) == 1
        return found[0].trace_id, [
            (each.name, each.span_id[-8:], each.parent_span_id[-8:], each.start_ns, each.end_ns)
            for each in found
        ]

    trace_id, first = await once("")
    assert trace_id == f"{1:032x}"
    assert [each[1] for each in first] == [f"{number:08x}" for number in (1, 2, 3)]
    assert first[0][3] // 10**9 == 1767225600  # 2026-01-01
    other_trace_id, second = await once("another test")
    assert second == first
    assert other_trace_id != trace_id
    assert other_trace_id[-16:] == trace_id[-16:]


def test_the_fixture_makes_recorded_times_and_ids_repeatable(deterministic_telemetry, telemetry):
    with span("shop.checkout"):
        pass
    [begun, ended] = telemetry.events
    assert begun.metadata["trace_id"].endswith(f"{1:016x}")
    assert begun.metadata["span_id"].endswith(f"{1:08x}")
    assert 1767225600 <= begun.timestamp < ended.timestamp < 1767225601
    assert ended.measurements["duration_ms"] == pytest.approx(1, abs=5)


def test_an_earlier_source_of_ids_comes_back():
    before = propagation.id_source()
    with pytest.raises(RuntimeError), deterministic():
        raise RuntimeError
    assert propagation.id_source() is before
    assert propagation.new_trace_id() > 1000
    with pytest.raises(ValueError, match="time zone"), deterministic(start=datetime(2026, 1, 1)):  # noqa: DTZ001
        pass
