"""What is measured and never fetched costs what its limits say, however long that lasts."""

import itertools

from otpylib_telemetry import metrics
from otpylib_telemetry.aggregation.exponential import scale_for
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.metrics.automatic.events import MetricOptions
from otpylib_telemetry.metrics.buckets import base2
from otpylib_telemetry.metrics.labels import LabelRules
from otpylib_telemetry.metrics.names import PROMETHEUS
from otpylib_telemetry.metrics.recorder import MetricRecorder

#: Each is measured by seven definitions, which makes a million measurements.
EVENTS = 150_000
CHUNK = 10_000
MAX_SERIES = 100
ERROR = 0.1
SIZE = 40

DEFINITIONS = [
    metrics.counter("shop.sold.count", tags=["who"]),
    metrics.sum("shop.sold.amount", tags=["who"]),
    metrics.sum("shop.sold.balance", measurement="amount", tags=["who"], monotonic=False),
    metrics.last_value("shop.sold.last", measurement="amount", tags=["who"]),
    metrics.distribution("shop.sold.size", measurement="amount", tags=["who"], buckets=[1, 10]),
    metrics.distribution("shop.sold.fine", measurement="amount", tags=["who"], buckets=base2(SIZE)),
    metrics.summary("shop.sold.wait", measurement="amount", tags=["who"], error=ERROR, window=100),
]


def test_a_million_measurements_with_ever_new_labels_that_nobody_fetches_cost_what_a_tenth_of_them_does():
    now = 0
    store = SeriesStore(MAX_SERIES, now_ns=lambda: now)
    recorder = MetricRecorder(store, PROMETHEUS)
    recorder.configure(MetricOptions(LabelRules(), (1.0,)), DEFINITIONS)
    amounts = itertools.cycle([2.0 ** (number / 7 - 20) for number in range(280)])
    held = []
    for start in range(0, EVENTS, CHUNK):
        now = start * 10_000_000
        events = [
            ("shop.sold", {"amount": next(amounts)}, {"who": f"customer {number}"}, now, 1)
            for number in range(start, start + CHUNK)
        ]
        assert recorder.record(events) == (CHUNK, 0)
        recorder.expire(now, lambda _emitter: True)
        held.append(kept(store, recorder))
    series, buckets, labels = held[-1]
    assert series == len(DEFINITIONS), "of each metric the one label is folded"
    of_a_summary = 6 * ((40 << scale_for(ERROR)) + 1)
    assert buckets <= (MAX_SERIES + 1) * (3 + SIZE + of_a_summary)
    assert labels == 0, "what is in a series of a folded label is remembered by nobody"
    assert held[-1][0] == held[1][0]
    assert held[-1][2] == held[1][2]
    assert sum(one.value for one in store.find("shop_sold_count_total").all_series()) == EVENTS


def kept(store, recorder):
    """How many series there are, how many buckets these have, and how many sets of tag values are kept."""
    series = [one for metric in store.metrics for one in metric.all_series()]
    buckets = 0
    for one in series:
        buckets += len(getattr(one, "counts", ()))
        buckets += getattr(one, "size", 0)
        if (exponential := getattr(one, "buckets", None)) is not None:
            buckets += len(exponential.positive) + len(exponential.negative)
    labels = sum(len(bound.tags.texts) + len(bound.tags._typed) for bound in recorder._defined._bound)
    return len(series), buckets, labels
