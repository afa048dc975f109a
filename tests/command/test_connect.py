"""``otpylib-telemetry check --connect``: one line for each destination and each port."""

import socket

import pytest

from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver, HttpReceiver, HttpStatus, Tls
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from tests.command.running import check, command
from tests.support.certificates import Authority

pytestmark = pytest.mark.process


def outcomes(found):
    return [(each["section"], each["what"], each["message"]) for each in found["connections"]]


def test_an_empty_export_goes_to_every_destination(tmp_path):
    with GrpcReceiver() as grpc, HttpReceiver() as http:
        text = (
            f'[telemetry.otel]\nendpoint = "{grpc.endpoint}"\nmetrics = false\n'
            f'logs_endpoint = "{http.endpoint}"\nlogs_protocol = "http/protobuf"\n'
        )
        status, found = check(text, "--connect", cwd=tmp_path)
        assert (status, found["good"], found["findings"]) == (0, True, [])
        assert outcomes(found) == [
            ("telemetry.otel", f"traces over grpc to {grpc.endpoint}", None),
            ("telemetry.otel", f"logs over http/protobuf to {http.endpoint}/v1/logs", None),
        ]
        assert [request.signal for request in (*grpc.requests, *http.requests)] == ["traces", "logs"]
        assert grpc.spans == []
        assert http.logs == []


def test_without_connect_nothing_is_sent(tmp_path):
    with GrpcReceiver() as receiver:
        status, found = check(f'[telemetry.otel]\nendpoint = "{receiver.endpoint}"\n', cwd=tmp_path)
        assert (status, found["connections"]) == (0, [])
        assert receiver.requests == []


def test_each_failure_is_one_line_that_says_why(tmp_path):
    authority = Authority(tmp_path)
    issued = authority.issue()
    with HttpReceiver() as refusing, HttpReceiver(tls=Tls(issued.certificate, issued.key)) as encrypted:
        refusing.always(HttpStatus(401))
        names = {
            "refused": f"http://127.0.0.1:{free_port()}",
            "unauthorized": refusing.endpoint,
            "untrusted": encrypted.endpoint,
        }
        text = "".join(
            f'[telemetry.{name}]\nkind = "otel"\nendpoint = "{endpoint}"\nprotocol = "http/protobuf"\n'
            "logs = false\nmetrics = false\n"
            for name, endpoint in names.items()
        )
        text += (
            f'[telemetry.trusted]\nkind = "otel"\nendpoint = "{encrypted.endpoint}"\n'
            f'protocol = "http/protobuf"\ncertificate = "{authority.certificate}"\n'
            "logs = false\nmetrics = false\n"
        )
        (tmp_path / "config.toml").write_text(text)
        done = command("check", "config.toml", "--connect", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    refused, unauthorized, untrusted, trusted, summary = done.stdout.splitlines()
    assert refused.startswith("telemetry.refused, traces over http/protobuf to http://127.0.0.1:")
    assert refused.endswith("Connection refused")
    assert ": failed: HTTP 401" in unauthorized
    assert ": failed: " in untrusted
    assert "the server's certificate is not accepted" in untrusted
    assert trusted.endswith(": ok")
    assert summary.startswith("config.toml: 0 errors, 0 warnings, 1 of 4 connections good; ")


def test_a_port_for_scrapes_is_had_or_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = (
            f"[telemetry.prometheus]\nport = {port}\n"
            '[telemetry.second]\nkind = "prometheus"\nport = 0\n'
            '[telemetry.third]\nkind = "prometheus"\nserve = false\n'
            '[telemetry.fourth]\nkind = "prometheus"\nport = 0\nhost = "192.0.2.1"\n'
        )
        status, found = check(text, "--connect", cwd=tmp_path)
    assert status == 1
    taken_port, free, elsewhere = outcomes(found)
    assert taken_port[1] == f"the port of 127.0.0.1:{port}"
    assert taken_port[2].startswith(f"cannot serve metrics on 127.0.0.1:{port}: the port is taken")
    assert free == ("telemetry.second", "the port of 127.0.0.1:0", None)
    assert "the host is not an address of this machine" in elsewhere[2]
