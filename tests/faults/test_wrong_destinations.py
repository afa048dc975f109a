"""Wrong destinations over real sockets, with 5,000 events waiting: nothing is lost, all arrives once."""

import contextlib
import socket
import threading
from collections import Counter

import pytest
from otpylib import gen_server

from otpylib_telemetry import execute, otp
from otpylib_telemetry_mock.otlp_receiver import (
    Answer,
    Garbage,
    GrpcReceiver,
    GrpcStatus,
    Hang,
    HttpReceiver,
    HttpStatus,
    Ok,
    Reset,
    Tls,
)
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from otpylib_telemetry_otel import start_otel_exporter
from tests.support.certificates import Authority
from tests.support.ledger import quiet_stats, stats_of
from tests.support.waiting import eventually

NAME = "otel_exporter"
EVENTS = 5_000

PAGE = Answer(b"<html><body>Sign in</body></html>", "text/html")

#: By what is wrong: the protocol of the destination, what it answers, and words of the reason.
ANSWERS = {
    "401": (HttpReceiver, HttpStatus(401, message="who are you?"), "key or the login is missing or wrong"),
    "403": (HttpReceiver, HttpStatus(403), "may not send here"),
    "404": (HttpReceiver, HttpStatus(404), "nothing takes this signal at this path"),
    "405": (HttpReceiver, HttpStatus(405), "is no OTLP receiver"),
    "407": (HttpReceiver, HttpStatus(407), "wants a login"),
    "302": (HttpReceiver, HttpStatus(302, headers={"location": "http://elsewhere/"}), "redirected to"),
    "page": (HttpReceiver, PAGE, "a web page answers"),
    "unavailable": (HttpReceiver, HttpStatus(503), "HTTP 503"),
    "UNIMPLEMENTED": (GrpcReceiver, GrpcStatus("UNIMPLEMENTED"), "does not know this signal"),
    "UNAUTHENTICATED": (GrpcReceiver, GrpcStatus("UNAUTHENTICATED"), "key or the login is missing or wrong"),
    "PERMISSION_DENIED": (GrpcReceiver, GrpcStatus("PERMISSION_DENIED"), "may not send here"),
    "silent over http": (HttpReceiver, Hang(), "no answer within"),
    "silent over grpc": (GrpcReceiver, Hang(), "no answer within 2 s"),
    "500": (HttpReceiver, HttpStatus(500), "HTTP 500"),
    "reset over http": (HttpReceiver, Reset(), "fails"),
    "reset over grpc": (GrpcReceiver, Reset(), "fails"),
    "garbage over http": (HttpReceiver, Garbage(), "does not speak HTTP"),
    "garbage over grpc": (GrpcReceiver, Garbage(), "fails"),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def other_authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("other"), "Another Authority")


async def change(**keys):
    for key, value in keys.items():
        await gen_server.cast(NAME, ("config_changed", f"telemetry.otel.{key}", None, value))


async def start(there, **more):
    """Start an exporter with so many events waiting for a flush."""
    await start_otel_exporter(
        {
            "endpoint": there.endpoint,
            "protocol": there.protocol,
            "timeout": 2.0,
            "traces": False,
            "metrics": False,
            "flush_interval": 3600.0,
            "batch_size": 10_000,
            **more,
        }
    )
    await quiet_stats(NAME)
    for number in range(EVENTS):
        execute("shop.sold", {}, {"number": number})


async def degraded(words):
    async def is_so():
        stats = await stats_of(NAME)
        return stats["state"] == "degraded" and words in (stats["reason"] or "")

    await eventually(is_so, timeout=60.0)
    stats = await stats_of(NAME)
    assert (stats["rejected"], stats["dropped"], stats["exported"]) == (0, {}, 0)


async def everything_arrives_once_at(right):
    async def is_running():
        return (await stats_of(NAME))["state"] == "running"

    report = await otp.safe_call(NAME, ("flush", 60.0), timeout=80.0)
    assert (report["left"], report["reason"]) == (0, None)
    await eventually(is_running, timeout=60.0)
    stats = await stats_of(NAME)
    assert (stats["rejected"], stats["dropped"]) == (0, {})
    # What the suite says about itself arrives as well.
    arrived = Counter(log.attributes["number"] for log in right.logs if "number" in log.attributes)
    assert len(arrived) == EVENTS
    assert set(arrived.values()) == {1}


async def switch_there_and_back(right, wrong, words, caplog):
    """Change to a wrong destination, and take the change back; ``wrong`` has the keys of it."""
    await start(right)
    await change(**wrong)
    await degraded(words)
    told = await gen_server.call(NAME, ("get_config",))
    for key, value in wrong.items():
        assert told["wished"][key] == value
        assert told["config"][key] != value
    # The old destination is in use all the while.
    assert len(right.taken) == 0
    await change(**dict.fromkeys(wrong))
    await everything_arrives_once_at(right)
    assert (await gen_server.call(NAME, ("get_config",)))["wished"] == {}
    texts = [record.getMessage() for record in caplog.records if words in record.getMessage()]
    assert len(texts) == 1
    assert "is degraded" in texts[0]
    assert "It goes on as it was, without the new" in texts[0]


