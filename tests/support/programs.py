"""Python programs without the start of an interpreter each: forks of one that has imported what they import.

Beginning and importing is most of what a short program costs. A fork has memory, environment, working
directory and standard files of its own, and ends as an interpreter does. Not for programs that depend on
how their interpreter was started, or that must do without what others have imported.
"""

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

SERVER = Path(__file__).with_name("program_server.py")

#: What has been imported for a program that says the word, because it is going to import it.
IMPORTS = {
    "otpylib": ("otpylib.runtime.backends.asyncio_backend", "otpylib_config"),
    "otpylib_telemetry": ("otpylib_telemetry.exporter.server",),
    "prometheus": (
        "otpylib_telemetry_prometheus.exporter",
        "otpylib_telemetry_prometheus.backend",
        "aiohttp.web",
    ),
    "otel": ("otpylib_telemetry_otel.exporter", "otpylib_telemetry_otel.backend"),
    "from opentelemetry ": ("opentelemetry.metrics", "opentelemetry.trace"),
    "import pytest": ("pytest", "pytest_asyncio"),
}


class _Server:
    """One process that forks, for all the programs of this one that have the same options and imports."""

    def __init__(self, options, imports, env):
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *options, str(SERVER), str(theirs.fileno()), *imports],
                env=env,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def run(self, arguments, cwd, env, files, timeout):
        """Return the exit status of a program."""
        asked = {"arguments": arguments, "cwd": str(cwd), "env": env}
        self._requests.settimeout(timeout)
        socket.send_fds(self._requests, [json.dumps(asked).encode()], [file.fileno() for file in files])
        answer = self._requests.recv(100)
        if not answer:
            raise ChildProcessError(f"{SERVER.name} has ended")
        return int(answer)

    def stop(self):
        """End it, and what runs in a fork of it."""
        self._requests.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


_servers = {}


@atexit.register
def _stop_all():
    while _servers:
        _servers.popitem()[1].stop()


def run(arguments, *, cwd, env, timeout, options=(), about):
    """Do what ``subprocess.run`` does with ``python *options *arguments``, and capture what is written.

    What the program says, or is ``about``, tells what it is going to import.
    """
    arguments = [str(each) for each in arguments]
    imports = tuple(module for word, modules in IMPORTS.items() if word in about for module in modules)
    key = (options, imports, env["PYTHONPATH"])
    if key not in _servers:
        _servers[key] = _Server(options, imports, env)
    with (
        Path(os.devnull).open("rb") as nothing,
        tempfile.TemporaryFile("w+", encoding="utf-8") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8") as err,
    ):
        try:
            status = _servers[key].run(arguments, cwd, env, (nothing, out, err), timeout)
        except BaseException:
            _servers.pop(key).stop()
            raise
        finally:
            for file in (out, err):
                file.seek(0)
            done = subprocess.CompletedProcess(arguments, None, out.read(), err.read())
        done.returncode = status
    return done
