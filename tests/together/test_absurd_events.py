"""What somebody reads who passes absurd things, and what is counted; one row for each thing."""

import asyncio
import logging
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from otpylib_telemetry import attach, execute, start_exporter
from otpylib_telemetry.bus import dispatch
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from otpylib_telemetry_otel import OtelExporter
from otpylib_telemetry_prometheus import PrometheusExporter
from tests.support import absurd
from tests.support.chassis import QUICK, books, runner, stats, up
from tests.support.waiting import eventually

TOO_LONG = "an event name has 1 to 1024 characters"

#: What is said of each of ``absurd.NAMES``, in their order.
SAID_OF_NAMES = [
    "an event name is a string, not NoneType",
    "an event name is a string, not int",
    "an event name is a string, not float",
    "an event name is a string, not bytes",
    "an event name is a string, not tuple",
    "an event name is a string, not list",
    "an event name is a string, not dict",
    "an event name is a string, not object",
    "an event name is a string, not Malicious",
    "an event name is a string, not Malicious",
    TOO_LONG,
    TOO_LONG,
    "an event name is a string, not function",
]

#: What is said of each of ``absurd.DETAILS``, in their order.
SAID_OF_DETAILS = [
    "TypeError: a mapping was expected, not int",
    "TypeError: a mapping was expected, not int",
    "TypeError: a mapping was expected, not str",
    "TypeError: a mapping was expected, not bytes",
    "TypeError: a mapping was expected, not list",
    "TypeError: a mapping was expected, not list",
    "TypeError: a mapping was expected, not set",
    "TypeError: a mapping was expected, not object",
    "RuntimeError: absurd",
    "RuntimeError: absurd",
    "SystemExit: absurd",
    # A class is callable, and gives one of its kind.
    "TypeError: a mapping was expected, not int",
    "TypeError: <lambda>() missing 1 required positional argument: '_needed'",
    "TypeError: a mapping was expected, not int",
    "TypeError: a mapping was expected, not coroutine",
    "ValueError: plain",
    "SystemExit: 3",
    "CancelledError",
    "RecursionError: deep",
    "GeneratorExit",
    "StopIteration: 1",
    "StopAsyncIteration",
    "MemoryError",
    "KeyError: 'k'",
    "BaseException: base",
    "BaseExceptionGroup: group (2 sub-exceptions)",
    # Its text cannot be had.
    "UnprintableError",
]

CYCLE = []
CYCLE.append(CYCLE)

#: Absurd, and still events: what is in them is for the handlers to judge.
ACCEPTED_NAMES = {
    "the longest name there is": "x" * 1024,
    "a name without a letter": "...",
    "a blank": " ",
    "a name of several lines": "shop\nsale",
    "a NUL": "\0",
    "a lone surrogate": "\ud800",
    "the name of a pattern": "shop.*",
    "a string of a class that raises": absurd.MaliciousStr("shop.sale"),
}

ACCEPTED_DETAILS = {
    "nothing": {},
    "not a number": {"count": float("nan")},
    "infinity": {"count": float("inf")},
    "a number of 5000 digits": {"count": 10**5000},
    "a text where a number is expected": {"count": "one"},
    "None": {"count": None},
    "bytes": {"count": b"\xff"},
    "a cycle": {"count": CYCLE},
    "an object that raises": {"count": absurd.Malicious()},
    "a text that raises": {"count": absurd.MaliciousStr("one")},
    "an exception": {"count": absurd.UnprintableError()},
    "a class": {"count": int},
    "a lone surrogate": {"count": "\ud800"},
    "keys that are no text": {None: 1, 5: 2, (): 3, b"": 4},
    "a key without a character": {"": 1},
    "a key of 100 000 characters": {"k" * 100_000: 1},
}

#: Of these a ``count`` that is there, and is nothing that a counter can go up by.
NOT_TO_BE_COUNTED = {
    "not a number",
    "infinity",
    "a number of 5000 digits",
    "a text where a number is expected",
    "bytes",
    "a cycle",
    "an object that raises",
    "a text that raises",
    "an exception",
    "a class",
    "a lone surrogate",
}

