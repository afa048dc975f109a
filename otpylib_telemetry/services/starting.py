"""Which services are to run: those for whose section anything is set, in every runtime that has an exporter.

Exporters, and the suite, look here: when they start, when otpylib-config comes, when it tells of a change,
and once in a while whether a service that should run does. A service is one process per runtime, whoever
found that it is wanted, and goes on when that one crashes. One that the application starts itself, in a
supervision tree of its own, takes the place of one that was started from here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any, Final

from otpylib import process
from otpylib.runtime import get_runtime

from otpylib_telemetry import otp
from otpylib_telemetry.config import otpylib_config, sections
from otpylib_telemetry.config.environment import section_prefix
from otpylib_telemetry.primitives.fork import after_fork_in_child
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.services.known import SERVICES, KnownService

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger("otpylib_telemetry")

#: Seconds that a process which gives way may take to end.
_GIVING_WAY: Final = 5.0

#: Seconds that otpylib-config may take to answer; then it is asked again.
_ANSWERING: Final = 10.0

#: By section, the service that reads it.
_services: dict[str, KnownService] = {each.section: each for each in SERVICES}
sections.declared.update(section.removeprefix("telemetry.") for section in _services)


class _Runtime:
    """What is known of the services of one runtime."""

    def __init__(self, runtime: object) -> None:
        self.runtime = runtime
        self.wanted: dict[str, KnownService] = {}
        #: Services that were started from here, by name.
        self.started: dict[str, Any] = {}
        self.starting: dict[str, asyncio.Task[None]] = {}
        #: Set where a service goes by what its section says, by name.
        self.at_rest: dict[str, asyncio.Event] = {}
        #: Exporters that are asking otpylib-config what is wanted.
        self.asking: set[asyncio.Task[None]] = set()
        #: Which config manager each exporter has asked.
        self.asked: dict[str, Any] = {}
        self.trouble = Once()


_known = _Runtime(None)


def register(module: Any) -> None:
    """Have a service started wherever its section says anything."""
    _services[module.section] = KnownService(
        module.section, module.registered_name, module.settings_type.model_fields, module=module
    )
    sections.declared.add(module.section.removeprefix("telemetry."))


def registered() -> Mapping[str, KnownService]:
    """Return the services there are, by their sections without ``telemetry.``."""
    return {section.removeprefix("telemetry."): service for section, service in _services.items()}


def want(section: str) -> None:
    """Have a service run in every runtime that has an exporter, though nothing is set for its section."""
    service = _services[section]
    _always[service.registered_name] = service


#: Services that are wanted in every runtime.
_always: dict[str, KnownService] = {}


def watch(exporter: str, loop: asyncio.AbstractEventLoop) -> None:
    """Look what is wanted and whether it runs; to be called by an exporter from time to time."""
    here = _here()
    manager = otpylib_config.manager()
    if here.asked.get(exporter, here) != manager:
        here.asked[exporter] = manager
        for service in _services.values():
            if _is_in_environment(service.section):
                here.wanted[service.registered_name] = service
        if manager is not None:
            asking = otp.run_in_background(loop, _ask(exporter, manager, loop), name=f"{exporter} services")
            here.asking.add(asking)
            asking.add_done_callback(here.asking.discard)
    _start_wanted(here, loop)


def _start_wanted(here: _Runtime, loop: asyncio.AbstractEventLoop) -> None:
    for service in {**_always, **here.wanted}.values():
        _start_soon(here, loop, service)


def _start_soon(
    here: _Runtime, loop: asyncio.AbstractEventLoop, service: KnownService, path: str | None = None
) -> None:
    name = service.registered_name
    if otp.whereis(name) is None and name not in here.starting and not otp.is_shut_down():
        work = _start(here, service, path)
        here.starting[name] = otp.run_in_background(loop, work, name=f"start of {name}")


def noticed(path: object, loop: asyncio.AbstractEventLoop) -> bool:
    """Hear that a path of otpylib-config changed; returns whether it is one of a service's section."""
    if type(path) is not str:
        return False
    section = next((each for each in _services if path == each or path.startswith(f"{each}.")), None)
    if section is None:
        return False
    here, service = _here(), _services[section]
    here.wanted.setdefault(service.registered_name, service)
    _start_soon(here, loop, service, path)
    return True


def begun(name: str, at_rest: asyncio.Event) -> None:
    """Hear that a service begins, and of the event that is set while it goes by what its section says."""
    _here().at_rest[name] = at_rest


async def settled(seconds: float) -> None:
    """Wait until the services that are wanted go by their sections, but never longer than this.

    So what an application does as soon as its supervision tree is up is seen already.
    """
    here = _here()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while pending := {*here.asking, *here.starting.values()}:
                await asyncio.wait(pending)
                # What a task has left to be done when it is done is done by then.
                await asyncio.sleep(0)
            for name in {**_always, **here.wanted}:
                if (at_rest := here.at_rest.get(name)) is not None:
                    await at_rest.wait()


async def give_way(name: str) -> None:
    """End the service of this name that was started from here: somebody else starts it now."""
    here = _here()
    if (task := here.starting.get(name)) is not None:
        await asyncio.wait({task}, timeout=_GIVING_WAY)
    await _end_started(here, name)


async def take_over(name: str) -> None:
    """Have the calling process be the service of this name, in place of the one started from here."""
    here = _here()
    me = process.self()
    if here.started.get(name) in {None, me}:
        return
    await _end_started(here, name)
    # otpylib takes a name from whoever bears it when another one with it ends.
    if otp.whereis(name) is None:
        await process.register(name, me)


async def _end_started(here: _Runtime, name: str) -> None:
    pid = here.started.pop(name, None)
    task = None if pid is None else otp.task_of(pid)
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_GIVING_WAY)
        await asyncio.sleep(0)


def _here() -> _Runtime:
    global _known  # noqa: PLW0603 - a runtime follows another
    runtime = get_runtime()
    if _known.runtime is not runtime:
        _known = _Runtime(runtime)
    return _known


def _is_in_environment(section: str) -> bool:
    prefix = section_prefix(section)
    return any(name.startswith(prefix) and value.strip() for name, value in os.environ.items())


async def _ask(exporter: str, manager: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Find out which sections say anything, and hear of those that do later."""
    here = _here()
    try:
        async with asyncio.timeout(_ANSWERING):
            for section, service in _services.items():
                await otpylib_config.subscribe(exporter, section)
                if await otpylib_config.read_section(section, service.keys):
                    here.wanted[service.registered_name] = service
        _start_wanted(here, loop)
    except Exception:  # noqa: BLE001 - whoever reads a section of its own says so: the next look asks again
        if here.asked.get(exporter) == manager:
            del here.asked[exporter]


async def _start(here: _Runtime, service: KnownService, path: str | None) -> None:
    name = service.registered_name
    try:
        module = await service.load_in_thread()
        pid = here.started[name] = await otp.start_server(module, None, name, link=False)
        here.trouble.over(name)
        if path is not None:
            await process.send(pid, (otpylib_config.NOTICE, path))
    except Exception as error:  # noqa: BLE001 - tried again at the next look
        if otp.whereis(name) is None and here.trouble.is_news(name):
            _log.warning("%s did not start (%s); it is tried again until it does.", name, error)
    finally:
        here.starting.pop(name, None)


def forget() -> None:
    """Forget what is wanted; for tests, which start from nothing."""
    global _known  # noqa: PLW0603 - as above
    _known = _Runtime(None)
    _always.clear()


def _after_fork() -> None:
    global _known  # noqa: PLW0603 - as above
    _known = _Runtime(None)


after_fork_in_child(_after_fork)
