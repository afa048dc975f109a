"""Every answer that OTLP knows, and every way not to give one: what is tried, waited for, counted and said.

Everything between the queue and the wire is real, and so is the wire; only the clock and the dice of the
waits are the test's own. The dice always give 1, so that a wait is exactly its bound: 0.5, 1, 2 seconds and
so on.
"""

import asyncio
import contextlib
import datetime as dt
import socket
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from otpylib_telemetry import ExporterCircuitBreaker
from otpylib_telemetry.exporter.base import ExportContext
from otpylib_telemetry.exporter.collected import Collected
from otpylib_telemetry.exporter.lease import Lease
from otpylib_telemetry.exporter.sender import Sender
from otpylib_telemetry.exporter.state import ExporterState
from otpylib_telemetry.primitives.threads import run_in_thread_to_end
from otpylib_telemetry_mock.otlp_receiver import (
    Answer,
    Garbage,
    GrpcReceiver,
    GrpcStatus,
    Hang,
    HttpReceiver,
    HttpStatus,
    Ok,
    PartialSuccess,
    Reset,
    Slow,
    Tls,
)
from otpylib_telemetry_otel.backend import OtelBackend
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_otel.traces.spans import FinishedSpan
from tests.support.certificates import Authority
from tests.support.chassis import balance, waiting
from tests.support.waiting import eventually

RECEIVERS = {"grpc": GrpcReceiver, "http/protobuf": HttpReceiver}

#: Noon, for answers that name a time.
NOON = dt.datetime(2030, 1, 1, 12, tzinfo=dt.UTC)
IN_SEVEN_SECONDS = "Tue, 01 Jan 2030 12:00:07 GMT"

SPANS = 4
WEIGHT = 2  # each span is made of a start and an end


def span(number, **attributes):
    made = FinishedSpan("shop.sale", 1, number, 0, None, 5, {"number": number}, end_ns=6, weight=WEIGHT)
    made.seal()
    made.attributes = {**made.attributes, **attributes}
    return made


async def nothing():
    pass


class Rig:
    """a state, a sender and an exporter, with nothing but the wire between them and a receiver."""

    def __init__(self, endpoint, protocol, **settings):
        self.now = 1000.0
        self.waits = []
        given = {"timeout": 5.0, "retry_attempts": 100, "failure_threshold": 100, **settings}
        self.settings = OtelSettings(endpoint=endpoint, protocol=protocol, **given)
        self.state = ExporterState("otel_exporter")
        self.state.breaker = ExporterCircuitBreaker(100, 60.0, clock=lambda: self.now)
        self.state.settings = self.settings
        self.sender = Sender(Lease(self.state), lambda: None, clock=lambda: self.now, dice=lambda: 1.0)
        self.exporter = OtelBackend(
            self.settings, ExportContext("otel_exporter", "telemetry.otel", {}, nothing, dict)
        )

    async def __aenter__(self):
        await self.exporter.open()
        if self.settings.protocol != "grpc":
            self.exporter.traces._destination._transport._clock = NOON.timestamp
        self.sender.use(self.exporter)
        return self

    async def __aexit__(self, *_):
        await self.exporter.close()

    def put(self, *spans):
        for _ in range(WEIGHT * len(spans)):
            self.state.queue.offer("shop.sale", {}, {})
        taken = self.state.queue.take(WEIGHT * len(spans))
        self.state.book(Collected(items=[(each, WEIGHT) for each in spans]), len(taken), 0)

    async def attempt(self):
        """Send one batch, wait for what becomes of it, and put the clock forward to the next attempt."""
        self.sender.send_due(force=True)
        balance(self.state.books())
        await self.sender.wait_for(self.exporter)
        books = self.state.books()
        balance(books)
        at = self.sender.next_at()
        if at is not None and books["exported"] + books["rejected"] == 0:
            self.waits.append(round(at - self.now, 3))
        self.now = max(self.now, at or 0)

    async def to_the_end(self, attempts=8):
        while waiting(self.state) and attempts:
            attempts -= 1
            await self.attempt()

    @property
    def attempts(self):
        return self.sender.batches + self.sender.failures

    @property
    def ledger(self):
        books = self.state.books()
        return {part: books[part] for part in ("exported", "rejected", "queued") if books[part]}


