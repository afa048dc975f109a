"""The way of one event is what docs/architecture.md says: a real event walks it, frame by frame.

Each list of the page is the stack at a place where the event changes hands. Every function of ours between
two such places is a hop. A hop that the page does not name fails here. ``pytest -s`` prints the lists as they
are.
"""

import asyncio
import re
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from otpylib_telemetry import execute
from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver, HttpReceiver
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_prometheus import start_prometheus_exporter
from scripts.lines import folders
from tests.support import chassis
from tests.support.hops import watched
from tests.support.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"

OFFER = "otpylib_telemetry/bus/event_log.py: offer"
SEND_BATCH = "otpylib_telemetry/exporter/sender.py: Sender._send_batch"

#: Where an event changes hands on its way to the wire, and what has to lie on the way there.
TO_THE_WIRE = {
    OFFER: None,
    "otpylib_telemetry_otel/traces/assembly.py: Assembler.collect": None,
    "otpylib_telemetry/primitives/threads.py: start_in_thread": SEND_BATCH,
    "otpylib_telemetry_otel/otlp/spans.py: SpanEncoder.encode_item": None,
}

#: Where it leaves, by protocol.
SENT = {
    "grpc": "otpylib_telemetry_otel/otlp/grpc_transport.py: GrpcTransport.send",
    "http/protobuf": "otpylib_telemetry_otel/otlp/http_transport.py: HttpTransport.send",
}

#: The same for the way to a line of the scraped page.
TO_THE_PAGE = {
    OFFER: None,
    "otpylib_telemetry/aggregation/number_series.py: CounterSeries.add": None,
    "otpylib_telemetry_prometheus/exposition/series_text.py: _Singles.lines": None,
}


def on_the_page(heading):
    """The numbered lists below a heading, one after the other."""
    text = PAGE.read_text(encoding="utf-8").split(f"### {heading}\n", 1)[1]
    text = re.split(r"^##", text, maxsplit=1, flags=re.MULTILINE)[0]
    lists = []
    for number, hop in re.findall(r"^(\d+)\. `([^`]+)`", text, re.MULTILINE):
        if number == "1":
            lists.append([])
        lists[-1].append(hop)
    return lists


def show(ways):
    for way in ways:
        sys.stdout.write("\n" + "".join(f"{number}. `{hop}`\n" for number, hop in enumerate(way or [], 1)))


async def up(name):
    await eventually(lambda: chassis.stats(name)["state"] == "running")


@pytest.mark.parametrize(("protocol", "receiver"), [("grpc", GrpcReceiver), ("http/protobuf", HttpReceiver)])
async def test_from_execute_to_the_wire(runtime, protocol, receiver):
    places = {**TO_THE_WIRE, SENT[protocol]: None}
    with receiver() as there:
        settings = {"endpoint": there.endpoint, "protocol": protocol, "metrics": False}
        await start_otel_exporter({**settings, "flush_interval": 0.1})
        await up("otel_exporter")
        with watched(places) as ways:
            execute("shop.sale.start", {}, {"request_id": "1"})
            execute("shop.sale.stop", {}, {"request_id": "1"})
            await eventually(lambda: there.spans)
    found = [ways.get(place) for place in places]
    show(found)
    *common, over_grpc, over_http = on_the_page("From `execute` to the wire")
    assert found == [*common, over_grpc if protocol == "grpc" else over_http]


async def test_from_execute_to_the_scraped_line(runtime):
    await start_prometheus_exporter({"port": 0})
    await up("prometheus_exporter")
    url = chassis.stats("prometheus_exporter")["url"]
    with watched(TO_THE_PAGE) as ways:
        execute("shop.sale", {"count": 1})
        await eventually(lambda: chassis.stats("prometheus_exporter")["exported"])
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())
    assert b"shop_sale_total 1" in page
    found = [ways.get(place) for place in TO_THE_PAGE]
    show(found)
    assert found == on_the_page("From `execute` to the scraped line")


def test_every_file_that_the_page_names_is_there():
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:otpylib_telemetry|examples|tests|scripts)[\w/]*\.py)", text))
    assert len(named) > 20
    assert [path for path in sorted(named) if not (PAGE.parents[1] / path).is_file()] == []


def test_the_page_tells_how_much_code_there_is():
    text = PAGE.read_text(encoding="utf-8")
    told = int(re.search(r"^\| `all` \| ([\d,]+) \|", text, re.MULTILINE)[1].replace(",", ""))
    assert told == pytest.approx(sum(folders().values(), Counter())["code"], rel=0.02)
