"""Real servers of several workers, killed at random under load: what was acknowledged is on every scrape."""

import http.client
import os
import random
import signal
import socket
import threading
import time
import urllib.request

import pytest

from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from tests.support import programs
from tests.support.shared_metrics import page, parsed
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn needs fork")
pytest.importorskip("gunicorn")
pytest.importorskip("uvicorn")

WORKERS = 4


class Server:
    """The application behind a server of several workers."""

    def __init__(self, directory, workers, *command):
        self.directory = directory / "metrics"
        self.metrics_port = free_port()
        self._count = workers
        self._log = directory / "server.log"
        environment = {
            **os.environ,
            "PROMETHEUS_MULTIPROC_DIR": str(self.directory),
            "SHOP_METRICS_PORT": str(self.metrics_port),
        }
        self.refused = 0
        with self._log.open("wb") as log:
            self.process = programs.start(
                ["-m", *command, "--workers", workers],
                options=("-W", "ignore"),
                stdout=log,
                stderr=log,
                env=environment,
            )

    def __enter__(self):
        try:
            wait_until(lambda: len(self.workers()) == self._count, 60, self)
            wait_until(lambda: self.scrape() is not None, 60, self)
        except BaseException:
            self.__exit__()
            raise
        #: Scrapes for which nobody was there.
        self.refused = 0
        return self

    def __exit__(self, *_error):
        self.process.terminate()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()

    def __str__(self):
        return self._log.read_text()[-3000:]

    def workers(self):
        """The process ids of the workers that have written something."""
        return {
            int(path.parent.name.split("-")[1])
            for path in self.directory.rglob("w-*/alive")
            if is_running(int(path.parent.name.split("-")[1]))
        }

    def sell(self):
        """One request; whether it was acknowledged."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", "/sell")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False  # the worker was killed
        finally:
            connection.close()

    def wait(self):
        """A request that lasts until it is closed, or its worker is killed."""
        connection = socket.create_connection(("127.0.0.1", self.port), 60)
        connection.sendall(b"GET /wait HTTP/1.1\r\nHost: shop\r\n\r\n")
        connection.settimeout(0.01)
        return connection

    def scrape(self):
        """What one of the workers says; None if it was killed before it could say anything."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=60
            ) as answer:
                return parsed(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read()) from error
        except urllib.error.URLError as error:
            self.refused += isinstance(error.reason, ConnectionRefusedError)
            return None
        except (OSError, http.client.HTTPException):
            return None


class Gunicorn(Server):
    """The application behind gunicorn."""

    def __init__(self, directory, *options):
        self.port = free_port()
        command = ["gunicorn", "tests.support.gunicorn_app:app", *options]
        command += ["--worker-class", "uvicorn_worker.UvicornWorker"]
        command += ["--bind", f"127.0.0.1:{self.port}", "--graceful-timeout", "5"]
        super().__init__(directory, WORKERS, *command, "--control-socket", str(directory / "gunicorn.ctl"))


class Uvicorn(Server):
    """The application behind uvicorn's own supervisor."""

    def __init__(self, directory):
        self.port = free_port()
        super().__init__(directory, 2, "uvicorn", "tests.support.gunicorn_app:app", "--port", str(self.port))


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def sales(found):
    """How many sales a page tells of."""
    _, _, samples = found.get("shop_sale", ("", "", {}))
    return samples.get(("shop_sale_total", (("item", "tea"),)), 0)


TOOK = "shop_checkout_duration_seconds"


def checkouts(found):
    """How many checkouts a page tells of: the histogram's count, which its last bucket must agree with."""
    _, _, samples = found.get(TOOK, ("", "", {}))
    count = samples.get((f"{TOOK}_count", (("outcome", "success"),)), 0)
    assert samples.get((f"{TOOK}_bucket", (("le", "+Inf"), ("outcome", "success"))), 0) == count
    return count


def in_flight(found, what):
    """How many operations are under way, according to a page."""
    _, _, samples = found.get(f"shop_{what}_in_flight", ("", "", {}))
    return samples.get((f"shop_{what}_in_flight", ()), 0)


def is_open(connection):
    """Whether a request goes on still."""
    try:
        return connection.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


