"""Fixtures of the tests of spans."""

import pytest

from otpylib_telemetry import current_span
from otpylib_telemetry.bus import table
from tests.tracing.span_forms import Events


@pytest.fixture
def events():
    recorder = Events()
    table.add("recorder", ["*"], recorder)
    return recorder


@pytest.fixture(autouse=True)
def _no_span_around():
    assert current_span() is None
