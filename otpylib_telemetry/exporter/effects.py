"""What a change of settings would do, in words, and what a dry run of it tries."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from otpylib_telemetry.config.settings import ExporterSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otpylib_telemetry.exporter.probe import Probe
    from otpylib_telemetry.exporter.runner import Runner
    from otpylib_telemetry.services.requests import Trial


def of_change(
    runner: Runner, before: ExporterSettings, after: ExporterSettings, changed: frozenset[str]
) -> list[str]:
    """Return in words what a change would do; the exporter says what it would do to what it has."""
    state, kind = runner.state, runner.exporter_type
    waits = len(state.queue) + state.waiting_events
    if "enabled" in changed:
        if after.enabled:
            return ["the exporter is opened and subscribes again"]
        return [f"the exporter is closed: {waits} events that wait are exported before, or stay"]
    if not after.enabled:
        return ["nothing for now: the exporter is off"]
    told: list[str] = []
    if "event_patterns" in changed:
        told.append(f"events are taken that match {', '.join(after.event_patterns)}")
    if "queue_limit" in changed and after.queue_limit < waits:
        told.append(f"{waits} events wait, more than fit from now on: no event is taken until some have left")
    anew = changed - kind.in_place - ExporterSettings.model_fields.keys()
    told += kind.effects(before, after, changed)
    if anew and not told:
        told.append(f"the exporter takes {', '.join(sorted(anew))} over, or is opened anew with them")
    if not told:
        told.append("taken over in place: no connection is closed, and no series begins again")
    return told


def trials_of(
    runner: Runner, before: ExporterSettings, after: ExporterSettings, changed: frozenset[str]
) -> list[Trial]:
    """Return what a dry run of a change tries: files and names, the proof that the change needs, and ports.

    Each returns what was tried that is worth telling, in words, or raises what is wrong.
    """
    kind = runner.exporter_type
    anew = changed - kind.in_place - (ExporterSettings.model_fields.keys() - {"enabled"})
    if not after.enabled or not anew:
        return []
    # What it has is no trouble; what it waits for is.
    known = {probe.what for probe in kind.probes(before)} if runner.lifecycle.opened else set()
    probes = kind.probes(after)
    found = [probe for probe in probes if not probe.connects and not probe.spared]
    ports = [probe for probe in probes if probe.takes and probe.what not in known]
    return [
        *(partial(_tried, probe) for probe in found),
        partial(runner.lifecycle.proof.attempt, after),
        *(partial(_tried, probe) for probe in ports),
    ]


async def _tried(probe: Probe) -> Sequence[str]:
    await probe.run()
    return [probe.what] if probe.connects else []