@dataclass
class Row:
    """One line of the table: what the server does, and what follows from it.

    After what it does it takes everything. ``waits`` are those between attempts, in seconds; ``said`` are
    parts of the log's lines, in order, one for each line.
    """

    does: list[Any]
    waits: list[float] = field(default_factory=list)
    exported: int = SPANS * WEIGHT
    rejected: int = 0
    said: tuple[str, ...] = ()
    attempts: int | None = None

    @property
    def tried(self):
        return len(self.waits) + 1 if self.attempts is None else self.attempts


def retried(*does, waits, said):
    """A row of an error that passes: said once, and once more when it is over."""
    times = f"exports again after {len(waits)} failed attempts"
    return Row(list(does), list(waits), said=(f"cannot export: {said}", times))


def rejected(does, said):
    """A row of an error that does not: nothing is tried twice."""
    return Row(
        [does],
        exported=0,
        rejected=SPANS * WEIGHT,
        said=(f"cannot export: {said}",),
    )


GRPC = {
    # OTLP specification, "OTLP/gRPC Response", "Failures".
    **{
        code: retried(GrpcStatus(code, "not today"), waits=[0.5], said=f"{code}: not today. Nothing is lost")
        for code in ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
    },
    **{
        f"{code} with delay": retried(
            GrpcStatus(code, "not today", retry_after=7), waits=[7.5], said=f"{code}: not today. Nothing"
        )
        for code in ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
    },
    **{
        f"{code}{' with delay' if delay else ''}": rejected(
            GrpcStatus(code, "never", retry_after=delay),
            f"{code}: never. The items of this batch (4) are counted as rejected",
        )
        for code in (
            *("UNKNOWN", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS"),
            *("FAILED_PRECONDITION", "INTERNAL"),
        )
        for delay in (None, 7)
    },
    # No batch can cause these.
    **{
        code: retried(GrpcStatus(code, "never"), waits=[0.5], said=f"{code}: never; {words}")
        for code, words in (
            ("PERMISSION_DENIED", "the key or the login is known"),
            ("UNAUTHENTICATED", "the key or the login is missing"),
            ("UNIMPLEMENTED", "what answers speaks gRPC and does not know this signal"),
        )
    },
    "RESOURCE_EXHAUSTED": rejected(
        GrpcStatus("RESOURCE_EXHAUSTED", "quota"), "RESOURCE_EXHAUSTED: quota. The items of this batch"
    ),
    "RESOURCE_EXHAUSTED with delay": retried(
        GrpcStatus("RESOURCE_EXHAUSTED", "quota", retry_after=30),
        waits=[30.5],
        said="RESOURCE_EXHAUSTED: quota. Nothing is lost",
    ),
    "a delay of nothing": retried(
        GrpcStatus("UNAVAILABLE", retry_after=0), waits=[0.5], said="UNAVAILABLE. Nothing"
    ),
    "a delay of a fraction": retried(
        GrpcStatus("UNAVAILABLE", retry_after=0.25), waits=[0.75], said="UNAVAILABLE. Nothing"
    ),
    "failures one after another": retried(
        *[GrpcStatus("UNAVAILABLE")] * 4, waits=[0.5, 1.0, 2.0, 4.0], said="UNAVAILABLE. Nothing"
    ),
    "a delay among failures": Row(
        [GrpcStatus("UNAVAILABLE"), GrpcStatus("UNAVAILABLE", retry_after=9), GrpcStatus("ABORTED")],
        [0.5, 9.5, 2.0],
        said=(
            "cannot export: UNAVAILABLE. Nothing",
            "still does not export, for another reason now: ABORTED. Nothing is lost",
            "exports again after 3 failed attempts",
        ),
    ),
    "larger than the server takes": Row(
        [GrpcStatus("RESOURCE_EXHAUSTED", "Received message larger than max (9 vs. 8)")], [0.0], attempts=3
    ),
    "larger than the server takes, in the words of Rust": Row(
        [GrpcStatus("OUT_OF_RANGE", "Error, decoded message length too large: found 9 bytes")],
        [0.0],
        attempts=3,
    ),
}

HTTP = {
    # OTLP specification, "OTLP/HTTP Response", "Retryable Response Codes".
    **{
        f"{status}": retried(
            HttpStatus(status, message="not today"), waits=[0.5], said=f"HTTP {status} {phrase}: not today"
        )
        for status, phrase in (
            (429, "Too Many Requests"),
            (502, "Bad Gateway"),
            (503, "Service Unavailable"),
            (504, "Gateway Timeout"),
        )
    },
    **{
        f"{status} with delay": retried(HttpStatus(status, 7), waits=[7.5], said=f"HTTP {status}")
        for status in (429, 502, 503, 504)
    },
    **{
        f"{status} until a time": retried(
            HttpStatus(status, IN_SEVEN_SECONDS), waits=[7.5], said=f"HTTP {status}"
        )
        for status in (429, 502, 503, 504)
    },
    **{
        f"{status}{' with delay' if delay else ''}": rejected(
            HttpStatus(status, delay, message="never"), f"HTTP {status}"
        )
        for status in (400, 408, 409, 422, 431, 500, 507)
        for delay in (None, 7)
    },
    # No batch can cause these.
    **{
        f"{status}": retried(HttpStatus(status, message="never"), waits=[0.5], said=f"HTTP {status}")
        for status in (401, 403, 404, 405, 406, 407, 410, 415, 501, 505, 511)
    },
    **{
        f"redirect {status}": retried(
            HttpStatus(status, headers={"Location": "http://elsewhere.invalid/"}),
            waits=[0.5],
            said=f"HTTP {status} {phrase}: redirected to http://elsewhere.invalid/, which is not followed",
        )
        for status, phrase in (
            (301, "Moved Permanently"),
            (302, "Found"),
            (303, "See Other"),
            (307, "Temporary Redirect"),
            (308, "Permanent Redirect"),
        )
    },
    "a delay that makes no sense": retried(HttpStatus(503, "soon"), waits=[0.5], said="HTTP 503"),
    "a time that is past": retried(
        HttpStatus(503, "Tue, 01 Jan 2030 11:00:00 GMT"), waits=[0.5], said="HTTP 503"
    ),
    "a delay of a year": retried(HttpStatus(503, 31_536_000), waits=[3600.5], said="HTTP 503"),
    "failures one after another": retried(
        *[HttpStatus(503)] * 4, waits=[0.5, 1.0, 2.0, 4.0], said="HTTP 503"
    ),
    "413": Row([HttpStatus(413)], [0.0], attempts=3),
    "success in JSON": Row([Answer(b'{"partialSuccess": {}}', "application/json")]),
}

BOTH = {
    "success": Row([Ok()]),
    "partial success": Row(
        [PartialSuccess(1, "too old")],
        exported=3 * WEIGHT,
        rejected=WEIGHT,
        said=("refuses items of batches it takes; 1 are counted as rejected: too old",),
    ),
    "partial success without a word": Row(
        [PartialSuccess(1)], exported=3 * WEIGHT, rejected=WEIGHT, said=("it gave no reason",)
    ),
    "partial success that is none": Row([PartialSuccess(0)]),
    "a warning": Row(
        [PartialSuccess(0, "use the other port")], said=("takes everything, but says: use the other port",)
    ),
    "more rejected than there was": Row(
        [PartialSuccess(99, "?")], exported=0, rejected=SPANS * WEIGHT, said=("4 are counted as rejected: ?",)
    ),
    "success with garbage": Row(
        [Answer(b"\x00\xffwhat?")],
        said=("takes everything, but says: it reports success with an answer that cannot be decoded",),
    ),
    "a slow answer": Row([Slow(0.2)]),
}


def rows(table, *protocols):
    return [
        pytest.param(protocol, row, id=f"{protocol.partition('/')[0]}: {name}")
        for protocol in protocols
        for name, row in table.items()
    ]


@pytest.mark.parametrize(
    ("protocol", "row"),
    [*rows(GRPC, "grpc"), *rows(HTTP, "http/protobuf"), *rows(BOTH, "grpc", "http/protobuf")],
)
async def test_what_the_server_says_decides_what_becomes_of_a_batch(protocol, row, caplog):
    caplog.set_level("INFO", logger="otpylib_telemetry")
    with RECEIVERS[protocol]() as receiver:
        receiver.script(*row.does)
        async with Rig(receiver.endpoint, protocol) as rig:
            rig.put(*(span(number) for number in range(1, SPANS + 1)))
            await rig.to_the_end()
        assert len(receiver.requests) == rig.attempts == row.tried
    assert rig.waits == row.waits
    assert rig.ledger == {
        part: count for part, count in (("exported", row.exported), ("rejected", row.rejected)) if count
    }
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(row.said), lines
    for line, part in zip(lines, row.said, strict=True):
        assert part in line


# --- no answer at all --------------------------------------------------------------------------------------


@pytest.fixture(params=["grpc", "http/protobuf"], ids=["grpc", "http"])
def protocol(request):
    return request.param


@pytest.fixture
def receiver(protocol):
    with RECEIVERS[protocol]() as started:
        yield started


def quick(receiver, **settings):
    """A rig that does not wait long for an answer."""
    return Rig(receiver.endpoint, receiver.protocol, **{"timeout": 0.3, **settings})


async def failed_once(rig, caplog):
    """One attempt was made, failed, and is to be repeated in half a second; what was said about it."""
    caplog.set_level("INFO", logger="otpylib_telemetry")
    rig.put(*(span(number) for number in range(1, SPANS + 1)))
    await rig.attempt()
    assert (rig.attempts, rig.waits, rig.ledger) == (1, [0.5], {"queued": SPANS * WEIGHT})
    (line,) = [record.getMessage() for record in caplog.records]
    assert "Nothing is lost" in line
    return line


async def delivered(rig, receiver, caplog, attempts=2):
    """The next attempt succeeds: everything arrived once, and the log says that it is over."""
    await rig.attempt()
    assert (rig.attempts, rig.ledger) == (attempts, {"exported": SPANS * WEIGHT})
    assert sorted(each.attributes["number"] for each in receiver.spans) == [1, 2, 3, 4]
    last = caplog.records[-1].getMessage()
    assert "exports again after" in last


TIMED_OUT = {"grpc": "DEADLINE_EXCEEDED", "http/protobuf": "no answer within 0.3 s"}


async def test_nobody_listens(protocol, receiver, caplog):
    receiver.stop()
    async with Rig(receiver.endpoint, protocol) as rig:
        line = await failed_once(rig, caplog)
        assert f"127.0.0.1:{receiver.port}: " in line
        assert "connection refused" in line.lower()
        receiver.restart()
        await delivered(rig, receiver, caplog)


async def test_it_hangs_before_anything_is_read(protocol, receiver, caplog):
    receiver.stall()
    async with quick(receiver) as rig:
        assert TIMED_OUT[protocol] in await failed_once(rig, caplog)
        receiver.stop(reset=True)
        receiver.restart()
        await delivered(rig, receiver, caplog)


async def test_it_hangs_in_the_middle_of_a_request(protocol, receiver, caplog):
    receiver.throttle(2000)  # a few hundred bytes, and then nothing for longer than the client waits
    caplog.set_level("INFO", logger="otpylib_telemetry")
    async with quick(receiver) as rig:
        # More than the buffers on the way hold, so that it is the writing that hangs.
        rig.put(*(span(number, text="x" * 900_000) for number in range(1, SPANS + 1)))
        await rig.attempt()
        assert (rig.attempts, rig.waits, rig.ledger) == (1, [0.5], {"queued": SPANS * WEIGHT})
        assert TIMED_OUT[protocol] in caplog.text
        assert receiver.requests == []
        receiver.throttle(None)
        receiver.stop(reset=True)
        receiver.restart()
        rig.exporter.traces._destination._transport._timeout = 5.0
        await delivered(rig, receiver, caplog)


async def test_it_hangs_after_it_has_read_a_request(protocol, receiver, caplog):
    receiver.script(Hang())
    async with quick(receiver) as rig:
        assert TIMED_OUT[protocol] in await failed_once(rig, caplog)
        assert len(receiver.requests) == 1
        await delivered(rig, receiver, caplog)


async def test_it_resets_the_connection(protocol, receiver, caplog):
    receiver.script(Reset())
    async with Rig(receiver.endpoint, protocol) as rig:
        line = await failed_once(rig, caplog)
        # What it is called depends on who noticed first: the reader, or whoever was still writing.
        assert any(word in line.lower() for word in ("reset", "closed", "aborted", "broken pipe"))
        await delivered(rig, receiver, caplog)


async def test_an_answer_that_is_lost_means_that_the_batch_is_sent_twice(protocol, receiver, caplog):
    # OTLP specification, "Duplicate Data": the one alternative would be to lose it.
    receiver.script(Reset(taken=True))
    async with Rig(receiver.endpoint, protocol) as rig:
        await failed_once(rig, caplog)
        await rig.attempt()
        assert rig.ledger == {"exported": SPANS * WEIGHT}
    assert len(receiver.spans) == 2 * SPANS


async def test_it_answers_in_no_known_language(protocol, receiver, caplog):
    receiver.script(Garbage())
    async with Rig(receiver.endpoint, protocol) as rig:
        line = await failed_once(rig, caplog)
        assert "does not speak HTTP" in line if protocol != "grpc" else "UNAVAILABLE" in line
        await delivered(rig, receiver, caplog)


async def test_it_reads_slowly_but_reads(protocol, receiver, caplog):
    receiver.throttle(20_000)
    async with Rig(receiver.endpoint, protocol) as rig:
        rig.put(*(span(number, text="x" * 500) for number in range(1, SPANS + 1)))
        await rig.attempt()
        assert (rig.attempts, rig.ledger) == (1, {"exported": SPANS * WEIGHT})
    assert caplog.records == []


async def test_a_round_of_attempts_is_followed_by_a_rest_and_by_another_round(protocol, receiver):
    refusal = GrpcStatus("UNAVAILABLE") if protocol == "grpc" else HttpStatus(503)
    receiver.script(*[refusal] * 7)
    async with Rig(receiver.endpoint, protocol, retry_attempts=2, flush_interval=60.0) as rig:
        rig.put(*(span(number) for number in range(1, SPANS + 1)))
        await rig.to_the_end()
        assert rig.waits == [0.5, 1.0, 60.0, 0.5, 1.0, 60.0, 0.5]
        assert rig.ledger == {"exported": SPANS * WEIGHT}


async def test_one_item_that_is_too_large_is_rejected_and_the_others_arrive(protocol, receiver, caplog):
    async with Rig(receiver.endpoint, protocol) as rig:
        rig.exporter.traces._destination._transport._max_request = 50_000
        rig.put(span(1), span(2), span(3, text="x" * 60_000), span(4))
        await rig.to_the_end()
        assert rig.ledger == {"exported": 3 * WEIGHT, "rejected": WEIGHT}
        assert rig.state.ledger.rejected_for == {"too_large": WEIGHT}
    assert [each.attributes["number"] for each in receiver.spans] == [1, 2, 4]
    assert "bytes; servers take 50000 as a rule. The items of this batch (1) are counted" in caplog.text


# --- the end of everything, in the middle of an export -----------------------------------------------------


def lingering(rig, seconds):
    """Have the exporter wait so long, when it is cancelled, for what is on the wire."""

    async def export(batch):
        send = rig.exporter.traces._destination.send
        return await run_in_thread_to_end(send, batch, timeout=5.0, linger=seconds)

    rig.exporter.export = export


async def begin(rig, receiver):
    """Send a batch; returns when it is at the server, which does not answer yet."""
    rig.put(*(span(number) for number in range(1, SPANS + 1)))
    rig.sender.send_due(force=True)
    await eventually(lambda: receiver.requests)


async def test_a_batch_that_is_being_taken_when_all_ends_is_neither_lost_nor_doubled(receiver):
    receiver.script(Hang())
    async with Rig(receiver.endpoint, receiver.protocol) as rig:
        lingering(rig, 10.0)
        await begin(rig, receiver)
        abandoning = asyncio.create_task(rig.sender.abandon(10.0))
        await asyncio.sleep(0.01)
        receiver.release()
        await abandoning
        assert rig.ledger == {"exported": SPANS * WEIGHT}
    assert len(receiver.spans) == SPANS


async def test_a_batch_that_is_not_taken_before_the_end_goes_back_to_the_queue(receiver):
    receiver.script(Hang())
    async with Rig(receiver.endpoint, receiver.protocol) as rig:
        lingering(rig, 0.05)
        await begin(rig, receiver)
        await rig.sender.abandon(10.0)
        assert rig.ledger == {"queued": SPANS * WEIGHT}
        assert rig.sender.failures == 0


# --- answers that begin and do not end ---------------------------------------------------------------------


class Drip:
    """A server that answers every request with these pieces, one after another, and a pause between them."""

    def __init__(self, *pieces, pause=0.0, hang=False):
        self.pieces, self.pause, self.hang = pieces, pause, hang
        self.ended = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.listener.close()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.answer, args=(client,), daemon=True).start()

    def answer(self, client):
        with contextlib.suppress(OSError), client, client.makefile("rb") as request:
            length = 0
            while line := request.readline().strip().lower():
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            request.read(length)
            for piece in self.pieces:
                client.sendall(piece)
                self.ended.wait(self.pause)
            if self.hang:
                self.ended.wait(10)


