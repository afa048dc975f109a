"""What importing the meters brings along, and that OpenTelemetry takes the provider for one."""

import json
import subprocess
import sys

import pytest
from opentelemetry.metrics import set_meter_provider


@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        ("otpylib_telemetry.aggregation.observers", ["opentelemetry"]),
        ("otpylib_telemetry.meters.views", ["opentelemetry"]),
        ("otpylib_telemetry.meters.streams", ["opentelemetry"]),
        (
            "otpylib_telemetry_prometheus.meter_provider",
            ["opentelemetry.sdk", "aiohttp", "prometheus_client"],
        ),
    ],
)
def test_no_more_is_imported_than_needed(imported, absent):
    program = f"import {imported}, json, sys; print(json.dumps([m for m in {absent!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_it_is_a_meter_provider_to_opentelemetry():
    assert callable(set_meter_provider)
    program = """
from opentelemetry import metrics
early = metrics.get_meter("early").create_counter("n")
from otpylib_telemetry_prometheus.meter_provider import PrometheusMeterProvider
from otpylib_telemetry.aggregation.exporter_stores import store_of
metrics.set_meter_provider(PrometheusMeterProvider())
early.add(2)
metrics.get_meter("late").create_counter("n").add(3)
print(sorted(one.value for metric in store_of("prometheus_exporter").metrics for one in metric.all_series()))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert done.stdout == "[2, 3]\n", done.stderr
