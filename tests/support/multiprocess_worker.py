"""A worker that does the same with our metrics and with prometheus_client's, then waits for its end.

``python -m tests.support.multiprocess_worker OURS THEIRS SEED``
"""

import random
import sys

from prometheus_client import Counter, Gauge, Histogram

from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry_prometheus.multiprocess.workers import Multiprocess
from tests.support import declare

BOUNDS = (0.25, 1.0, 2.5)

if __name__ == "__main__":
    choose = random.Random(int(sys.argv[3]))
    store, shared = SeriesStore(100), Multiprocess(sys.argv[1])
    requests = Counter("requests", "Requests.", ["k"])
    seconds = Histogram("seconds", "Seconds.", buckets=BOUNDS)
    opened = Gauge("open", "Open.", multiprocess_mode="livesum")
    for _ in range(500):
        amount, k = choose.randrange(1024) / 256, choose.choice("abc")
        requests.labels(k).inc(amount)
        declare.counter(store, "requests_total", "Requests.").at((("k", k),)).add(amount)
        seconds.observe(amount)
        declare.histogram(store, "seconds", "Seconds.", BOUNDS).at(()).observe(amount)
        opened.inc(amount)
        declare.up_down(store, "open", "Open.").at(()).add(amount)
        if choose.random() < 0.1:
            shared.write(store)
    shared.write(store, force=True)
    sys.stdout.write("written\n")
    sys.stdout.flush()
    sys.stdin.read()
