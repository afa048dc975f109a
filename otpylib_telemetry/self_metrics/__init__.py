"""What the exporters of this process say about themselves, whichever exit it leaves by.

Whoever watches an application must be able to watch what watches it: whether events are lost, whether a
backend is given up on, whether a scrape is slow. One table, :data:`SELF_METRICS`, has every such metric: the
page and what is sent over OTLP are made from it, the reference page is written from it, and dashboards and
alert rules are checked against it.

The numbers come from the answers to ``get_stats`` of *every* exporter, whichever kind it is. An answer that
lacks something, or has nonsense in its place, costs the metric concerned and nothing else.
"""

from otpylib_telemetry.self_metrics.model import EXPORTER, PROMETHEUS, SelfMetric
from otpylib_telemetry.self_metrics.table import SELF_METRICS

__all__ = ["EXPORTER", "PROMETHEUS", "SELF_METRICS", "SelfMetric"]
