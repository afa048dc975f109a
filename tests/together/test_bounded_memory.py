"""A backend that takes nothing costs what its queue holds, however long that lasts."""

import asyncio
import gc
import tracemalloc

import pytest

from otpylib_telemetry import execute, start_exporter
from otpylib_telemetry_mock.otlp_receiver import HttpReceiver
from otpylib_telemetry_otel import OtelExporter
from tests.support.chassis import QUICK, books, make_exporter, start, stats, up
from tests.support.waiting import eventually

LIMIT = 1000
FIRST = 10_000
FURTHER = 100_000
CHUNK = 500

#: Bytes by which the two peaks may differ. To keep one event of ten costs several times that.
SLACK = 1_000_000


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


async def peak_while_emitting(count, events_of):
    """The most bytes in use at any moment while so many events are emitted."""
    gc.collect()
    tracemalloc.reset_peak()
    for number in range(0, count, CHUNK):
        for each in range(number, number + CHUNK):
            events_of(each)
        # The exporter has its turn: it collects, tries to send, and drops.
        await asyncio.sleep(0)
    return tracemalloc.get_traced_memory()[1]


def one_event(number):
    execute("shop.sale", {"n": number}, {"basket": f"basket {number} of a shop that sells a lot"})


def one_operation(number):
    """Two events for each even number, none for the others: as many as ``one_event`` makes."""
    if number % 2 == 0:
        metadata = {"span_id": str(number), "basket": f"basket {number} of a shop that sells a lot"}
        execute("shop.sale.start", {"n": number}, metadata)
        execute("shop.sale.stop", {"n": number}, metadata)


async def test_a_backend_that_refuses_everything_costs_no_more_after_ten_times_the_events(runtime, traced):
    module, backend = make_exporter()
    backend.always = OSError("refused")
    await start(module, queue_limit=LIMIT)
    first = await peak_while_emitting(FIRST, one_event)
    await eventually(lambda: stats()["export_failures"] > 0)
    further = await peak_while_emitting(FURTHER, one_event)
    assert further - first < SLACK
    found = books()
    assert found["accepted"] == FIRST + FURTHER
    assert found["queued"] + found["in_flight"] <= LIMIT
    assert sum(found["dropped"].values()) >= FIRST + FURTHER - LIMIT
    assert backend.delivered == []


async def test_a_receiver_that_was_stopped_costs_no_more_after_ten_times_the_spans(runtime, traced):
    name = OtelExporter.registered_name
    with HttpReceiver() as receiver:
        endpoint = receiver.endpoint
        settings = {**QUICK, "endpoint": endpoint, "protocol": "http/protobuf", "queue_limit": LIMIT}
        await start_exporter(OtelExporter, settings)
        await up(name)
        one_operation(0)
        await eventually(lambda: books(name)["exported"] == 2)
    first = await peak_while_emitting(FIRST, one_operation)
    await eventually(lambda: stats(name)["export_failures"] > 0)
    further = await peak_while_emitting(FURTHER, one_operation)
    assert further - first < SLACK
    found = books(name)
    assert found["accepted"] == 2 + FIRST + FURTHER
    assert found["queued"] + found["in_flight"] <= LIMIT
    # An end whose start was dropped makes no span, and counts as handled to the end.
    assert found["exported"] == 2 + stats(name)["unused"]
    assert set(found["dropped"]) == {"queue_full"}
