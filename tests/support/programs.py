"""Python programs without the start of an interpreter each: forks of one that has imported what they import.

Beginning and importing is most of what a short program costs. A fork has memory, environment, working
directory and standard files of its own, and ends as an interpreter does. Not for programs that depend on
how their interpreter was started, or that must do without what others have imported.
"""

import atexit
import concurrent.futures
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]
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
    "otel": (
        "otpylib_telemetry_otel.exporter",
        "otpylib_telemetry_otel.backend",
        "otpylib_telemetry_otel.otlp.encoder",
        *(
            f"opentelemetry.proto.collector.{signal}.v1.{signal}_service_pb2"
            for signal in ("logs", "metrics", "trace")
        ),
        "opentelemetry.sdk.metrics.export",
        "opentelemetry.sdk.trace",
        "google.rpc.error_details_pb2",
        "google.rpc.status_pb2",
        "google.protobuf.json_format",
        "otpylib_telemetry_otel.otlp.grpc_import",
        "psutil",
        "urllib3",
    ),
    "from opentelemetry ": ("opentelemetry.metrics", "opentelemetry.trace"),
    "benchmarks": ("benchmarks.endpoint", "benchmarks.meters", "benchmarks.sizing"),
    "celery": ("celery.bin.celery", "celery.apps.worker", "celery.concurrency.prefork"),
    "plain pytest": ("pytest", "execnet"),
    "import pytest": ("pytest", "pytest_asyncio"),
}

#: What an application says that has both exporters.
APPLICATION = "otpylib otpylib_telemetry prometheus otel from opentelemetry "


class Program:
    """A program that was begun, with what ``subprocess.Popen`` has for a child of this process."""

    def __init__(self, arguments, pid, outcome, stdin, stdout, stderr):
        self.args = arguments
        self.pid = pid
        self.returncode = None
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self._outcome = outcome

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        self.wait()

    def poll(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self._outcome], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            with self._outcome:
                said = self._outcome.read()
            if not said:
                raise ChildProcessError(f"{SERVER.name} has ended")
            self.returncode = int(said)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def communicate(self, said=None, timeout=None):
        """Write to it, and return what it writes until it ends; kill it if that takes too long."""
        with concurrent.futures.ThreadPoolExecutor(2) as readers:
            pipes = (self.stdout, self.stderr)
            read = [readers.submit(_read, pipe) if pipe and not pipe.closed else None for pipe in pipes]
            if self.stdin and not self.stdin.closed:
                with contextlib.suppress(BrokenPipeError), self.stdin:
                    self.stdin.write(said or "")
            try:
                self.wait(timeout)
            except BaseException:
                self.kill()
                raise
        return tuple(each and each.result() for each in read)


def _read(pipe):
    with pipe:
        return pipe.read()


class _Server:
    """One process that forks, for all the programs of this one that have the same imports and path."""

    def __init__(self, imports, path):
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(SERVER), str(theirs.fileno()), *imports],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([*path, str(ROOT)])},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def start(self, asked, files):
        """Begin a program; return its process id, and a file that says how it ends."""
        outcome, told = os.pipe()
        try:
            with self._lock:
                socket.send_fds(self._requests, [json.dumps(asked).encode()], [*files, told])
                pid = self._requests.recv(100)
        finally:
            os.close(told)
        if not pid:
            raise ChildProcessError(f"{SERVER.name} has ended")
        return int(pid), os.fdopen(outcome, "rb")

    def stop(self):
        """End it, and what runs in a fork of it."""
        self._requests.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


_servers = {}
_one_at_a_time = threading.Lock()


@atexit.register
def _stop_all():
    while _servers:
        _servers.popitem()[1].stop()


def start(
    arguments,
    *,
    cwd=ROOT,
    env=None,
    options=(),
    about=APPLICATION,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
):
    """Do what ``subprocess.Popen`` does with ``python *options *arguments``; an option is -W.

    What the program says, or is ``about``, tells what it is going to import.
    """
    arguments = [str(each) for each in arguments]
    if not hasattr(os, "pidfd_open"):  # of Linux alone
        command, files = [sys.executable, *options, *arguments], {"stdin": stdin, "stdout": stdout}
        return subprocess.Popen(command, cwd=cwd, env=env, **files, stderr=stderr, encoding="utf-8")
    imports = tuple(module for word, modules in IMPORTS.items() if word in about for module in modules)
    env = env or {**os.environ}
    path = tuple(each for each in env.get("PYTHONPATH", "").split(os.pathsep) if each not in {"", str(ROOT)})
    with _one_at_a_time:
        if (imports, path) not in _servers:
            _servers[imports, path] = _Server(imports, path)
    asked = {"arguments": arguments, "cwd": str(cwd), "env": env, "warnings": options[1::2]}
    theirs, ours = [], []
    with contextlib.ExitStack() as begun:
        for file, mode in ((stdin, "w"), (stdout, "r"), (stderr, "r")):
            pipe = None
            if file == subprocess.DEVNULL:
                file = begun.enter_context(Path(os.devnull).open("r+b"))  # noqa: PLW2901
            elif file == subprocess.PIPE:
                ends = os.pipe()
                mine, other = reversed(ends) if mode == "w" else ends
                pipe = os.fdopen(mine, mode, encoding="utf-8")
                file = begun.enter_context(os.fdopen(other, "rb" if mode == "w" else "wb"))  # noqa: PLW2901
            theirs.append(theirs[1] if file == subprocess.STDOUT else file.fileno())
            ours.append(pipe)
        return Program(arguments, *_servers[imports, path].start(asked, theirs), *ours)


def run(arguments, *, timeout, **about):
    """Do what ``subprocess.run`` does, as ``start`` does, and capture what is written."""
    program = start(arguments, **about)
    with program:
        said = program.communicate(timeout=timeout)
    return subprocess.CompletedProcess(arguments, program.returncode, *said)