@pytest.mark.parametrize("what", ANSWERS)
async def test_a_wrong_answer_keeps_the_old_destination_in_use(runtime, what):
    kind, answer, words = ANSWERS[what]
    with HttpReceiver() as right, kind() as there:
        there.always(answer)
        wrong = {"endpoint": there.endpoint}
        if there.protocol != right.protocol:
            wrong["protocol"] = there.protocol
        await start(right)
        await change(**wrong)
        await degraded(words)
        told = await gen_server.call(NAME, ("get_config",))
        assert {key: told["wished"][key] for key in wrong} == wrong
        assert told["config"]["endpoint"] == right.endpoint
        await change(**dict.fromkeys(wrong))
        await everything_arrives_once_at(right)
        assert (await gen_server.call(NAME, ("get_config",)))["wished"] == {}
        assert not there.taken or what == "page"


@pytest.mark.parametrize("what", [what for what in ANSWERS if what != "500" and ANSWERS[what][2] != "fails"])
async def test_what_waits_from_the_start_for_a_wrong_destination_arrives_at_a_right_one(runtime, what):
    kind, answer, words = ANSWERS[what]
    words = {"unavailable": "HTTP 503"}.get(what, words)
    with kind() as right, kind() as there:
        there.always(answer)
        await start(there)
        await gen_server.cast(NAME, ("flush_batch",))

        async def is_told():
            return words in ((await stats_of(NAME))["reason"] or "")

        await eventually(is_told, timeout=60.0)
        if what not in {"unavailable", "silent over http", "silent over grpc"}:
            await degraded(words)
        await change(endpoint=right.endpoint)
        await everything_arrives_once_at(right)


@pytest.mark.parametrize(
    ("kind", "protocol", "words"),
    [
        (HttpReceiver, "grpc", "does not speak gRPC"),
        (GrpcReceiver, "http/protobuf", "does not speak HTTP"),
    ],
)
async def test_the_port_of_the_other_protocol(runtime, caplog, kind, protocol, words):
    with kind() as right:
        await switch_there_and_back(right, {"protocol": protocol}, words, caplog)


@pytest.mark.parametrize("kind", [GrpcReceiver, HttpReceiver])
async def test_tls_where_there_is_none(runtime, caplog, kind):
    with kind() as right:
        wrong = {"endpoint": right.endpoint.replace("http:", "https:")}
        await switch_there_and_back(right, wrong, "does not speak TLS", caplog)


@pytest.mark.parametrize("kind", [GrpcReceiver, HttpReceiver])
async def test_none_where_there_is_tls(runtime, caplog, authority, kind):
    issued = authority.issue()
    with kind() as right, kind(tls=Tls(issued.certificate, issued.key)) as there:
        wrong = {"endpoint": there.endpoint.replace("https:", "http:")}
        await switch_there_and_back(right, wrong, "speaks TLS only", caplog)


@pytest.mark.parametrize(
    ("kind", "protocol", "words"),
    [
        (HttpReceiver, "grpc", "does not speak gRPC"),
        (GrpcReceiver, "http/protobuf", "does not speak HTTP"),
    ],
)
async def test_the_port_of_the_other_protocol_over_tls(runtime, caplog, authority, kind, protocol, words):
    issued = authority.issue()
    with kind(tls=Tls(issued.certificate, issued.key)) as right:
        await start(right, certificate=str(authority.certificate))
        await change(protocol=protocol)
        await degraded(words)
        await change(protocol=None)
        await everything_arrives_once_at(right)


@pytest.mark.parametrize("kind", [GrpcReceiver, HttpReceiver])
async def test_a_server_of_another_authority(runtime, caplog, authority, other_authority, kind):
    issued = other_authority.issue()
    with (
        kind() as right,
        kind(tls=Tls(issued.certificate, issued.key)) as there,
    ):
        await switch_there_and_back(right, {"endpoint": there.endpoint}, "is not trusted here", caplog)


@pytest.mark.parametrize("kind", [GrpcReceiver, HttpReceiver])
async def test_a_server_that_wants_a_certificate_of_the_client(runtime, authority, kind):
    issued = authority.issue()
    tls = Tls(issued.certificate, issued.key, authority.certificate)
    with kind() as right, kind(tls=tls) as there:
        await start(right, certificate=str(authority.certificate))
        await change(endpoint=there.endpoint)
        await degraded("an empty request")
        await change(endpoint=None)
        await everything_arrives_once_at(right)


