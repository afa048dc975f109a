"""The actors instrumented, and everything put back."""

import pytest

from otpylib_telemetry.bus import table
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor
from otpylib_telemetry.instrument.otpylib.rules import Rules, put_in_force


@pytest.fixture
def instrumented(runtime):
    """An otpylib runtime whose actors are seen."""
    instrumentor = OtpylibInstrumentor()
    instrumentor.instrument()
    yield runtime
    instrumentor.uninstrument()
    put_in_force(Rules())
    table.remove("heard")
