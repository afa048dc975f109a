"""The metrics of the OpenTelemetry API, as series of the exporters that send them.

The global ``MeterProvider`` is one for good, as the ``TracerProvider`` is; see
``tracer_provider.py``. Which exporters it writes for depends on whether a service is there.

Imports OpenTelemetry's API: to be imported only where it is wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics as api

from otpylib_telemetry.exporter import registry
from otpylib_telemetry.meters.provider import MeterProvider
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from otpylib_telemetry.primitives.fork import after_fork_in_child, new_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otpylib_telemetry.meters.views import View
    from otpylib_telemetry.metrics.names import Naming


#: What :func:`install` says where metrics are carried.
RUNNING: Final = "running"

#: What a Prometheus exporter is called unless it is a further instance.
_PROMETHEUS_NAME: Final = "prometheus_exporter"


class _Switch:
    """What is written for on behalf of the service, and by whom."""

    provider: MeterProvider | None = None
    feeds: tuple[Feed, ...] = ()


_lock = new_lock()
_own: list[MeterProvider] = []


class _ServiceProvider(MeterProvider):
    """The global provider for good: one that is shut down by an application has a next service to serve."""

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Have everything exported; whether instruments have an effect is the service's to say."""
        self.force_flush(timeout_millis)


def naming_of(exporter: str) -> Naming:
    """Return how an exporter spells names: by its kind, or before it runs by its registered name."""
    settings = registry.settings_of(exporter)
    if settings is None:
        return PROMETHEUS if exporter == _PROMETHEUS_NAME else OPENTELEMETRY
    return {"prometheus": PROMETHEUS}.get(settings.kind, OPENTELEMETRY)


def install(exporters: Iterable[str], views: Iterable[View], flush: Callable[[float], bool]) -> str:
    """Have what is measured through the OpenTelemetry API written for exporters; return how that went.

    Where the application has set a provider of ours itself, that one's views count, and not these. ``flush``
    has everything exported within so many seconds, and tells whether it was.
    """
    with _lock:
        found: Any = api.get_meter_provider()
        if type(found).__name__ == "_ProxyMeterProvider":
            # It only stands in for one that is still to be set. What is set meanwhile stays.
            api.set_meter_provider(_own_provider())
            found = api.get_meter_provider()
        if not isinstance(found, MeterProvider):
            kind = type(found)
            return (
                f"not carried: the application has set a global MeterProvider of its own "
                f"({kind.__module__}.{kind.__qualname__}), and its metrics go where that one sends them"
            )
        if found in _own:
            found.use_views(views)
        _feed(found, exporters)
        found.renew()
        found.flush = flush
        _Switch.provider = found
        return RUNNING


def _feed(provider: MeterProvider, exporters: Iterable[str]) -> None:
    feeds = tuple(Feed(name, naming_of(name)) for name in exporters)
    for feed in _Switch.feeds:
        if feed not in feeds:
            respelled = any(other.exporter == feed.exporter for other in feeds)
            provider.remove_feed(feed, keep=not respelled)
    for feed in feeds:
        provider.add_feed(feed)
    _Switch.feeds = feeds


def renew() -> list[str]:
    """Look again how exporters spell names; the series of those that are returned were begun anew."""
    with _lock:
        provider, before = _Switch.provider, _Switch.feeds
        if provider is None:
            return []
        _feed(provider, [feed.exporter for feed in before])
        respelled = [feed.exporter for feed in _Switch.feeds if feed not in before]
        if respelled:
            provider.renew()
        return respelled


def uninstall() -> None:
    """Undo :func:`install`: what is measured from now on is without effect, unless others want it too."""
    with _lock:
        provider, feeds = _Switch.provider, _Switch.feeds
        _Switch.provider, _Switch.feeds = None, ()
        if provider is not None:
            for feed in feeds:
                provider.remove_feed(feed)
            provider.flush = None


def stats() -> dict[str, Any]:
    """Return how many instruments there are, and which could not be made, with the reason."""
    provider = _Switch.provider
    if provider is None:
        return {"instruments": 0, "refused": {}}
    return {"instruments": provider.instrument_count, "refused": dict(provider.refused)}


def _own_provider() -> MeterProvider:
    if not _own:
        _own.append(_ServiceProvider())
    return _own[0]


# What was installed is left to the parent, whose exporters it is for; the child may install its own.
after_fork_in_child(uninstall)
