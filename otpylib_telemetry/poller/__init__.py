"""The poller: measures from time to time what nobody emits."""

from collections.abc import Mapping
from typing import Any

from otpylib_telemetry.poller.polls import poll, unpoll
from otpylib_telemetry.poller.service import PollerSettings, TelemetryPoller
from otpylib_telemetry.supervision.specs import exporter_child_spec

__all__ = ["PollerSettings", "TelemetryPoller", "child_spec", "poll", "unpoll"]


def child_spec(settings: Mapping[str, Any] | None = None) -> Any:
    """Return a child spec that runs the poller under a supervisor of its own.

    Args:
        settings: Settings that go before configuration.

    Returns:
        A ``supervisor.child_spec``.

    Raises:
        ValueError: A wrong setting; the message lists every one.
    """
    return exporter_child_spec(TelemetryPoller, settings)
