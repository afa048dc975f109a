"""A real Prometheus server that scrapes what a test serves, and promtool's opinion of an exposition."""

import json
import subprocess
import urllib.parse
import urllib.request
from dataclasses import dataclass

from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from tests.support import peers
from tests.support.waiting import eventually, wait_until

PACKAGE = "the Debian package prometheus"


@dataclass(frozen=True)
class Sample:
    """One element of an instant vector. ``labels`` are without ``__name__``, which is ``name``."""

    name: str
    labels: dict[str, str]
    value: float


class PrometheusServer:
    """Scrapes ``targets`` (``"127.0.0.1:9464"``), and others after ``set_targets``.

    Prometheus looks at its list of targets every 5 seconds, which nothing changes: so long takes the first
    scrape, and the first one after a change.
    """

    def __init__(self, directory, *targets, interval="250ms", path="/metrics", job="test", **job_settings):
        """``job_settings`` go into the scrape configuration as they are: ``scheme``, ``basic_auth``..."""
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._targets = directory / "targets.json"
        self.set_targets(*targets)
        configuration = directory / "prometheus.json"  # JSON is YAML too
        configuration.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": interval, "scrape_timeout": interval},
                    "scrape_configs": [
                        {
                            "job_name": job,
                            "metrics_path": path,
                            "file_sd_configs": [{"files": [str(self._targets)], "refresh_interval": "1s"}],
                            **job_settings,
                        }
                    ],
                }
            ),
            encoding="utf-8",
        )
        command = [
            peers.find_program("prometheus", PACKAGE),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--enable-feature=exemplar-storage,native-histograms",
            # How long new targets wait for their first scrape; 5 s otherwise.
            "--scrape.discovery-reload-interval=100ms",
            "--log.level=warn",
        ]
        self._process = peers.PeerProcess(command, directory / "prometheus.log")

    def start(self):
        self._process.start()
        wait_until(self._ready, 60, "Prometheus is ready")

    def _ready(self):
        self._process.must_run()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
            return answer.status == 200

    def stop(self):
        self._process.stop()

    def set_targets(self, *targets):
        """Scrape these from now on (after up to 5 s)."""
        fresh = self._targets.with_suffix(".new")
        fresh.write_text(json.dumps([{"targets": list(targets)}]), encoding="utf-8")
        fresh.replace(self._targets)

    def api(self, path, **parameters):
        """What its HTTP API answers: ``api("query_exemplars", query=..., start=..., end=...)``."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)["data"]

    def query(self, promql):
        """The instant vector that an expression gives now (a scalar as one sample without labels)."""
        data = self.api("query", query=promql)
        if data["resultType"] == "scalar":
            return [Sample("", {}, float(data["result"][1]))]
        return [
            Sample(row["metric"].pop("__name__", ""), row["metric"], float(row["value"][1]))
            for row in data["result"]
        ]

    def value(self, promql):
        """The one value that an expression gives; an AssertionError if there are none or several."""
        samples = self.query(promql)
        assert len(samples) == 1, f"{promql} gives {len(samples)} samples: {samples}"
        return samples[0].value

    def targets(self):
        """What it thinks of its targets: ``health`` (up, down, unknown), ``lastError``, ``scrapeUrl``..."""
        return self.api("targets")["activeTargets"]

    async def scraped(self, timeout=15.0):
        """Wait until every target has been scraped, successfully, once more from now on."""
        before = {target["scrapeUrl"]: target["lastScrape"] for target in self.targets()}

        def fresh():
            now = self.targets()
            assert now
            for target in now:
                assert target["health"] == "up", target
                assert target["lastScrape"] != before.get(target["scrapeUrl"]), "not scraped since"
            return True

        await eventually(fresh, timeout, "every target scraped")


def check_with_promtool(text):
    """What ``promtool check metrics`` says against a text (classic format only); empty if nothing."""
    program = peers.find_program("promtool", PACKAGE)
    done = subprocess.run([program, "check", "metrics"], input=text, capture_output=True, encoding="utf-8")
    return (done.stdout + done.stderr).strip() or (
        "" if done.returncode == 0 else f"status {done.returncode}"
    )