@pytest.mark.parametrize(
    ("drip", "said"),
    [
        (lambda: Drip(hang=True), "no answer within 0.3 s"),
        (lambda: Drip(b"HTTP/1.1 200 OK\r\n", hang=True), "no answer within 0.3 s"),
        (
            lambda: Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", hang=True),
            "no answer within 0.3 s",
        ),
        (
            lambda: Drip(
                b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", *[b"x"] * 900, pause=0.05, hang=True
            ),
            "no answer within 0.3 s",
        ),
        (lambda: Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), "the answer was cut short"),
        (Drip, "the connection was closed without an answer"),
        (lambda: Drip(b"HTTP/1.1 999999 what\r\n\r\n"), "does not speak HTTP"),
    ],
    ids=["nothing", "headers", "body", "drops of it", "cut short", "closed at once", "no status"],
)
async def test_an_answer_that_does_not_end_is_none(drip, said, caplog):
    with drip() as server:
        rig = Rig(server.endpoint, "http/protobuf", timeout=0.3)
        async with rig:
            assert said in await failed_once(rig, caplog)


async def test_an_answer_without_end_is_not_read_to_the_end(caplog):
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n"
    with Drip(head, *[b"x" * 65_536] * 100) as server:
        async with Rig(server.endpoint, "http/protobuf") as rig:
            rig.put(span(1))
            await rig.attempt()
            assert rig.ledger == {"rejected": WEIGHT}
    assert len(caplog.records[0].getMessage()) < 500


