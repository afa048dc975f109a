"""Celery for real, with the modules that its page shows: children that are replaced lose nothing."""

import contextlib
import os
import subprocess

import pytest

from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from tests.project.test_docs import ROOT, blocks_of
from tests.support import programs
from tests.support.shared_metrics import page, their_page
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="celery's pool needs fork")
pytest.importorskip("celery")

PAGE = ROOT / "docs" / "how-to" / "operate" / "celery.md"
MODULES = {block.title: block.text for block in blocks_of(PAGE) if block.language == "python"}
TASKS = 24

#: The module of the page with a broker that needs no server, and children that are replaced often.
QUICK = """
from {module} import app, parcel
from {module} import *
app.conf.update(
    broker_url="filesystem://",
    broker_transport_options=dict.fromkeys(
        ["data_folder_in", "data_folder_out", "control_folder"], {queue!r}
    ),
    worker_max_tasks_per_child=4,
)
"""


class Celery:
    """A worker, as long as it is entered."""

    def __init__(self, module, directory, *options):
        self.directory = directory
        self.metrics = directory / "metrics"
        self.port = free_port()
        (directory / "queue").mkdir()
        text = MODULES[f"{module}.py"].replace("9464", str(self.port))
        (directory / f"{module}.py").write_text(text)
        (directory / "quick.py").write_text(QUICK.format(module=module, queue=str(directory / "queue")))
        self._log = directory / "celery.log"
        self._about = {
            "cwd": directory,
            "env": {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(self.metrics)},
            "options": ("-W", "ignore"),
            "about": programs.APPLICATION + "celery",
        }
        command = "-m celery --app quick worker --concurrency 2 --loglevel warning --without-gossip"
        command += " --without-mingle --without-heartbeat"
        with self._log.open("wb") as log:
            self.process = programs.start([*command.split(), *options], stdout=log, stderr=log, **self._about)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.process.terminate()
        # Celery's parent may wait for ever: it has its children killed while one of them holds a lock.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()

    def __str__(self):
        return self._log.read_text()[-3000:]

    def send(self):
        code = f"import quick\nfor number in range({TASKS}): quick.parcel.delay(number)"
        done = programs.run(["-c", code], timeout=120, **self._about)
        assert done.returncode == 0, done.stderr


def total(found, name):
    _, _, samples = found.get(name.removesuffix("_total").removesuffix("_count"), ("", "", {}))
    return sum(value for (sample, _), value in samples.items() if sample == name)


@pytest.mark.parametrize("options", [(), ("--pool", "threads")], ids=["prefork", "threads"])
def test_children_with_an_exporter(options, tmp_path):
    name = "shop_parcel_duration_seconds_count"
    if options:
        text = MODULES["tasks.py"].replace("worker_process_init", "worker_init")
        MODULES["threads.py"] = text
    with Celery("threads" if options else "tasks", tmp_path, *options) as worker:
        worker.send()
        wait_until(lambda: total(page(worker.metrics), name) == TASKS, 120, worker)
    assert total(page(worker.metrics), name) == TASKS
    assert "Traceback" not in str(worker)


def test_children_without_an_exporter(tmp_path):
    with Celery("meters", tmp_path) as worker:
        worker.metrics.mkdir()
        worker.send()
        wait_until(lambda: total(their_page(worker.metrics), "shop_parcels_total") == TASKS, 120, worker)
    assert total(their_page(worker.metrics), "shop_parcels_total") == TASKS
    assert total(page(worker.metrics), "shop_parcels_total") == TASKS
    assert "Traceback" not in str(worker)
