"""Live events: which are shown, what a reader costs, and what it is told."""

import asyncio
import socket

import pytest

from otpylib_telemetry import execute, list_handlers, otp, span
from otpylib_telemetry.admin import events
from otpylib_telemetry.bus import table
from tests.support import admin
from tests.support.admin import Client
from tests.support.chassis import make_exporter, start
from tests.support.waiting import eventually


def taps():
    return [each.handler_id for each in list_handlers() if each.handler_id.startswith(events.HANDLER)]


async def test_a_reader_sees_the_events_of_its_pattern(client):
    async with client.events("?pattern=shop.*") as stream:
        assert await stream.next() == ("open", {"pattern": "shop.*", "queue_limit": events.QUEUE_LIMIT})
        execute("bank.sale", {"n": 0})
        execute("shop.sale", {"n": 1, "price": float("inf")}, {"customer": "café", "items": {1, 2}})
        kind, found = await stream.next()
        assert kind == "message"
        assert found["event_name"] == "shop.sale"
        assert found["measurements"] == {"n": 1, "price": "inf"}
        assert found["metadata"] == {"customer": "café", "items": [1, 2]}
        assert found["time"] > 1_600_000_000


async def test_a_handler_is_there_only_while_somebody_reads(client):
    assert taps() == []
    async with client.events() as stream:
        await stream.next()
        assert len(taps()) == 1
    execute("shop.sale")
    await eventually(lambda: taps() == [] and events.readers() == 0)