# --- certificates ------------------------------------------------------------------------------------------

DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("stranger"), "Somebody Else")


def identity(issued, client_authority=None):
    return Tls(issued.certificate, issued.key, client_authority and client_authority.certificate)


def serve(protocol, tls, port=None):
    return RECEIVERS[protocol](port=port, tls=tls)


async def test_an_encrypted_connection_carries_everything(protocol, authority):
    with serve(protocol, identity(authority.issue())) as receiver:
        async with Rig(receiver.endpoint, protocol, certificate=str(authority.certificate)) as rig:
            rig.put(span(1))
            await rig.attempt()
            assert rig.ledger == {"exported": WEIGHT}


async def test_an_expired_certificate_is_named_with_its_date_until_it_is_replaced(
    protocol, authority, caplog
):
    expired = authority.issue(-9 * DAY, -2 * DAY)
    date = (dt.datetime.now(tz=dt.UTC) - 2 * DAY).strftime("%Y-%m-%d")
    with serve(protocol, identity(expired)) as receiver:
        rig = Rig(receiver.endpoint, protocol, certificate=str(authority.certificate))
        async with rig:
            assert f"the server's certificate expired on {date}" in await failed_once(rig, caplog)
            receiver.stop()
            with serve(protocol, identity(authority.issue()), receiver.port) as renewed:
                await delivered(rig, renewed, caplog)