NOT_EMITTED = "An event was not emitted: {}. Further ones like it are only counted."


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_every_absurd_thing_has_its_row():
    assert len(SAID_OF_NAMES) == len(absurd.NAMES)
    assert len(SAID_OF_DETAILS) == len(absurd.DETAILS)


@pytest.mark.parametrize("listening", [False, True], ids=["unheard", "heard"])
@pytest.mark.parametrize(
    "which", [pytest.param(index, id=f"{index}-{said}") for index, said in enumerate(SAID_OF_NAMES)]
)
async def test_an_absurd_name_is_refused_with_a_message_and_counted(which, listening, caplog):
    seen = []
    if listening:
        await attach("h", "*", lambda *event: seen.append(event))
    execute(absurd.NAMES[which])
    execute(absurd.NAMES[which])
    assert warnings(caplog) == [NOT_EMITTED.format(SAID_OF_NAMES[which])]
    assert dispatch.refused.count == 2
    assert seen == []


@pytest.mark.parametrize("place", ["measurements", "metadata"])
@pytest.mark.parametrize(
    "which", [pytest.param(index, id=f"{index}-{said}") for index, said in enumerate(SAID_OF_DETAILS)]
)
async def test_absurd_details_are_refused_with_a_message_and_counted(which, place, caplog):
    seen = []
    await attach("h", "*", lambda *event: seen.append(event))
    execute("shop.sale", **{place: absurd.DETAILS[which]})
    execute("shop.sale", **{place: absurd.DETAILS[which]})
    why = f"measurements or metadata of 'shop.sale' cannot be used ({SAID_OF_DETAILS[which]})"
    assert warnings(caplog) == [NOT_EMITTED.format(why)]
    assert dispatch.refused.count == 2
    assert seen == []


@pytest.mark.parametrize("which", range(len(absurd.DETAILS)))
def test_details_that_nobody_listens_to_are_not_even_looked_at(which, caplog):
    execute("shop.sale", absurd.DETAILS[which], absurd.DETAILS[which])
    assert (warnings(caplog), dispatch.refused.count) == ([], 0)


@pytest.mark.parametrize("what", ACCEPTED_NAMES)
async def test_an_odd_name_is_still_a_name(what, caplog):
    seen = []
    await attach("h", "*", lambda name, *_: seen.append(name))
    execute(ACCEPTED_NAMES[what])
    assert (warnings(caplog), dispatch.refused.count) == ([], 0)
    assert [str.__eq__(name, str.__str__(ACCEPTED_NAMES[what])) for name in seen] == [True]


@pytest.mark.parametrize("place", ["measurements", "metadata"])
@pytest.mark.parametrize("what", ACCEPTED_DETAILS)
async def test_what_a_mapping_holds_is_accepted_untouched(what, place, caplog):
    seen = []
    await attach("h", "*", lambda _, measurements, metadata: seen.append((measurements, metadata)))
    execute("shop.sale", **{place: ACCEPTED_DETAILS[what]})
    assert (warnings(caplog), dispatch.refused.count) == ([], 0)
    [arrived] = seen
    assert arrived[place == "metadata"] is ACCEPTED_DETAILS[what]


# --- what exporters make of it: a span and a series, or less; never a failure


def operation(details, place):
    span = {"span_id": "s"} if place == "measurements" else {**details, "span_id": "s"}
    measurements = details if place == "measurements" else {}
    execute("shop.sale.start", measurements, span)
    execute("shop.sale.stop", measurements, span)