class Load:
    """Clients that buy, and a scraper, until told to stop."""

    def __init__(self, shop, clients=4):
        self.shop = shop
        self.tried = [0] * clients
        self.acknowledged = [0] * clients
        self.scrapes = []
        self.cut_off = 0
        self.failed = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._buy, args=(number,)) for number in range(clients)]
        self._threads.append(threading.Thread(target=self._scrape))

    def _buy(self, number):
        while not self._stop.is_set():
            self.tried[number] += 1
            self.acknowledged[number] += self.shop.sell()

    def _scrape(self):
        while not self._stop.is_set():
            before = sum(self.acknowledged)
            try:
                found = self.shop.scrape()
            except AssertionError as error:
                self.failed.append(error)
                continue
            if found is None:
                self.cut_off += 1
            else:
                self.scrapes.append((before, found, sum(self.tried)))
            time.sleep(0.02)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_workers_killed_at_random_lose_nothing_that_was_acknowledged(tmp_path):
    choose = random.Random(4)
    kills = 6
    with Gunicorn(tmp_path) as shop:
        with Load(shop) as load:
            waiting = [shop.wait() for _ in range(12)]
            for _ in range(kills):
                time.sleep(choose.uniform(0.1, 0.4))
                # Somebody has to be there to be scraped; gunicorn takes a while to replace a worker.
                workers = wait_until(lambda: len(found := shop.workers()) > WORKERS // 2 and found, 60, shop)
                os.kill(choose.choice(sorted(workers)), signal.SIGKILL)
            wait_until(lambda: len(shop.workers()) == WORKERS, 60, shop)
        acknowledged, tried = sum(load.acknowledged), sum(load.tried)
        assert acknowledged > 50
        # A sale that was not acknowledged may have been written all the same: its worker died just after it.
        assert acknowledged <= sales(shop.scrape()) <= tried
        # A checkout ends before the flush that its sale is acknowledged after.
        assert acknowledged <= checkouts(shop.scrape()) <= tried
        left = sum(map(is_open, waiting))
        assert left < len(waiting)
        wait_until(lambda: in_flight(shop.scrape(), "wait") == left, 60, shop)
        for connection in waiting:
            connection.close()
        wait_until(lambda: in_flight(shop.scrape(), "wait") == 0, 60, shop)
        # What was under way in workers that were killed is not under way any more.
        wait_until(lambda: in_flight(shop.scrape(), "checkout") == 0, 60, shop)
        assert load.failed == []
        # Those a worker had been given when it was killed; that nobody is there for a while is no fault.
        assert load.cut_off - shop.refused <= 2 * kills
        assert len(load.scrapes) > 10
        for before, found, after in load.scrapes:
            assert before <= sales(found) <= after
            assert before <= checkouts(found) <= after
            assert 0 <= in_flight(found, "checkout") <= len(load.tried)
        for number in (sales, checkouts):
            seen = [number(found) for _, found, _ in load.scrapes]
            assert seen == sorted(seen)
        # Whoever is asked, and whoever asks, it is the same.
        total = sales(shop.scrape())
        assert {sales(shop.scrape()) for _ in range(8)} == {total}
        assert sales(page(shop.directory)) == total
    assert sales(page(shop.directory)) == total


def test_workers_of_a_preloaded_application_count_for_themselves(tmp_path):
    with Gunicorn(tmp_path, "--preload") as shop:
        bought = sum(shop.sell() for _ in range(20))
        assert (bought, sales(shop.scrape())) == (20, 20)


def test_uvicorn_with_workers_counts_for_all_of_them_and_for_those_that_are_gone(tmp_path):
    with Uvicorn(tmp_path) as shop:
        assert sum(shop.sell() for _ in range(20)) == 20
        for _ in range(4):  # whichever worker answers
            assert (sales(found := shop.scrape()), checkouts(found)) == (20, 20)
        first = min(shop.workers())
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(workers := shop.workers()) == 2 and first not in workers, 60, shop)
        assert sum(shop.sell() for _ in range(5)) == 5
        assert (sales(found := shop.scrape()), checkouts(found)) == (25, 25)
        assert in_flight(found, "checkout") == 0
