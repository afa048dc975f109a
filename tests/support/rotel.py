"""A real OpenTelemetry collector (rotel), which forwards what it understood to a receiver of ours."""

import functools
import importlib.util
import subprocess
import sysconfig
import urllib.request
from pathlib import Path

import grpc

from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from tests.support import peers
from tests.support.waiting import wait_until

# The program needs the shared library of the Python that its package was built for.
ENVIRONMENT = {"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR") or ""}


def find_agent():
    """The program inside the installed package, or ``peers.missing``."""
    agent, complaint = _look_for_agent()
    return agent or peers.missing(complaint)


@functools.cache
def _look_for_agent():
    spec = importlib.util.find_spec("rotel")
    agent = Path(spec.origin).with_name("rotel-agent") if spec else None
    if agent is None or not agent.exists():
        return None, "the collector is not installed; it comes with the Python package rotel"
    tried = subprocess.run([agent, "start", "--help"], env=ENVIRONMENT, capture_output=True, encoding="utf-8")
    if tried.returncode != 0:
        return None, f"the collector is installed but does not run: {tried.stderr.strip()}"
    return agent, None


class Collector:
    """Export to ``grpc_endpoint`` or ``http_endpoint``; ``receiver`` has what comes out behind it."""

    def __init__(self, directory):
        self.receiver = GrpcReceiver()
        self.log = directory / "collector.log"
        grpc, http = free_port(), free_port()
        self.grpc_endpoint = f"http://127.0.0.1:{grpc}"
        self.http_endpoint = f"http://127.0.0.1:{http}"
        command = [
            *(find_agent(), "start"),
            *("--pid-file", directory / "collector.pid", "--log-file", directory / "agent.log"),
            *("--otlp-grpc-endpoint", f"127.0.0.1:{grpc}", "--otlp-http-endpoint", f"127.0.0.1:{http}"),
            *("--debug-log", "traces", "--debug-log", "metrics", "--debug-log", "logs"),
            *("--exporter", "otlp", "--otlp-exporter-protocol", "grpc"),
            *("--otlp-exporter-endpoint", self.receiver.endpoint, "--batch-timeout", "50ms"),
            *("--otlp-exporter-retry-initial-backoff", "100ms", "--otlp-exporter-retry-max-backoff", "500ms"),
        ]
        self._process = peers.PeerProcess(command, self.log, ENVIRONMENT)

    def start(self):
        """Start, or start again on the same ports; returns when both protocols answer."""
        self._process.start()
        wait_until(self._answers, 60, "the collector answers")

    def _answers(self):
        self._process.must_run()
        # An export of nothing: a message without fields has no bytes.
        headers = {"Content-Type": "application/x-protobuf"}
        request = urllib.request.Request(
            f"{self.http_endpoint}/v1/traces", data=b"", headers=headers, method="POST"
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status == 200 and _accepts(self.grpc_endpoint)

    @property
    def spans(self):
        return self.receiver.spans

    @property
    def pid(self):
        return self._process.process.pid

    def stop(self, kill=False):
        """Stop it (killed, it loses what it has not forwarded yet); ``start`` brings it back."""
        self._process.stop(kill)

    def close(self):
        self._process.stop()
        self.receiver.close()


def _accepts(endpoint):
    with grpc.insecure_channel(endpoint.removeprefix("http://")) as channel:
        grpc.channel_ready_future(channel).result(timeout=5)
    return True