@pytest.mark.parametrize("place", ["measurements", "metadata"])
@pytest.mark.parametrize("what", ACCEPTED_DETAILS)
async def test_opentelemetry_gets_a_span_whatever_it_holds(what, place, runtime, http_receiver, caplog):
    name = OtelExporter.registered_name
    settings = {**QUICK, "endpoint": http_receiver.endpoint, "protocol": "http/protobuf"}
    await start_exporter(OtelExporter, settings)
    await up(name)
    operation(ACCEPTED_DETAILS[what], place)
    await eventually(lambda: books(name)["exported"] == 2)
    assert [span.name for span in http_receiver.spans] == ["shop.sale"]
    assert (warnings(caplog), dispatch.refused.count, books(name)["rejected"]) == ([], 0, 0)


@pytest.mark.parametrize("place", ["measurements", "metadata"])
@pytest.mark.parametrize("what", ACCEPTED_DETAILS)
async def test_prometheus_rejects_what_is_no_number_and_can_still_be_scraped(what, place, runtime, caplog):
    name, port = PrometheusExporter.registered_name, free_port()
    await start_exporter(PrometheusExporter, {**QUICK, "port": port})
    await up(name)
    execute("shop.sale", **{place: ACCEPTED_DETAILS[what]})
    execute("shop.control", {"count": 1})
    await eventually(lambda: books(name)["exported"] + books(name)["rejected"] == 2)
    scraped = await asyncio.to_thread(fetch, port)
    assert "\nshop_control_total 1\n" in scraped
    assert list(text_string_to_metric_families(scraped))
    expected = {"unusable": 1} if place == "measurements" and what in NOT_TO_BE_COUNTED else {}
    assert stats(name)["rejected_for"] == expected
    # Told by the statistics and not by the log: one careless place in a program may emit millions of them.
    assert (warnings(caplog), dispatch.refused.count) == ([], 0)


def fetch(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return answer.read().decode()


# --- hosts that nobody has


async def trouble(name):
    """The statistics, as soon as they say that something is wrong."""

    def found():
        books(name)
        return runner(name) is not None and stats(name)["reason"] and stats(name)

    return await eventually(found)


GRPC = "UNAVAILABLE: "
HTTP = "no-such-host.invalid:4317: the host cannot be found: "


@pytest.mark.parametrize(("protocol", "begins"), [("grpc", GRPC), ("http/protobuf", HTTP)])
async def test_a_collector_whose_name_nobody_knows_is_tried_again_and_nothing_is_lost(
    protocol, begins, runtime, caplog
):
    name = OtelExporter.registered_name
    endpoint = "http://no-such-host.invalid:4317"
    await start_exporter(OtelExporter, {**QUICK, "endpoint": endpoint, "protocol": protocol})
    await up(name)
    operation({}, "measurements")
    found = await trouble(name)
    # Nothing can arrive at such a name, whatever the collector does.
    assert found["state"] == "degraded"
    assert found["reason"].startswith(begins)
    assert "no-such-host.invalid:4317" in found["reason"]
    assert (found["queued"] + found["in_flight"], found["exported"], found["dropped"]) == (2, 0, {})
    assert warnings(caplog) == [
        (
            f"{name} cannot export: {found['reason']}. Nothing is lost: up to 100000 events wait, "
            "and it is tried again. Further failures are only counted."
        )
    ]


async def test_an_address_to_serve_on_that_nobody_knows_degrades_the_exporter(runtime, caplog):
    name = PrometheusExporter.registered_name
    await start_exporter(PrometheusExporter, {**QUICK, "host": "no-such-host.invalid"})
    execute("shop.sale", {"count": 1})
    found = await trouble(name)
    assert found["state"] == "degraded"
    begins = "EndpointError: cannot serve metrics on no-such-host.invalid:9464: the host cannot be resolved "
    ends = ". Expected an address or a name of this machine, such as 127.0.0.1, 0.0.0.0 or localhost"
    assert found["reason"].startswith(begins)
    assert found["reason"].endswith(ends)
    assert warnings(caplog)[0] == (
        f"{name} is degraded: {found['reason']}. Events are taken all the same; tried again in 0.5 s."
    )
    await eventually(lambda: books(name)["accepted"] == 1)
    assert (books(name)["rejected"], books(name)["dropped"]) == (0, {})
