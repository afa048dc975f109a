"""Several workers in one interpreter, and what a scrape of all of them says."""

import contextlib
import os
from unittest import mock

from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client import metrics as their_metrics
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry_prometheus.multiprocess.registry import MultiProcessRegistry
from otpylib_telemetry_prometheus.multiprocess.workers import Multiprocess
from tests.support import declare

BOUNDS = (0.25, 1.0, 2.5)


@contextlib.contextmanager
def as_pid(pid):
    """Let what happens here happen in a process of this id, as far as anybody asks."""
    with mock.patch.object(os, "getpid", return_value=pid):
        yield


def parsed(text):
    """What a page says: by metric its type, its documentation, and its samples."""
    if isinstance(text, bytes):
        text = text.decode()
    return {
        family.name: (
            family.type,
            family.documentation,
            {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in family.samples},
        )
        for family in text_string_to_metric_families(text)
    }


def page(directory, **options):
    """What our registry says of a directory."""
    return parsed(generate_latest(MultiProcessRegistry(directory, **options)))


def their_page(directory):
    """What prometheus_client's collector says of a directory."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))
    return parsed(generate_latest(registry))


def value(directory, name, **labels):
    """One number of a directory."""
    return MultiProcessRegistry(directory).get_sample_value(name, labels)


class Ours:
    """A worker of ours, of a process id of its own."""

    def __init__(self, directory, pid, modes=(), schema="schema", **options):
        self.pid = pid
        self.store = SeriesStore(2_000)
        with as_pid(pid):
            self.shared = Multiprocess(directory, **options)
            self.shared.use_schema(schema, modes=dict(modes))
        self.shared._clean_at = float("inf")  # nobody clears up but the test

    def write(self):
        with as_pid(self.pid):
            return self.shared.write(self.store, force=True)

    def count(self, amount=1, name="requests_total", **labels):
        declare.counter(self.store, name, "Requests.").at(tuple(sorted(labels.items()))).add(amount)

    def observe(self, amount, name="seconds", bounds=BOUNDS, **labels):
        declare.histogram(self.store, name, "Seconds.", bounds).at(tuple(sorted(labels.items()))).observe(
            amount
        )

    def set(self, amount, name="gauge", **labels):
        declare.gauge(self.store, name, "A gauge.").at(tuple(sorted(labels.items()))).set(amount)

    def move(self, amount, name="open", **labels):
        declare.up_down(self.store, name, "Open.").at(tuple(sorted(labels.items()))).add(amount)

    def die(self):
        """End as by SIGKILL: the system lets go of the lock, and nothing else happens."""
        self.shared._writer.files.close()
        self.shared._closed = True


class Theirs:
    """A worker of prometheus_client, of a process id of its own."""

    def __init__(self, directory, pid, labels=()):
        self.pid = pid
        self._labels = labels
        self._metrics = {}
        self._environment = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
        with mock.patch.dict(os.environ, self._environment):
            self._values = values.MultiProcessValue(lambda: pid)

    def metric(self, kind, name, documentation, labels, **options):
        with (
            mock.patch.dict(os.environ, self._environment),
            mock.patch.object(values, "ValueClass", self._values),
        ):
            if name not in self._metrics:
                made = getattr(their_metrics, kind)(
                    name, documentation, [*sorted(labels)], registry=None, **options
                )
                self._metrics[name] = made
            found = self._metrics[name]
            return found.labels(**labels) if labels else found

    def run(self, operation):
        with mock.patch.dict(os.environ, self._environment):
            operation()

    def close(self):
        self._values.close_all_files()
