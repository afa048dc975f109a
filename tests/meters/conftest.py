"""Providers for tests of meters."""

import pytest

from otpylib_telemetry.meters.provider import MeterProvider
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from tests.support.meters import OTLP, PROM


@pytest.fixture
def provide():
    """A function that makes a provider; they are shut down at the end."""
    made = []

    def make(*naming, **more):
        names = {PROMETHEUS: PROM, OPENTELEMETRY: OTLP}
        made.append(MeterProvider([Feed(names[each], each) for each in naming], **more))
        return made[-1]

    yield make
    for provider in made:
        provider.shutdown()
