"""Attributes with ever new values are folded like the labels of events, for instruments of either kind."""

import pytest
from opentelemetry.metrics import Observation

from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from tests.support.meters import OTLP, PROM, read, values

FOLDED = "(folded)"


@pytest.mark.parametrize(
    ("naming", "where", "name"), [(OPENTELEMETRY, OTLP, "n"), (PROMETHEUS, PROM, "n_total")]
)
def test_of_what_is_counted_one_attribute_is_folded(provide, naming, where, name):
    meter = provide(naming).get_meter("shop")
    store_of(where).max_series = 20
    counter = meter.create_counter("n")
    for number in range(1_000):
        counter.add(1, {"order": number, "shop": f"s{number % 3}", "open": number % 2 == 0})
    true, false = ("true", "false") if naming is PROMETHEUS else ("True", "False")
    found = {
        tuple((key, str(value)) for key, value in labels if not key.startswith("otel_scope")): value
        for (_, *labels), value in values(where).items()
    }
    assert found == {
        (("open", opened), ("order", FOLDED), ("shop", f"s{shop}")): len(
            [n for n in range(1_000) if n % 3 == shop and (n % 2 == 0) is (opened == true)]
        )
        for opened in (true, false)
        for shop in range(3)
    }
    assert store_of(where).folded() == {name: {"order": 21}}


def test_what_is_observed_is_folded_as_a_whole(provide):
    provider = provide(OPENTELEMETRY)
    meter = provider.get_meter("shop")
    store_of(OTLP).max_series = 5
    seen = {}
    for name in ("counter", "up_down_counter", "gauge"):
        make = getattr(meter, f"create_observable_{name}")
        make(name, [lambda _: [Observation(n, {"order": key, "shop": key % 2}) for key, n in seen.items()]])

    def told():
        read(provider)
        return {
            (name, *(str(value) for _, value in labels)): value for (name, *labels), value in values().items()
        }

    seen.update({1: 10, 2: 20})
    assert told()["counter", "1", "1"] == 10
    for at in range(3):
        seen.update({key: key + at for key in range(100)})
        odd, even = sum(range(1, 100, 2)) + 50 * at, sum(range(0, 100, 2)) + 50 * at
        assert told() == {
            ("counter", FOLDED, "1"): odd,
            ("counter", FOLDED, "0"): even,
            ("up_down_counter", FOLDED, "1"): odd,
            ("up_down_counter", FOLDED, "0"): even,
            ("gauge", FOLDED, "1"): 99 + at,
            ("gauge", FOLDED, "0"): 98 + at,
        }
    seen.clear()
    assert told() == {}
    seen.update({7: 1})
    assert told() == {(name, "7", "1"): 1 for name in ("counter", "up_down_counter", "gauge")}
