"""What a dry run says of a new destination is what the change itself then comes to."""

import contextlib

import pytest
from otpylib import gen_server

from otpylib_telemetry import otp
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
)
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.otlp.services import LOGS, METRICS, TRACES
from tests.otel.test_proof import NO_PROOFS, PROOFS, answering, serving, shown, taking
from tests.support.ledger import stats_of
from tests.support.waiting import eventually

NAME = "otel_exporter"
#: Only who is silent is waited for so long.
START = {"protocol": "http/protobuf", "timeout": 10.0, "flush_interval": 3600.0, "compression": "none"}
PAGE = Answer(b"<html><body>Sign in</body></html>", "text/html")

#: By name, what a receiver answers, and over which protocol it is asked.
ANSWERS = {
    "ok over http": (HttpReceiver, Ok()),
    "ok over grpc": (GrpcReceiver, Ok()),
    **{
        str(status): (HttpReceiver, HttpStatus(status)) for status in (400, 401, 403, 404, 405, 407, 500, 503)
    },
    "302": (HttpReceiver, HttpStatus(302, headers={"location": "http://elsewhere/"})),
    "page": (HttpReceiver, PAGE),
    **{
        code: (GrpcReceiver, GrpcStatus(code))
        for code in ("UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT", "INTERNAL")
    },
    "silent over http": (HttpReceiver, Hang()),
    "silent over grpc": (GrpcReceiver, Hang()),
    "reset over http": (HttpReceiver, Reset()),
    "garbage over grpc": (GrpcReceiver, Garbage()),
}


async def ask(*message):
    return await otp.safe_call(NAME, message, timeout=60.0)


async def same(changes, *, words=True):
    """Try changes, and make them; returns whether they are in force, which both say in the same words."""
    tried = await ask("try_config", changes)
    assert tried["problems"] == []
    good = tried["probe"] is None or tried["probe"]["ok"]
    before = (await stats_of(NAME))["state"]
    await ask("apply_config", changes, {"by": "ada"})

    async def decided():
        outcome = (await ask("get_history"))[-1]["outcome"]
        return outcome == "applied" or (await stats_of(NAME))["state"] == "degraded"

    await eventually(decided)
    outcome = (await ask("get_history"))[-1]["outcome"]
    assert outcome == ("applied" if good else "pending"), (tried, before, await stats_of(NAME))
    if not good and words:
        reason = (await stats_of(NAME))["reason"].removeprefix("BackendUnavailableError: ")
        assert reason in tried["probe"]["reason"]
    return good


async def start(**settings):
    await start_otel_exporter({**START, **settings})

    async def is_up():
        return (await stats_of(NAME))["state"] not in {"starting", "degraded"}

    await eventually(is_up)


@pytest.mark.parametrize("was", ["running", "off", "idle"])
@pytest.mark.parametrize("what", ANSWERS)
async def test_of_every_destination(runtime, what, was):
    kind, answer = ANSWERS[what]
    with HttpReceiver() as right, kind() as there:
        there.always(answer)
        endpoint = {} if was == "idle" else {"endpoint": right.endpoint}
        patience = {"timeout": 0.5} if what.startswith("silent") else {}
        await start(**endpoint, **patience, enabled=was != "off")
        changes = {"endpoint": there.endpoint, "protocol": there.protocol, "enabled": True}
        # Of a broken connection gRPC says now this, now that.
        good = await same(changes, words=what != "garbage over grpc")
        assert good == (what.startswith("ok") or what in {"400", "INVALID_ARGUMENT"})
        assert not there.taken or good or what in {"400", "page"}


@pytest.mark.parametrize("answer", [*PROOFS[::4], *NO_PROOFS[::4]], ids=shown)
async def test_of_odd_answers(runtime, answer):
    with HttpReceiver() as right, answering(lambda *_: answer) as there:
        await start(endpoint=right.endpoint, logs=False, metrics=False)
        assert await same({"endpoint": there}) == (answer in PROOFS)


#: What the receivers before and after the change take.
FEWER = [
    (("traces", "logs", "metrics"), ("traces",)),
    (("traces", "logs", "metrics"), ("traces", "logs")),
    (("traces", "logs", "metrics"), ("logs", "metrics")),
    (("traces",), ("traces",)),
    (("traces",), ("traces", "logs", "metrics")),
    (("traces",), ("logs",)),
    (("traces",), ()),
    (("logs",), ("logs",)),
]


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize(("before", "after"), FEWER)
async def test_of_receivers_of_fewer_signals(runtime, before, after, protocol):
    services = {"traces": TRACES, "logs": LOGS, "metrics": METRICS}

    def receiver(signals):
        if protocol == "grpc":
            return serving(*(services[signal] for signal in signals))
        return answering(taking(*signals))

    with receiver(before) as old, receiver(after) as new:
        await start(endpoint=old, protocol=protocol)
        good = await same({"endpoint": new})
        assert good == (set(after) >= set(before))


async def test_of_what_no_destination_differs_by_nothing_is_tried(runtime):
    with HttpReceiver() as right:
        await start(endpoint=right.endpoint)
        right.always(HttpStatus(503))
        for changes in ({"timeout": 0.7}, {"service_name": "other"}, {"sampling_rate": 0.5}):
            assert await same(changes)
            assert (await ask("try_config", {"resource": {"a": "b"}}))["probe"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "http://127.0.0.1:{port}"},
        {"endpoint": "https://127.0.0.1:{right}"},
        {"endpoint": "http://no-such-host.invalid:4318"},
        {"protocol": "grpc"},
        {"headers": {"authorization": "another"}},
        {"logs_endpoint": "http://127.0.0.1:{port}/v1/logs"},
        {"certificate": "/no/such/file.pem", "endpoint": "https://127.0.0.1:{right}"},
        {"logs": False},
        {"metrics": False, "endpoint": "http://127.0.0.1:{port}"},
        {"exporter": "console"},
        {"exporter": "no_such_exporter"},
        {"sampler": "no_such_sampler"},
        {"id_generator": "no_such_generator"},
        {"resource_detectors": ["no_such_detector"]},
        {"certificate": "/no/such/file.pem"},
        {"logs_certificate": "/no/such/file.pem", "logs_endpoint": "https://127.0.0.1:{right}/v1/logs"},
    ],
    ids=repr,
)
async def test_of_what_else_may_change(runtime, changes):
    with HttpReceiver() as right:
        await start(endpoint=right.endpoint)
        ports = {"port": free_port(), "right": right.endpoint.rpartition(":")[2]}
        with contextlib.suppress(AttributeError):
            changes = {
                key: value.format_map(ports) if isinstance(value, str) else value
                for key, value in changes.items()
            }
        await same(changes)
        await gen_server.cast(NAME, ("flush_batch",))
