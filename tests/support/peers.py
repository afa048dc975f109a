"""What happens when a real backend that a test talks to is not installed."""

import os
import shutil
import subprocess

import pytest

from tests.support.waiting import HopelessError

REQUIRED = os.environ.get("OTPYLIB_TELEMETRY_REQUIRE_PEERS", "") not in {"", "0"}


def missing(reason):
    """Skip the test; where every backend has to be there, fail it."""
    if REQUIRED:
        pytest.fail(f"{reason} (and OTPYLIB_TELEMETRY_REQUIRE_PEERS is set)", pytrace=False)
    pytest.skip(reason)


def find_program(name, where_from):
    """The path of a program, or ``missing``."""
    return shutil.which(name) or missing(f"{name} is not installed; it comes with {where_from}")


class PeerProcess:
    """A server program of somebody else's: started here, and stopped by its process id."""

    def __init__(self, command, log, environment=None):
        self.command = [str(part) for part in command]
        self.log = log
        self.environment = {"PATH": os.environ.get("PATH", ""), **(environment or {})}
        self.process = None

    def start(self):
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.log.parent,
            )

    def must_run(self):
        """Raise if it has ended, with the end of what it said."""
        code = self.process.poll()
        if code is not None:
            said = self.log.read_text(encoding="utf-8", errors="replace")[-3000:]
            raise HopelessError(f"{self.command[0]} ended with status {code}:\n{said}")

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, kill=False):
        """End it, politely unless told otherwise, and wait until it is gone."""
        if self.process is None:
            return
        if self.process.poll() is None:
            if kill:
                self.process.kill()
            else:
                self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
