"""Tests that do not depend on each other, though exporters keep what belongs to their names."""

from __future__ import annotations

from otpylib_telemetry.config import history, otpylib_config, sections
from otpylib_telemetry.exporter import registry


def forget_exporters() -> list[str]:
    """Forget all that exporters which have ended left behind for the next ones of their names.

    That is what waits in their queues, their books, their series, what was sent of these and when, their
    circuit breakers, and the changes made to their configuration. Instruments of the OpenTelemetry API that
    the application keeps go on, and begin at nothing. An exporter that still runs keeps everything: end its
    runtime first.

    Returns:
        The names whose belongings were forgotten.
    """
    forgotten = registry.forget_ended()
    if not registry.running() and otpylib_config.manager() is None:
        # What a test said about sections and files is no news for the next one either.
        sections.forget()
        history.HISTORY.forget()
    return forgotten
