"""Workers that count jobs, their loop on a daemon thread, and that end in every orderly way there is.

``python -m tests.support.worker_app HOW METHOD DIRECTORY``; METHOD is how multiprocessing starts children.
"""

import asyncio
import concurrent.futures
import multiprocessing
import os
import sys
import threading
from pathlib import Path

from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import Exporter, ExporterSettings, execute, exporter_module, start_exporter
from otpylib_telemetry_prometheus import start_prometheus_exporter

DIRECTORY = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")

JOBS = 20


class Lines(Exporter[ExporterSettings]):
    """Appends to a file."""

    async def export(self, batch):
        """Append the names."""
        with Path(DIRECTORY, "lines").open("a") as file:
            file.writelines(f"{event.name}\n" for event in batch)


LinesExporter = exporter_module(
    "LinesExporter", Lines, name="lines_exporter", section="telemetry.lines", module=__name__
)


async def start():
    """Start both exporters; neither would export by itself for a long time."""
    runtime = AsyncIOBackend()
    await runtime.initialize()
    set_runtime(runtime)
    slow = {"flush_interval": 3600, "batch_size": 10_000, "event_patterns": ["jobs.*"]}
    await start_exporter(LinesExporter, slow)
    await start_prometheus_exporter({**slow, "serve": False, "self_metrics": False})


def start_on_a_thread(*_):
    """Start them on a thread, as an application without an event loop does."""
    ready = threading.Event()

    async def run():
        await start()
        ready.set()
        await asyncio.Event().wait()

    threading.Thread(target=asyncio.run, args=(run(),), daemon=True).start()
    assert ready.wait(60)


def job(number):
    """Do one job."""
    execute("jobs.done", {"count": 1})
    return number


def jobs():
    """Do all of them in a process of their own."""
    start_on_a_thread()
    for number in range(JOBS):
        job(number)


def jobs_and_wait():
    """Do them, and live until killed."""
    jobs()
    sys.stdin.readline()


def failing_jobs():
    """End with an exception."""
    jobs()
    raise SystemExit(5)


def jobs_on_a_thread():
    """Do them on a thread that outlasts the main one."""
    start_on_a_thread()
    returning = threading.Event()

    def late():
        returning.wait()
        for number in range(JOBS):
            job(number)

    threading.Thread(target=late).start()
    multiprocessing.util.Finalize(None, returning.set, exitpriority=1)


def jobs_on_a_stopped_loop():
    """Leave a loop that was not closed."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(start())
    for number in range(JOBS):
        job(number)


def jobs_on_a_closed_loop():
    """Leave a loop that was closed before anybody ended what ran on it."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_started())
    for number in range(JOBS):
        job(number)
    loop.close()


async def _started():
    await start()
    while not Path(DIRECTORY, "otpylib-prometheus_exporter").exists():
        await asyncio.sleep(0.01)


def main(how, method):
    """Do the jobs in children, or here."""
    context = multiprocessing.get_context(method)
    if how == "wait":
        jobs_and_wait()
    elif how == "pool":
        with context.Pool(2, start_on_a_thread, maxtasksperchild=JOBS // 4) as pool:
            pool.map(job, range(JOBS), chunksize=1)
            pool.close()
            pool.join()
    elif how == "executor":
        with concurrent.futures.ProcessPoolExecutor(2, context, start_on_a_thread) as executor:
            list(executor.map(job, range(JOBS)))
    elif how == "here":
        jobs()
    elif how == "os.fork":
        child = os.fork()
        if child == 0:
            jobs()
            sys.exit(0)
        os.waitpid(child, 0)
    else:
        child = context.Process(target=globals()[how])
        child.start()
        child.join()
        sys.stdout.write(f"{child.exitcode}\n")


if __name__ == "__main__":
    main(*sys.argv[1:3])
