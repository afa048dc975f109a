"""A real application in a process of its own, which a test operates by the command alone."""

import contextlib
import io
import json
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from otpylib_telemetry.command.main import main
from tests.support import programs
from tests.support.waiting import HopelessError, wait_until

ROOT = Path(__file__).parents[2]

#: What a test's own surroundings must not say to the command or to the application.
FOREIGN = ("OTEL_", "TELEMETRY_", "COLUMNS", "LINES")

ADMIN = '[telemetry.admin]\nenabled = true\nsocket = "admin.sock"\n'


class Said(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def said(*arguments):
    """Run the command in this process; give exit status, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(each) for each in arguments])
    return Said(status, out.getvalue(), err.getvalue())


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **more}


class Application:
    """``tests.support.operated_app`` in a directory, whose ``config.toml`` it goes by."""

    def __init__(self, directory, configuration, **variables):
        self.directory = directory
        self.file = directory / "config.toml"
        self.file.write_text(configuration, encoding="utf-8")
        self.socket = directory / "admin.sock"
        self.log = directory / "app.log"
        self.variables = variables
        self.process = None
        self._run()

    def _run(self):
        with self.log.open("a") as log:
            self.process = programs.start(
                ["-m", "tests.support.operated_app"],
                cwd=self.directory,
                env=environment(**self.variables),
                stdin=subprocess.PIPE,
                stderr=log,
            )

    def start(self):
        self._wait_for("ready")
        wait_until(lambda: self.alive() and said("--socket", self.socket, "status").status != 2, 120)
        wait_until(self.is_up, 120, "every exporter has started")

    def alive(self):
        if self.process.poll() is not None:
            raise HopelessError(self.log.read_text())
        return True

    def is_up(self):
        found = said("--socket", self.socket, "status", "--json")
        exporters = found.json.get("exporters") if found.out.startswith("{") else None
        return bool(exporters) and all(each["state"] != "starting" for each in exporters)

    def do(self, what, count=1):
        self.process.stdin.write(f"{what} {count}\n")
        self.process.stdin.flush()
        self._wait_for("done")

    def _wait_for(self, word):
        # otpylib-config prints lines of its own.
        for line in self.process.stdout:
            if line.strip() == word:
                return
        raise AssertionError(self.log.read_text())

    def start_again(self):
        """Run again in the same place after an end."""
        self._run()
        self.start()

    def close(self, *, kill=False):
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        self.process.wait(60)
        self.process.stdin.close()
        self.process.stdout.close()


@contextlib.contextmanager
def operated(directory, configuration, **variables):
    """Have the application run meanwhile."""
    found = Application(directory, configuration, **variables)
    try:
        found.start()
        yield found
    finally:
        found.close()
