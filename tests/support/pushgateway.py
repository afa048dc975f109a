"""A real Pushgateway, and what is on it."""

import base64
import json
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from tests.support import peers
from tests.support.waiting import wait_until

PACKAGE = "the Debian package prometheus-pushgateway"

USER = "batch"
PASSWORD = "s3cret-pa55"
#: bcrypt of the password, which is the only form the gateway takes.
_HASH = "$2b$04$abcdefghijklmnopqrstuu8gPP2yRqExh/lIRca35HYwnrIzN4MVu"


class Pushgateway:
    """Listens on a port of its own, which stays the same when it is stopped and started again.

    With ``protected`` it wants the user name and the password above.
    """

    def __init__(self, directory, protected=False):
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._protected = protected
        command = [
            peers.find_program("prometheus-pushgateway", PACKAGE),
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--persistence.file=",
            "--log.level=error",
        ]
        if protected:
            web = directory / "web.json"  # JSON is YAML too
            web.write_text(json.dumps({"basic_auth_users": {USER: _HASH}}), encoding="utf-8")
            command.append(f"--web.config.file={web}")
        self._process = peers.PeerProcess(command, directory / "pushgateway.log")

    @property
    def url(self):
        """What to push to, with credentials if it wants them."""
        credentials = f"{USER}:{PASSWORD}@" if self._protected else ""
        return f"http://{credentials}127.0.0.1:{self.port}"

    def start(self):
        self._process.start()
        wait_until(self._ready, 60, "the Pushgateway is ready")

    def _ready(self):
        self._process.must_run()
        return self._get("/-/ready") is not None

    def stop(self):
        self._process.stop(kill=True)

    def text(self):
        """Its page."""
        return self._get("/metrics")

    def samples(self):
        """What was pushed to it: ``{(name, labels as a sorted tuple): value}``."""
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
        }

    def value(self, name, **labels):
        """The one value with these labels among its labels; None if there is none."""
        found = [
            value
            for (sample, known), value in self.samples().items()
            if sample == name and labels.items() <= dict(known).items()
        ]
        assert len(found) <= 1, found
        return found[0] if found else None

    def put(self, path, text):
        """Push something else to it: ``put("/metrics/job/other", "a 1\\n")``."""
        request = urllib.request.Request(
            self.address + path, text.encode(), {"Content-Type": "text/plain"}, method="PUT"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status

    def _get(self, path):
        request = urllib.request.Request(self.address + path)
        if self._protected:
            token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()
