"""Recorded events in, exactly this scrape out.

A new case is a ``NAME.events.jsonl`` in ``tests/golden``, with a ``NAME.definitions.json`` if its metrics are
defined.
``python -m tests.prometheus.test_scrape_golden`` writes what it makes today to ``NAME.FORM.txt``, to be read
before it is kept.
"""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from otpylib_telemetry.metrics.names import PROMETHEUS
from otpylib_telemetry_prometheus.exposition.negotiation import CLASSIC, CLASSIC_UTF8, OPENMETRICS
from otpylib_telemetry_prometheus.exposition.writer import Exposition
from tests.support.golden import CASES, events_of, expected, keep, recorder_of

FORMS = {"scrape": CLASSIC, "utf8": CLASSIC_UTF8, "openmetrics": OPENMETRICS}
READERS = {"scrape": text_string_to_metric_families, "openmetrics": openmetrics_families}


def store_of(case):
    store, recorder = recorder_of(case, PROMETHEUS)
    recorder.record(events_of(case))
    return store


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_recorded_events_make_exactly_this_scrape(case, form):
    store, exposition = store_of(case), Exposition()
    text = exposition.text([store], form=FORMS[form])
    assert text == expected(f"{case}.{form}.txt")
    assert exposition.text([store], form=FORMS[form]) == text, "a second scrape differs from the first"
    if form in READERS:
        assert list(READERS[form](text))


if __name__ == "__main__":
    for each in CASES:
        for kind, wanted in FORMS.items():
            keep(f"{each}.{kind}.txt", Exposition().text([store_of(each)], form=wanted))
