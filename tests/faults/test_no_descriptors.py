"""The application has no file descriptor left while the collector is down: gRPC must not end it."""

import json
import pathlib

import pytest

from otpylib_telemetry.exporter.errors import ExportError
from otpylib_telemetry_otel.otlp import grpc_core
from tests.support import programs

DESCRIPTORS = pathlib.Path("/proc/self/fd")


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="counts descriptors in /proc")
@pytest.mark.parametrize("when", ["from the first connection", "later"])
def test_the_application_goes_on_and_what_waits_arrives_when_there_are_descriptors_again(when):
    command = ["-m", "tests.support.without_descriptors", when]
    ended = programs.run(command, options=("-W", "ignore"), timeout=240)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["dropped"] == {}
    assert "file" in told["reason"]


def test_without_descriptors_no_channel_is_made(monkeypatch):
    made = []
    monkeypatch.setattr(grpc_core.grpc, "insecure_channel", lambda *a: made.append(a))
    monkeypatch.setattr(grpc_core, "descriptors_left", lambda: False)
    with pytest.raises(ExportError, match="no file descriptor is left for a connection"):
        grpc_core.make_channel("localhost:1", None, ())
    assert made == []


def test_the_core_is_begun_once_and_kept(monkeypatch):
    made = []
    monkeypatch.setattr(grpc_core.grpc, "insecure_channel", lambda *a: made.append(a) or object())
    monkeypatch.setattr(grpc_core._Core, "kept", None)
    for _ in range(3):
        grpc_core.make_channel("localhost:1", None, ())
    assert [target for target, *_ in made].count("127.0.0.1:0") == 1
    assert len(made) == 4


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="counts descriptors in /proc")
def test_asking_for_descriptors_leaves_none_open():
    before = len([*DESCRIPTORS.iterdir()])
    assert grpc_core.descriptors_left()
    assert len([*DESCRIPTORS.iterdir()]) == before
