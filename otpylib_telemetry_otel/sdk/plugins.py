"""What packages register under OpenTelemetry's entry points, had by its name.

Imports OpenTelemetry only where something is asked for.
"""

from __future__ import annotations

import functools
import logging
import time
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.primitives.fork import importing
from otpylib_telemetry.primitives.threads import start_thread
from otpylib_telemetry.tracing.propagation import IdSource
from otpylib_telemetry_otel.errors import BackendUnavailableError
from otpylib_telemetry_otel.settings.environment import ID_GENERATORS
from otpylib_telemetry_otel.settings.given import Given

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


_log = logging.getLogger("otpylib_telemetry")


RESOURCE_DETECTORS: Final = "opentelemetry_resource_detector"


#: Which package brings what has one of these in its name, where the usual pattern does not tell.
_PACKAGES: Final = {
    "xray": "opentelemetry-sdk-extension-aws",
    "aws": "opentelemetry-sdk-extension-aws",
    "azure_monitor": "azure-monitor-opentelemetry-exporter",
    "azure": "opentelemetry-resource-detector-azure",
    "gcp_resource": "opentelemetry-resourcedetector-gcp",
}


#: Seconds all resource detectors may take together; some of them ask the network.
DETECTION_LIMIT: Final = 5.0


def load(group: str, name: str, what: str, package: str) -> Any:
    """Find what a package registers, and call it without arguments."""
    registered = entry_points(group=group)
    found = next((entry for entry in registered if entry.name == name), None)
    if found is None:
        known = ", ".join(sorted({entry.name for entry in registered})) or "none"
        package = next(
            (known for part, known in _PACKAGES.items() if part in name),
            package.format(name.replace("_", "-")),
        )
        raise BackendUnavailableError(
            f"no installed package registers an OpenTelemetry {what} named {name!r} (entry points {group}); "
            f"installed are: {known}. Install the package that brings it, which is often called "
            f"{package}"
        )
    try:
        with importing():
            made = found.load()
        return made()
    except Exception as error:
        raise BackendUnavailableError(
            f"the OpenTelemetry {what} {name!r} ({found.value}) cannot be built: "
            f"{type(error).__name__}: {error}"
        ) from error


def load_id_generator(name: str | Given) -> IdSource:
    """Load an id generator, ``xray`` for instance, or take the one given."""
    if isinstance(name, Given):
        generator, name = name.objects[0], repr(name)
    else:
        generator = load(ID_GENERATORS, name, "id generator", "opentelemetry-sdk-extension-{}")
    source = IdSource(generator.generate_trace_id, generator.generate_span_id)
    for make, bits in ((source.trace_id, 128), (source.span_id, 64)):
        try:
            made = make()
        except Exception as error:
            raise BackendUnavailableError(
                f"the OpenTelemetry id generator {name!r} fails: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(made, int) or not 0 < made < 1 << bits:
            raise BackendUnavailableError(
                f"the OpenTelemetry id generator {name!r} makes ids that do not have {bits} bits"
            )
    return source


def load_detector(name: str) -> Any:
    """Load a resource detector, ``host`` for instance, and ask it nothing."""
    return load(RESOURCE_DETECTORS, name, "resource detector", "opentelemetry-resource-detector-{}")


def detect_resource(
    names: Iterable[str], settings: Mapping[str, Any], seconds: float = DETECTION_LIMIT
) -> dict[str, Any]:
    """Find out what the machine says about itself, and add what the settings say.

    A detector that fails or takes too long is left out, with a line in the log: what is known without it must
    not wait for it.
    """
    detectors = [(name, load_detector(name)) for name in names]
    found: dict[str, Mapping[str, Any]] = {}

    def detect(name: str, detector: Any) -> None:
        try:
            found[name] = dict(detector.detect().attributes)
        except Exception as error:  # noqa: BLE001 - a detector of any package may raise anything
            found[name] = {}
            _log.warning(
                "The resource detector %r failed and is left out: %s: %s", name, type(error).__name__, error
            )

    # Daemon threads: one that asks an address which never answers must not hold up the end of the program.
    threads = []
    for name, detector in detectors:
        thread = start_thread(functools.partial(detect, name, detector), f"detect {name}")
        if thread is None:
            detect(name, detector)
        else:
            threads.append((name, thread))
    deadline = time.monotonic() + seconds
    for name, thread in threads:
        thread.join(max(deadline - time.monotonic(), 0.0))
        if thread.is_alive():
            _log.warning("The resource detector %r took more than %g s and is left out.", name, seconds)
    merged: dict[str, Any] = {}
    for name, _ in detectors:
        merged.update(found.get(name, {}))
    # What OpenTelemetry adds by itself where nothing is known is no finding of a detector.
    if str(merged.get("service.name", "")).startswith("unknown_service"):
        del merged["service.name"]
    return {**merged, **settings}
