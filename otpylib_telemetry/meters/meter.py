"""The meters of the OpenTelemetry API, as they are once a provider of ours has made them.

Imports OpenTelemetry's API: to be imported only where it is wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry import metrics as api

from otpylib_telemetry.meters import instruments
from otpylib_telemetry.primitives.any_value import text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otpylib_telemetry.aggregation.metric_spec import Scope


Made = TypeVar("Made", bound=instruments.Instrument)


class Meter(api.Meter):
    """Makes the instruments of one scope: those there are under a name, or new ones.

    One that cannot be made is replaced by the API's own, which has no effect.
    """

    def __init__(self, scope: Scope, make: Callable[..., Any]) -> None:
        super().__init__(scope.name, scope.version or None, scope.schema_url or None)
        self._scope = scope
        self._make = make

    def create_counter(self, name: str, unit: str = "", description: str = "") -> api.Counter:
        """Return the counter of this name."""
        return self._made(instruments.Counter, name, unit, description)

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> api.UpDownCounter:
        """Return the up-down counter of this name."""
        return self._made(instruments.UpDownCounter, name, unit, description)

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> api.Histogram:
        """Return the histogram of this name."""
        bounds = explicit_bucket_boundaries_advisory
        return self._made(instruments.Histogram, name, unit, description, bounds)

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> api._Gauge:
        """Return the gauge of this name."""
        return self._made(instruments.Gauge, name, unit, description)

    def create_observable_counter(
        self, name: str, callbacks: Sequence[Any] | None = None, unit: str = "", description: str = ""
    ) -> api.ObservableCounter:
        """Return the observable counter of this name, which asks these callbacks, too, from now on."""
        return self._asking(callbacks, instruments.ObservableCounter, name, unit, description)

    def create_observable_up_down_counter(
        self, name: str, callbacks: Sequence[Any] | None = None, unit: str = "", description: str = ""
    ) -> api.ObservableUpDownCounter:
        """Return the observable up-down counter of this name, which asks these callbacks, too."""
        return self._asking(callbacks, instruments.ObservableUpDownCounter, name, unit, description)

    def create_observable_gauge(
        self, name: str, callbacks: Sequence[Any] | None = None, unit: str = "", description: str = ""
    ) -> api.ObservableGauge:
        """Return the observable gauge of this name, which asks these callbacks, too, from now on."""
        return self._asking(callbacks, instruments.ObservableGauge, name, unit, description)

    def _made(self, kind: type[Made], name: Any, *how: Any) -> Made:
        made: Made | None = self._make(kind, self._scope, name, *how)
        return kind.nothing(text(name)) if made is None else made

    def _asking(self, callbacks: Sequence[Any] | None, kind: type[Made], *how: Any) -> Made:
        made = self._made(kind, *how)
        if isinstance(made, instruments.Observable):
            made.add_callbacks(callbacks)
        return made