async def test_a_reader_that_is_gone_is_noticed_without_any_event(client, monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT", 0.05)
    async with client.events("?pattern=nothing") as stream:
        await stream.next()
        assert await stream.next() == ("heartbeat", None)
        assert len(taps()) == 1
    await eventually(lambda: taps() == [])


async def test_what_is_called_like_a_secret_is_not_shown(client, backend):
    async with client.events() as stream:
        await stream.next()
        metadata = {
            "api_token": "geheim-1",
            "note": "Bearer geheim-2",
            "said": "sesame-sesame",
            "n": [{"pwd": 3}],
        }
        execute("shop.login", {}, metadata)
        execute("shop.end")
        found = [await stream.next(), await stream.next()]
        assert "shop.end" in str(found)
        assert "geheim" not in str(found)
        assert "sesame" not in str(found)
        assert found[0][1]["metadata"]["n"] == [{"pwd": "<redacted>"}]


async def test_what_settings_mark_as_secret_is_found_in_data_and_not_in_what_json_makes_of_it(
    runtime, tmp_path
):
    path = str(tmp_path / "admin.sock")
    await admin.start(socket=path, token='an"odd\\pebble-of-24-chars')
    module, _ = make_exporter()
    await start(module, api_key="1234")
    async with Client(socket=path).events() as stream:
        await stream.next()
        said = 'with an"odd\\pebble-of-24-chars'
        execute("shop.paid", {"duration_ms": 1234.5}, {"note": said, said: 1, "n": [said]})
        _, found = await stream.next()
    # A number is no text: what is shown stays JSON.
    assert found["measurements"] == {"duration_ms": 1234.5}
    assert found["metadata"] == {"note": "with <redacted>", "with <redacted>": 1, "n": ["with <redacted>"]}


async def test_a_step_is_short_however_large_the_events_are(client, monkeypatch):
    sizes = []
    shown = events.Tap.next_step
    monkeypatch.setattr(events.Tap, "next_step", lambda tap: sizes.append(len(each := shown(tap))) or each)
    async with client.events() as stream:
        await stream.next()
        for _ in range(20):
            execute("shop.large", {}, {f"k{n}": "x" * 10_000 for n in range(100)})
        for _ in range(20):
            await stream.next()
    assert sum(sizes) == 20
    assert max(sizes) == 1


class Awkward:
    def __str__(self):
        raise RuntimeError("no")


async def test_odd_values_do_no_harm(client):
    async with client.events() as stream:
        await stream.next()
        loop = {}
        loop["again"] = loop
        execute(
            "shop.odd",
            {"x": Awkward()},
            {"loop": loop, "long": "x" * 100_000, "\ud800": b"\xff\n\n", "n": None},
        )
        _, found = await stream.next()
        assert len(str(found)) < 5_000
        assert "cannot be shown" in str(found["measurements"]["x"])


async def test_a_reader_that_stalls_costs_one_addition_per_event(client, monkeypatch):
    """Nothing is copied, written or waited for: the queue is full, and what comes is counted."""
    monkeypatch.setattr(events, "QUEUE_LIMIT", 20)
    path = client._socket
    with socket.socket(socket.AF_UNIX) as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.setblocking(False)
        await asyncio.get_running_loop().sock_connect(stalled, path)
        request = b"GET /events?pattern=shop.* HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await asyncio.get_running_loop().sock_sendall(stalled, request)
        await eventually(taps)
        [tap] = events._readers
        written = []
        monkeypatch.setattr(events, "shown", lambda value: written.append(1) or value)

        async def fill():
            before = tap.dropped
            for _ in range(100):
                execute("shop.sale", {"n": 1}, {"text": "x" * 10_000})
            await asyncio.sleep(0.05)
            return tap.dropped - before == 100

        await eventually(fill)
        before = len(written)
        copied = []
        metadata = Counting({"text": "x"}, copied)
        for _ in range(50_000):
            tap.take("shop.sale", metadata, metadata)
        await asyncio.sleep(0.1)
        assert copied == []
        assert len(written) == before
        assert len(tap._queue) == 20
        assert tap.dropped >= 50_100
    await eventually(lambda: taps() == [])


class Counting(dict):
    """Notices that it is copied."""

    def __init__(self, content, copied):
        super().__init__(content)
        self._copied = copied

    def keys(self):
        self._copied.append(1)
        return super().keys()

    def __iter__(self):
        self._copied.append(1)
        return super().__iter__()


async def test_one_that_takes_nothing_is_cut_off(client, monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.admin.mount.STALLED", 0.2)
    with socket.socket(socket.AF_UNIX) as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.setblocking(False)
        await asyncio.get_running_loop().sock_connect(stalled, client._socket)
        request = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await asyncio.get_running_loop().sock_sendall(stalled, request)
        await eventually(taps)

        def gone():
            for _ in range(50):
                execute("shop.sale", {"n": 1}, {"text": "x" * 10_000})
            return taps() == []

        await eventually(gone)


async def test_a_reader_is_told_how_many_it_missed(client, monkeypatch):
    monkeypatch.setattr(events, "QUEUE_LIMIT", 5)
    async with client.events() as stream:
        await stream.next()
        for number in range(12):
            execute("shop.sale", {"n": number})
        found = [await stream.next() for _ in range(6)]
        assert [each["measurements"]["n"] for kind, each in found if kind == "message"] == [0, 1, 2, 3, 4]
        assert found[-1] == ("dropped", {"dropped": 7, "dropped_in_all": 7})
        execute("shop.sale", {"n": 12})
        assert (await stream.next())[1]["measurements"] == {"n": 12}


async def test_events_of_one_trace_are_shown_together_or_not_at_all(client):
    async with client.events("?sample=0.5") as stream:
        await stream.next()
        for _ in range(40):
            with span("shop.sale"):
                pass
        execute("shop.over", {}, {"trace_id": "f" * 16 + "0" * 16})
        shown = []
        while True:
            _, found = await stream.next()
            if found["event_name"] == "shop.over":
                break
            shown.append((found["metadata"]["trace_id"], found["event_name"]))
        started = {trace for trace, name in shown if name == "shop.sale.start"}
        ended = {trace for trace, name in shown if name == "shop.sale.success"}
        assert started == ended
        assert 0 < len(started) < 40


async def test_a_tap_tells_of_no_traces(client):
    """What only a tap hears of is nobody's parent."""
    async with client.events() as stream:
        await stream.next()
        route = table.current.table.resolve_operation("shop.sale")
        assert route is not None
        assert not route.traced


@pytest.mark.parametrize("query", ["?sample=0", "?sample=1.5", "?sample=x", "?pattern=", "?patern=x"])
async def test_a_wrong_query_is_refused(client, query):
    answer = await client.get(f"/events{query}")
    assert answer.status == 422
    assert taps() == []


async def test_readers_are_limited(client, monkeypatch):
    monkeypatch.setattr(events, "MOST_READERS", 1)
    async with client.events() as stream:
        await stream.next()
        answer = await client.get("/events")
        assert answer.status == 503
        assert answer.headers["Retry-After"]


async def test_events_of_other_threads_arrive(client):
    async with client.events() as stream:
        await stream.next()
        await asyncio.to_thread(execute, "shop.sale", {"n": 1})
        assert (await stream.next())[1]["event_name"] == "shop.sale"
    assert otp.whereis("telemetry_admin") is not None
