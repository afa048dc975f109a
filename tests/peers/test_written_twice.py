"""One program written twice, with this package and with OpenTelemetry's: what a collector has is the same."""

import copy
import logging

import pytest

from otpylib_telemetry import otp
from otpylib_telemetry.instrument.logging import install, uninstall
from otpylib_telemetry_mock.otlp_receiver import HttpReceiver
from otpylib_telemetry_otel import start_otel_exporter
from tests.support.chassis import up
from tests.support.waiting import eventually
from tests.support.written_twice import DIFFERENCES, LOW_BYTE, Sdk, as_told, logger, ours

EXPORTER = "otel_exporter"


@pytest.fixture(params=["receiver", pytest.param("collector", marks=pytest.mark.peer)])
def ways(request):
    """Two places to send to, with what arrives there: our receiver, or a real collector before it."""
    if request.param == "receiver":
        with HttpReceiver() as one, HttpReceiver() as other:
            yield (one.endpoint, one), (other.endpoint, other)
        return
    collector = request.getfixturevalue("collector")
    yield ((collector.http_endpoint, collector.receiver),) * 2


def complete(receiver):
    told = as_told(receiver)
    return (
        told["spans"].keys() == {"shop.order", "shop.pay", "shop.ship"}
        and len(told["logs"]) == 1
        and all(map(told["exemplars"].get, ("shop.sold.total", "shop.bank.duration")))
    )


async def ours_told(endpoint, receiver):
    await start_otel_exporter(
        {
            "endpoint": endpoint,
            "protocol": "http/protobuf",
            "service_name": "shop",
            "flush_interval": 0.05,
            "metrics_interval": 3600,
        }
    )
    await up(EXPORTER)
    install(logger(), level=logging.INFO)
    try:
        await ours()
    finally:
        uninstall(logger())
    assert (await otp.safe_call(EXPORTER, ("flush", 30.0), 35.0))["left"] == 0
    await eventually(lambda: complete(receiver))
    told = as_told(receiver)
    await otp.safe_call(EXPORTER, ("drain", 30.0), 35.0)
    return told


async def theirs_told(endpoint, receiver):
    sdk = Sdk(endpoint)
    sdk.program()
    sdk.shutdown()
    await eventually(lambda: complete(receiver))
    return as_told(receiver)


async def test_what_arrives_is_equal_field_by_field(runtime, ways):
    first, second = ways
    left = await ours_told(*first)
    second[1].clear()
    right = await theirs_told(*second)
    assert without_differences(left) == without_theirs(right)
    # And each of the differences is one: a list that is longer than the truth is no list.
    for name, told in left["spans"].items():
        extra = told["attributes"].keys() - right["spans"][name]["attributes"].keys()
        allowed = DIFFERENCES["attributes of every span"]
        if told["status"][0]:
            allowed = allowed | DIFFERENCES["attributes of a span that failed"]
        # Of a failure without an exception there is no type to tell.
        assert extra == allowed - ({"error_type"} if name == "shop.pay" else set())


def without_differences(told):
    made = copy.deepcopy(told)
    for one in made["spans"].values():
        for key in DIFFERENCES["attributes of every span"] | DIFFERENCES["attributes of a span that failed"]:
            one["attributes"].pop(key, None)
        one["flags"] &= ~LOW_BYTE
        one["links"] = [(trace, span, "", *rest) for trace, span, _, *rest in one["links"]]
    for one in made["logs"]:
        for key in DIFFERENCES["attributes of a record of Python's logging"]:
            del one["attributes"][key]
    return made


def without_theirs(told):
    made = copy.deepcopy(told)
    for one in made["spans"].values():
        code, message = one["status"]
        # The SDK puts the type before the message where a span ends by an exception.
        one["status"] = code, message.removeprefix("ValueError: ")
        for _, attributes in one["events"]:
            for key in DIFFERENCES["attributes of the SDK's exception events"]:
                attributes.pop(key, None)
    return made
