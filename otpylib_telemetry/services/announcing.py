"""What the log and the bus are told of a configuration, the same for exporters and services."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.bus.dispatch import execute
from otpylib_telemetry.config.resolution import changed_keys

if TYPE_CHECKING:
    from otpylib_telemetry.config.live import LiveConfig
    from otpylib_telemetry.config.settings import SectionSettings

_log = logging.getLogger("otpylib_telemetry")


def announce(name: str, configuration: LiveConfig[Any]) -> None:
    """Say what nobody was told yet of a configuration: what is wrong with it, and whose wish was beaten."""
    for problem in configuration.new_problems():
        _log.warning("%s", problem.message)
        if problem.kind == "rejected":
            metadata = {"exporter": name, "key": problem.key, "reason": problem.message}
            execute("telemetry.config.rejected", {"generation": configuration.generation}, metadata)
    for level, text in configuration.news():
        _log.log(level, "%s", text)


def announce_applied(  # noqa: PLR0913, PLR0917  # what there is to say
    name: str,
    section: str,
    before: SectionSettings,
    after: SectionSettings,
    generation: int,
    trouble: str | None = None,
    *,
    is_idle: bool = False,
) -> None:
    """Say that changed settings are in force, if any are; ``trouble`` is an outage that goes on."""
    keys = sorted(changed_keys(before, after))
    if not keys:
        return
    changed = ", ".join(keys)
    if not getattr(after, "enabled", True):
        _log.info("%s is off now; changed: %s.", name, changed)
    elif is_idle:
        _log.info("%s is idle with changed settings: %s.", name, changed)
    elif trouble:
        _log.warning(
            "%s goes by changed settings: %s. The outage goes on until something arrives: %s.",
            name,
            changed,
            trouble,
        )
    else:
        _log.info("%s works with changed settings: %s.", name, changed)
    metadata = {"exporter": name, "section": section, "keys": keys}
    execute("telemetry.config.applied", {"generation": generation}, metadata)
