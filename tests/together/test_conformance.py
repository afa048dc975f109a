"""The public conformance suite, on our own exporters and on the one of the examples."""

import socket

import pytest

from examples.json_lines import JsonLinesExporter
from otpylib_telemetry.exporter import registry
from otpylib_telemetry_mock.conformance import ExporterConformance
from otpylib_telemetry_mock.exporter import NAME, MockExporterServer
from otpylib_telemetry_mock.otlp_receiver import HttpReceiver
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from otpylib_telemetry_otel.exporter import OtelExporter
from otpylib_telemetry_prometheus.exporter import PrometheusExporter


class TestMock(ExporterConformance):
    exporter = MockExporterServer

    def changed_settings(self, tmp_path):
        return {"max_events": 50_000}

    def received(self):
        _, recording = registry.memory_of(NAME)["recording"]
        return len(recording.get_events_matching("conformance.orders"))


class TestPrometheus(ExporterConformance):
    exporter = PrometheusExporter

    def settings(self, tmp_path):
        return {"port": 0}

    def changed_settings(self, tmp_path):
        return {"path": "/other", "buckets": [0.1, 1.0], "namespace": "shop"}


class TestPrometheusOnATakenPort(TestPrometheus):
    @pytest.fixture(autouse=True)
    def _taken(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = taken.getsockname()[1]
            yield

    def unreachable_settings(self, tmp_path):
        return {"port": self.port}


class TestOtel(ExporterConformance):
    exporter = OtelExporter

    @pytest.fixture(autouse=True)
    def _receiver(self):
        with HttpReceiver() as self.receiver:
            yield

    def settings(self, tmp_path):
        return {"endpoint": self.receiver.endpoint, "protocol": "http/protobuf"}

    def changed_settings(self, tmp_path):
        return {"service_name": "shop", "compression": "gzip", "headers": {"x-tenant": "shop"}}

    def unreachable_settings(self, tmp_path):
        return {"endpoint": f"http://127.0.0.1:{free_port()}"}

    def events(self, count):
        return [("conformance.order.stop", {"duration_ms": 1.5}, {"n": n}) for n in range(count)]

    def received(self):
        return sum(span.name == "conformance.order" for span in self.receiver.spans)


class TestJsonLines(ExporterConformance):
    exporter = JsonLinesExporter

    def settings(self, tmp_path):
        self.path = tmp_path / "events.jsonl"
        return {"path": str(self.path)}

    def changed_settings(self, tmp_path):
        # The second path is another name of the same file.
        (tmp_path / "link.jsonl").symlink_to(self.path)
        return {"path": str(tmp_path / "link.jsonl")}

    def unreachable_settings(self, tmp_path):
        return {"path": str(tmp_path / "missing" / "events.jsonl")}

    def received(self):
        return self.path.read_text(encoding="utf-8").count('["conformance.orders"')
