"""What can be tried of the settings without an exporter: what they name, and where things go."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from otpylib_telemetry.config.redaction import hide_in_url
from otpylib_telemetry.exporter.probe import Probe
from otpylib_telemetry_otel.destinations import build, prove, why_none
from otpylib_telemetry_otel.sampling import installed
from otpylib_telemetry_otel.sdk import plugins
from otpylib_telemetry_otel.settings.endpoint import SIGNALS

if TYPE_CHECKING:
    from otpylib_telemetry_otel.settings.endpoint import SignalName
    from otpylib_telemetry_otel.settings.model import OtelSettings


def probes(settings: OtelSettings) -> list[Probe]:
    """Return what can be tried, in the order in which an exporter would need it."""
    found, is_any = list(_named(settings)), False
    for signal in SIGNALS:
        # Where spans alone have a destination, the exporter goes on without the other signals.
        if not settings.sends(signal) or (signal != "traces" and why_none(settings, signal) is not None):
            continue
        built = partial(_build, settings, signal)
        found.append(Probe(f"what sends {signal}", built, spared=is_any))
        is_any = True
        connection = settings.connection(signal)
        if connection.protocol is not None and connection.url is not None:
            where = f"{signal} over {connection.protocol} to {hide_in_url(connection.url)}"
            found.append(Probe(where, partial(_send_nothing, settings, signal), connects=True))
    return found


def _named(settings: OtelSettings) -> list[Probe]:
    """Return what packages register and the settings name."""
    found = []
    if isinstance(name := settings.sampler, str):
        sampler = partial(installed.load, name, settings.sampler_argument)
        found.append(Probe(f"the sampler {name}", lambda _: sampler()))
    if isinstance(generator := settings.id_generator, str):
        found.append(Probe(f"the id generator {generator}", lambda _: plugins.load_id_generator(generator)))
    found += [
        Probe(f"the resource detector {detector}", partial(_find_detector, detector))
        for detector in settings.resource_detectors
    ]
    return found


def _find_detector(name: str, seconds: float) -> None:
    del seconds
    plugins.load_detector(name)


def _build(settings: OtelSettings, signal: SignalName, seconds: float) -> None:
    """Build what sends a signal, which reads the files and connects to nothing."""
    del seconds
    build(settings, signal, {}).close()


def _send_nothing(settings: OtelSettings, signal: SignalName, seconds: float) -> None:
    """Have the destination prove itself, as it has to before it is switched to."""
    connection = settings.connection(signal)
    prove(replace(connection, timeout=min(connection.timeout, seconds)), signal)
