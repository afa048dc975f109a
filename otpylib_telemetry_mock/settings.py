"""The settings of the exporter for tests, section ``telemetry.mock``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from otpylib_telemetry.config.field_types import WholeNumber
from otpylib_telemetry.config.settings import ExporterSettings


class MockSettings(ExporterSettings):
    """What the exporter for tests can be told."""

    kind: ClassVar[str] = "mock"

    max_events: WholeNumber = Field(
        100_000,
        ge=1,
        le=10_000_000,
        description="How many events are remembered; beyond it the oldest are forgotten.",
    )