@pytest.mark.parametrize("kind", [GrpcReceiver, HttpReceiver])
@pytest.mark.parametrize("where", ["nobody", "unknown"])
async def test_nobody_there(runtime, caplog, kind, where):
    host = f"127.0.0.1:{free_port()}" if where == "nobody" else "no-such-host.invalid:4317"
    words = "Connection refused" if where == "nobody" else "the host cannot be found"
    with kind() as right:
        await switch_there_and_back(right, {"endpoint": f"http://{host}"}, words, caplog)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_host_that_nobody_knows_degrades_from_the_start(runtime, protocol):
    with {"grpc": GrpcReceiver, "http/protobuf": HttpReceiver}[protocol]() as right:
        await start(right, endpoint="http://no-such-host.invalid:4317")
        await gen_server.cast(NAME, ("flush_batch",))
        await degraded("the host cannot be found")
        await change(endpoint=right.endpoint)
        await everything_arrives_once_at(right)


@contextlib.contextmanager
def saying(reply):
    """Listen, and answer each connection with some bytes, or close it at once."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    if reply is not None and connection.recv(65_536):
                        connection.sendall(reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@pytest.mark.parametrize("kind", [GrpcReceiver, HttpReceiver])
@pytest.mark.parametrize("reply", [None, b"220 mail.example ESMTP\r\n", b"\x16\x03\x01\x00\x02\x02\x28"])
async def test_a_server_of_something_else(runtime, caplog, kind, reply):
    with kind() as right, saying(reply) as endpoint:
        await switch_there_and_back(
            right, {"endpoint": endpoint}, "an empty request to the new destination", caplog
        )


#: By what it is: the answer of a server of HTTP that has nothing to do with OTLP, and is well.
ELSEWHERE = {
    "400 in text": ("400 Bad Request", "text/plain", b"a parameter 'json' or 'msgpack' is required"),
    "400 without a word": ("400 Bad Request", "text/plain", b""),
    "408": ("408 Request Timeout", "text/plain", b""),
    "409 in JSON": ("409 Conflict", "application/json", b"{}"),
    "422 in JSON": ("422 Unprocessable Entity", "application/json", b'{"error":"x"}'),
    "200 in text": ("200 OK", "text/plain", b"ok"),
    "200 in JSON": ("200 OK", "application/json", b'{"status":"ok"}'),
    "202 of no type": ("202 Accepted", "", b"queued"),
}


@pytest.mark.parametrize("what", ELSEWHERE)
async def test_an_answer_in_other_words_than_those_of_otlp_proves_nothing(runtime, caplog, what):
    status, kind, body = ELSEWHERE[what]
    named = f"Content-Type: {kind}\r\n" if kind else ""
    head = f"HTTP/1.1 {status}\r\n{named}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with HttpReceiver() as right, saying(head.encode() + body) as endpoint:
        is_success = status.startswith("2")
        words = "which is no OTLP" if is_success else "does not answer as an OTLP receiver does"
        await switch_there_and_back(right, {"endpoint": endpoint}, words, caplog)


@pytest.mark.parametrize("kind", [GrpcReceiver, HttpReceiver])
async def test_a_destination_that_mends_itself_is_switched_to(runtime, kind):
    with kind() as old, kind() as new:
        new.always(HttpStatus(401))
        await start(old)
        await change(endpoint=new.endpoint)
        await degraded("key or the login")
        new.always(Ok())

        async def is_in_force():
            return (await gen_server.call(NAME, ("get_config",)))["wished"] == {}

        await eventually(is_in_force, timeout=60.0)
        await everything_arrives_once_at(new)
        assert not old.logs


async def test_a_later_wish_replaces_one_that_waits(runtime):
    with HttpReceiver() as old, HttpReceiver() as wrong, HttpReceiver() as right:
        wrong.always(Hang())
        await start(old)
        await change(endpoint=wrong.endpoint)
        await eventually(lambda: wrong.requests)
        await change(endpoint=right.endpoint)

        async def is_in_force():
            told = await gen_server.call(NAME, ("get_config",))
            return told["config"]["endpoint"] == right.endpoint

        await eventually(is_in_force, timeout=60.0)
        await everything_arrives_once_at(right)
        assert not old.logs


async def test_what_has_nothing_to_do_with_the_destination_comes_into_force(runtime):
    with HttpReceiver() as old, HttpReceiver() as wrong:
        wrong.always(HttpStatus(403))
        await start(old)
        await change(endpoint=wrong.endpoint, log_severity="debug", flush_interval=77.0)
        await degraded("may not send here")
        told = await gen_server.call(NAME, ("get_config",))
        assert (told["config"]["log_severity"], told["config"]["flush_interval"]) == ("debug", 77.0)
        assert told["config"]["endpoint"] == old.endpoint


async def test_an_end_while_a_destination_is_wrong_takes_no_longer_and_says_what_is_left(runtime, caplog):
    with HttpReceiver() as there:
        there.always(HttpStatus(401))
        await start(there, shutdown_timeout=1.0)
        report = await otp.safe_call(NAME, ("drain", 1.0), timeout=60.0)
        assert report["left"] == EVENTS
        assert "key or the login is missing or wrong" in report["reason"]
    assert f"was drained with {EVENTS} events left: HTTP 401" in caplog.text
