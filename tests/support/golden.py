"""Recorded events, and what is to become of them: the files in ``tests/golden``.

A case is a ``NAME.events.jsonl``, a line for each event: its name, measurements, metadata, and when it was
emitted, in seconds. With a ``NAME.definitions.json``, a list of tables, these are the metrics there are; else
they are automatic. What is expected stands in the files beside it.
"""

import json
from pathlib import Path

from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.metrics.automatic.events import MetricOptions
from otpylib_telemetry.metrics.definition_tables import definitions_from_tables
from otpylib_telemetry.metrics.labels import LabelRules
from otpylib_telemetry.metrics.recorder import MetricRecorder

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = sorted(path.name.removesuffix(".events.jsonl") for path in GOLDEN.glob("*.events.jsonl"))
SECOND = 10**9


def events_of(case):
    """The events, as the bus hands them over."""
    lines = (GOLDEN / f"{case}.events.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        (name, measurements, metadata, int(at * SECOND), 1)
        for name, measurements, metadata, at in map(json.loads, lines)
    ]


def recorder_of(case, naming, now_ns=lambda: 0):
    """A store, and what makes its series of the case's events."""
    store = SeriesStore(2000, now_ns=now_ns)
    recorder = MetricRecorder(store, naming)
    tables = GOLDEN / f"{case}.definitions.json"
    defined = json.loads(tables.read_text(encoding="utf-8")) if tables.exists() else []
    recorder.configure(MetricOptions(LabelRules(), (0.005, 0.25, 1.0)), definitions_from_tables(defined))
    return store, recorder


def expected(name):
    """What stands in a file."""
    return (GOLDEN / name).read_text(encoding="utf-8")


def keep(name, text):
    """Write what is expected from now on."""
    (GOLDEN / name).write_text(text, encoding="utf-8")