async def test_a_certificate_of_somebody_else_is_refused_until_our_file_names_him(
    protocol, authority, stranger, tmp_path, caplog
):
    trusted = tmp_path / "ca.crt"
    trusted.write_bytes(authority.certificate.read_bytes())
    with serve(protocol, identity(stranger.issue())) as receiver:
        rig = Rig(receiver.endpoint, protocol, certificate=str(trusted))
        async with rig:
            assert "certificate" in (await failed_once(rig, caplog)).lower()
            trusted.write_bytes(stranger.certificate.read_bytes())
            await delivered(rig, receiver, caplog)
    assert f"{trusted}: read again." in caplog.text


async def test_a_certificate_for_another_host_is_refused(protocol, authority, caplog):
    with serve(protocol, identity(authority.issue(host="127.0.0.2"))) as receiver:
        rig = Rig(receiver.endpoint, protocol, certificate=str(authority.certificate))
        async with rig:
            assert "127.0.0.1" in await failed_once(rig, caplog)


async def test_a_client_certificate_is_replaced_while_it_is_in_use(
    protocol, authority, stranger, tmp_path, caplog
):
    with serve(protocol, identity(authority.issue(), client_authority=authority)) as receiver:
        ours = stranger.issue().copy_to(tmp_path)
        rig = Rig(
            receiver.endpoint,
            protocol,
            certificate=str(authority.certificate),
            client_certificate=str(ours.certificate),
            client_key=str(ours.key),
        )
        async with rig:
            await failed_once(rig, caplog)
            ours.certificate.write_text("half a certifi")  # somebody is just writing it
            await rig.attempt()
            assert rig.waits == [0.5, 1.0]
            assert len([line for line in caplog.messages if "stay in use" in line]) == 1
            authority.issue().copy_to(tmp_path)
            await delivered(rig, receiver, caplog, attempts=3)
            assert len([line for line in caplog.messages if "in order now" in line]) == 1


async def test_a_new_certificate_means_a_new_connection_and_none_is_lost(protocol, authority, tmp_path):
    ours = authority.issue().copy_to(tmp_path)
    with serve(protocol, identity(authority.issue(), client_authority=authority)) as receiver:
        rig = Rig(
            receiver.endpoint,
            protocol,
            certificate=str(authority.certificate),
            client_certificate=str(ours.certificate),
            client_key=str(ours.key),
        )
        async with rig:
            for number in range(1, 7):
                if number == 4:
                    authority.issue().copy_to(tmp_path)
                rig.put(span(number))
                await rig.attempt()
            assert rig.ledger == {"exported": 6 * WEIGHT}
        assert receiver.connections == 2
        assert [each.attributes["number"] for each in receiver.spans] == [1, 2, 3, 4, 5, 6]


async def test_a_server_without_encryption_behind_an_encrypted_endpoint_is_told(protocol, receiver, caplog):
    rig = Rig(f"https://{receiver.host_port}", protocol)
    async with rig:
        assert "does not speak TLS" in await failed_once(rig, caplog)
