"""What a real Prometheus server reads from pages of every format it asks for."""

import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from otpylib_telemetry.aggregation.exponential import scale_for
from otpylib_telemetry.aggregation.metric_spec import SummaryShape
from otpylib_telemetry.aggregation.series import Traced
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.primitives.clock import wall_clock
from otpylib_telemetry_prometheus.exposition import negotiation
from otpylib_telemetry_prometheus.exposition.target_info import target_info
from otpylib_telemetry_prometheus.exposition.writer import Exposition, compress
from tests.support import declare
from tests.support.prometheus_server import check_with_promtool

pytestmark = pytest.mark.peer

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALUES = [0.003, 0.005, 0.2, 0.75, 3.0]


@pytest.fixture
def store():
    """One metric of every kind, with exemplars."""
    store = SeriesStore(100)
    labels = (("shop", 'nor"th\\'),)
    traced = Traced(time.monotonic_ns(), TRACE, SPAN)
    declare.counter(store, "sold_total", "Sold.").at(labels).add(3, traced)
    declare.gauge(store, "level", "Level.").at(labels).set(-1.5)
    declare.up_down(store, "under_way", "Under way.").at(labels).add(2)
    took = declare.histogram(store, "took_seconds", "Took.", (0.005, 0.5, 1.0), "seconds").at(labels)
    size = declare.exponential(store, "size_seconds", "Size.", scale=20, max_size=160, unit="seconds").at(
        labels
    )
    shape = SummaryShape((0.5, 0.99), scale_for(0.01), 1_000, 10**9, 3)
    waited = declare.summary(store, "waited_seconds", "Waited.", shape, "seconds").at(labels)
    for value in VALUES:
        took.observe(value, traced)
        size.observe(value, traced)
        waited.observe(value)
    declare.gauge(store, "dotted.name", "Dotted.").at((("dotted.label", "x"),)).set(7)
    return store


class Served:
    """A server whose page is what ``accept`` (else the client's own header) asks for."""

    def __init__(self, store, accept=None):
        exposition = Exposition()
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Accept", "")
                form = negotiation.choose(asked if accept is None else accept)
                seen.append((asked, form))
                families = [target_info({"service.name": "shop"})]
                body = b"".join(exposition.render(form, [store], families, wall_clock.offset_ns()))
                self.send_response(200)
                self.send_header("Content-Type", form.content_type)
                if negotiation.takes_gzip(self.headers.get("Accept-Encoding", "")):
                    body = compress(body)
                    assert gzip.decompress(body)
                    self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.target = f"127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def served(store):
    running = []

    def start(accept=None):
        running.append(Served(store, accept))
        return running[-1]

    yield start
    for server in running:
        server.stop()


async def test_every_kind_is_queried_back_right_in_every_format(prometheus, served):
    own, classic = served(), served("text/plain;version=0.0.4")
    server = prometheus(own.target, classic.target)
    await server.scraped()
    assert own.seen[0][1] is negotiation.OPENMETRICS
    assert classic.seen[0][1] is negotiation.CLASSIC

    for target in (own.target, classic.target):
        value = lambda name, more="", at=target: server.value(f'{name}{{instance="{at}"{more}}}')  # noqa: E731
        (sold,) = server.query(f'sold_total{{instance="{target}"}}')
        assert (sold.value, sold.labels["shop"]) == (3, 'nor"th\\')
        assert value("level") == -1.5
        assert value("under_way") == 2
        for name in ("took_seconds", "size_seconds", "waited_seconds"):
            assert value(f"{name}_count") == len(VALUES)
            assert value(f"{name}_sum") == pytest.approx(sum(VALUES))
        # Prometheus may write whole bounds in its own way, without the fraction.
        assert value("took_seconds_bucket", ',le="0.005"') == 2
        assert value("took_seconds_bucket", ',le=~"1|1.0"') == 4
        assert value("size_seconds_bucket", ',le="0.25"') == 3
        assert value("size_seconds_bucket", ',le=~"4|4.0"') == 5
        median = server.value(f'histogram_quantile(0.5, size_seconds_bucket{{instance="{target}"}})')
        assert median == pytest.approx(0.2, rel=0.3)
        assert value("waited_seconds", ',quantile="0.5"') == pytest.approx(0.2, rel=0.02)
        assert value("target_info", ',service_name="shop"') == 1
        assert value("dotted_name", ',dotted_label="x"') == 7

    types = {name: {one["type"] for one in found} for name, found in server.api("metadata").items()}
    assert types["sold"] == types["sold_total"] == {"counter"}
    assert types["level"] == types["under_way"] == {"gauge"}
    assert types["took_seconds"] == types["size_seconds"] == {"histogram"}
    assert types["waited_seconds"] == {"summary"}

    now = time.time()
    for query, values in {
        "sold_total": [3],
        "took_seconds_bucket": [0.003, 0.2, 0.75, 3],
        "size_seconds_bucket": [0.003],
    }.items():
        found = [
            exemplar
            for series in server.api("query_exemplars", query=query, start=now - 60, end=now + 60)
            for exemplar in series["exemplars"]
        ]
        assert sorted(float(exemplar["value"]) for exemplar in found) == values
        for exemplar in found:
            assert exemplar["labels"] == {"trace_id": TRACE, "span_id": SPAN}
            assert abs(exemplar["timestamp"] - now) < 60


def test_promtool_has_nothing_to_complain_about_every_kind(store):
    store.remove("dotted.name")
    assert check_with_promtool(Exposition().text([store])) == ""
