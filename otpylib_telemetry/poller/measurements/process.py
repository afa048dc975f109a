"""What the operating system knows of this process: with psutil where it is installed, else without.

On a page the metrics are those of prometheus_client's ``ProcessCollector``, and ``process_threads``; over
OTLP those of OpenTelemetry's semantic conventions for processes.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import Any, Final, NamedTuple

from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.meters.observed import Observation, ObservedMetric
from otpylib_telemetry.poller.polls import Measured
from otpylib_telemetry.primitives.fork import import_module

NAME: Final = "telemetry.poller.process"

_NOWHERE: Final = ""

CPU: Final = ObservedMetric(
    Kind.COUNTER,
    _NOWHERE,
    "process_cpu_seconds",
    "s",
    "Total user and system CPU time spent in seconds.",
)
CPU_BY_MODE: Final = ObservedMetric(
    Kind.COUNTER,
    "process.cpu.time",
    _NOWHERE,
    "s",
    "Total CPU seconds broken down by different states.",
)
RESIDENT: Final = ObservedMetric(
    Kind.UP_DOWN,
    "process.memory.usage",
    "process_resident_memory_bytes",
    "By",
    "The amount of physical memory in use.",
)
VIRTUAL: Final = ObservedMetric(
    Kind.UP_DOWN,
    "process.memory.virtual",
    "process_virtual_memory_bytes",
    "By",
    "The amount of committed virtual memory.",
)
THREADS: Final = ObservedMetric(
    Kind.UP_DOWN, "process.thread.count", "process_threads", "{thread}", "Process threads count."
)
OPEN: Final = ObservedMetric(
    Kind.UP_DOWN,
    "process.unix.file_descriptor.count",
    "process_open_fds",
    "{file_descriptor}",
    "Number of UNIX file descriptors in use by the process.",
)
MOST_OPEN: Final = ObservedMetric(
    Kind.GAUGE,
    _NOWHERE,
    "process_max_fds",
    "{file_descriptor}",
    "Maximum number of open file descriptors.",
    "livemin",
)
START: Final = ObservedMetric(
    Kind.GAUGE,
    _NOWHERE,
    "process_start_time_seconds",
    "s",
    "Start time of the process since unix epoch in seconds.",
    "livemin",
)
UPTIME: Final = ObservedMetric(
    Kind.GAUGE, "process.uptime", _NOWHERE, "s", "The time the process has been running."
)

# Fields of /proc/<pid>/stat after the name in parentheses: proc(5).
_UTIME, _STIME, _THREADS, _START, _VSIZE, _RSS = 11, 12, 17, 19, 20, 21


class Facts(NamedTuple):
    """What is known of the process; None for what is not."""

    user: float
    system: float
    resident: float | None = None
    virtual: float | None = None
    threads: float | None = None
    open_fds: float | None = None
    most_fds: float | None = None
    started: float | None = None


def measure() -> Measured:
    """Return what there is to say now."""
    return told(facts(), time.time())


def told(found: Facts, now: float) -> Measured:
    """Return facts as measurements of one event, and as observations."""
    observations = [
        Observation(CPU, found.user + found.system),
        Observation(CPU_BY_MODE, found.user, {"cpu.mode": "user"}),
        Observation(CPU_BY_MODE, found.system, {"cpu.mode": "system"}),
    ]
    numbers = {"cpu_seconds": found.user + found.system}
    for key, metric, number in (
        ("resident_memory_bytes", RESIDENT, found.resident),
        ("virtual_memory_bytes", VIRTUAL, found.virtual),
        ("threads", THREADS, found.threads),
        ("open_fds", OPEN, found.open_fds),
        ("max_fds", MOST_OPEN, found.most_fds),
        ("start_time_seconds", START, found.started),
    ):
        if number is not None:
            numbers[key] = number
            observations.append(Observation(metric, number))
    if found.started is not None:
        observations.append(Observation(UPTIME, max(0.0, now - found.started)))
    return Measured([(numbers, {})], observations, [])


def facts() -> Facts:
    """Ask psutil, or else the kernel, or else Python."""
    psutil = _psutil()
    if psutil is not None:
        return _from_psutil(psutil)
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            return _from_proc()
    return _from_python()


def _psutil() -> Any:
    try:
        return import_module("psutil")
    except ImportError:
        return None


def _from_psutil(psutil: Any) -> Facts:
    process = psutil.Process()
    with process.oneshot():
        cpu, memory = process.cpu_times(), process.memory_info()
        return Facts(
            cpu.user,
            cpu.system,
            memory.rss,
            memory.vms,
            process.num_threads(),
            process.num_fds() if hasattr(process, "num_fds") else None,
            _most_fds(),
            process.create_time(),
        )


def _from_proc() -> Facts:
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 - read every few seconds
        fields = file.read().rpartition(b")")[2].split()
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    with open("/proc/stat", "rb") as file:  # noqa: PTH123 - as above
        booted = next((float(line.split()[1]) for line in file if line.startswith(b"btime ")), None)
    return Facts(
        float(fields[_UTIME]) / ticks,
        float(fields[_STIME]) / ticks,
        int(fields[_RSS]) * page,
        int(fields[_VSIZE]),
        int(fields[_THREADS]),
        # The one that reads the directory is no file of the application.
        len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208 - as above
        _most_fds(),
        None if booted is None else booted + float(fields[_START]) / ticks,
    )


def _from_python() -> Facts:
    times = os.times()
    return Facts(times.user, times.system, threads=threading.active_count(), most_fds=_most_fds())


def _most_fds() -> float | None:
    try:
        resource = import_module("resource")
    except ImportError:  # Windows has none
        return None
    most: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if most == resource.RLIM_INFINITY else most
