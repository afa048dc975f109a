"""What a page configures beside an application: collectors by variables, Prometheus servers by files."""

import re
import socket
from pathlib import Path

from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from tests.support import peers
from tests.support.prometheus_server import PACKAGE, PrometheusServer
from tests.support.rotel import ENVIRONMENT, find_agent
from tests.support.waiting import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def files_of_the_page():
    """The blocks that have a name, by it."""
    named = r"^```(?:text|toml) (\S+)\n(.*?)^```$"
    found = re.findall(named, PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return dict(found)


class ConfiguredCollector:
    """A collector by the variables that a file sets; it listens on ports of its own instead of those."""

    def __init__(self, directory, name, text, **addresses):
        self.grpc, self.http = (f"127.0.0.1:{free_port()}" for _ in range(2))
        said = dict(line.split("=", 1) for line in text.splitlines())
        changed = {
            "ROTEL_OTLP_GRPC_ENDPOINT": self.grpc,
            "ROTEL_OTLP_HTTP_ENDPOINT": self.http,
            **addresses,
        }
        assert said.keys() >= changed.keys()
        command = [find_agent(), "start", "--pid-file", directory / f"{name}.pid"]
        self._process = peers.PeerProcess(
            command, directory / f"{name}.log", {**ENVIRONMENT, **said, **changed}
        )

    def start(self):
        self._process.start()
        wait_until(self._listens, 60, "the collector listens")

    def _listens(self):
        self._process.must_run()
        return _accepts(self.grpc)

    def stop(self, *, kill=False):
        self._process.stop(kill)


def _accepts(address):
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=5):
        return True


class ConfiguredPrometheus(PrometheusServer):
    """A server by files, the first of which is its configuration."""

    def __init__(self, directory, files, *flags):
        directory.mkdir()
        self.directory, self.port = directory, free_port()
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
        command = [
            peers.find_program("prometheus", PACKAGE),
            f"--config.file={directory / next(iter(files))}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--enable-feature=exemplar-storage",
            "--scrape.discovery-reload-interval=100ms",
            # One that cannot write to its receiver would wait a minute for it when it ends.
            "--storage.remote.flush-deadline=1s",
            "--log.level=warn",
            *flags,
        ]
        self._process = peers.PeerProcess(command, directory / "prometheus.log")
