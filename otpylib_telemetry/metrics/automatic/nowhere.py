"""What stands in for series and metrics that there are none of: it takes nothing, or keeps nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from otpylib_telemetry.aggregation.distribution_series import ExponentialSeries, HistogramSeries
    from otpylib_telemetry.aggregation.number_series import CounterSeries, GaugeSeries, UpDownSeries
    from otpylib_telemetry.aggregation.series import Labels
    from otpylib_telemetry.aggregation.series import Operation as TracedOperation


class Nowhere:
    """Stands in for the series of a metric that was refused: takes nothing."""

    __slots__ = ()

    labels: Final[Labels] = ()

    def add(self, _amount: float, _traced: TracedOperation | None = None) -> bool:
        """Take nothing."""
        return False

    set = observe = add


NOWHERE: Final = Nowhere()

#: Stands in for a series whose first measurement is unusable: a series that shows 0 would be a lie.
UNBORN: Final = Nowhere()


class NotCounted(Nowhere):
    """Stands in for the number of open operations where these are not counted."""

    __slots__ = ()

    def add(self, _amount: float, _traced: TracedOperation | None = None) -> bool:
        """Take everything, and keep nothing."""
        return True


NOT_COUNTED: Final = NotCounted()


class NoMetric:
    """Stands in for a metric that was refused."""

    __slots__ = ()

    def at(self, _labels: Labels) -> Nowhere:
        """Return what takes nothing, whatever the labels."""
        return NOWHERE


NO_METRIC: Final = NoMetric()

AnyCounter: TypeAlias = "CounterSeries | Nowhere"
AnyGauge: TypeAlias = "GaugeSeries | Nowhere"
AnyLevel: TypeAlias = "UpDownSeries | Nowhere"
AnyHistogram: TypeAlias = "HistogramSeries | ExponentialSeries | Nowhere"
