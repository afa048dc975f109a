"""Ways into a supervision tree: child specs, and the suite's own supervisor."""

from __future__ import annotations

import asyncio
import difflib
import logging
import os
from collections.abc import Mapping
from typing import Any

from otpylib import supervisor

from otpylib_telemetry import otp
from otpylib_telemetry.bus.manager import MANAGER, TelemetryManager
from otpylib_telemetry.config import otpylib_config, resolve, sections
from otpylib_telemetry.config.environment import KIND, is_name
from otpylib_telemetry.config.sections import registered_exporters
from otpylib_telemetry.exporter.server import instance_of
from otpylib_telemetry.primitives.fork import importing
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.services import starting
from otpylib_telemetry.supervision.specs import checked_argument, said_before_raised
from otpylib_telemetry.supervision.supervisor import Child, Supervision, Watcher, supervisor_module

_log = logging.getLogger("otpylib_telemetry")


#: The name the suite's supervisor is registered under.
SUITE = "telemetry_sup"


_LOOK_AGAIN = "telemetry_look_again"

_FOUND = "telemetry_found"


#: Seconds to wait for otpylib-config before the suite is up without what it says.
_FIRST_LOOK = 2.0


#: Seconds between two looks for a config manager that was not there.
_LOOK_INTERVAL = 1.0


def child_spec(settings: Mapping[str, Any] | None = None) -> Any:
    """Return a child spec for the whole suite: the manager and every exporter that configuration enables.

    An exporter is enabled by anything that is set for it alone: its section of ``config.toml``, an
    environment variable with its name or one of a standard that it follows, an entry in ``settings``; unless
    its ``enabled`` is false. What is set for all exporters enables none. A section with a ``kind`` is a
    further instance of that exporter. One that configuration enables later is started then.

    Args:
        settings: Section name to start argument, for instance ``{"otel": {"service_name": "shop"}, "audit":
            {"kind": "otel", "endpoint": "http://audit:4317"}}``.

    Returns:
        A ``supervisor.child_spec``.

    Raises:
        ValueError: A section nobody registered, an unknown kind, or a wrong argument.
    """
    return supervisor.child_spec(
        id=SUITE, module=TelemetrySupervisor, args=_checked_suite(settings), name=SUITE
    )


async def start_link(settings: Mapping[str, Any] | None = None) -> Any:
    """Start the suite's supervisor; from anywhere a runtime is set, linked if called from a process.

    Args:
        settings: As for :func:`child_spec`.

    Returns:
        The supervisor's pid.

    Raises:
        ValueError: As for :func:`child_spec`.
        RuntimeError: No otpylib runtime is set.
    """
    return await TelemetrySupervisor.start_link(init_arg=_checked_suite(settings), name=SUITE)


@said_before_raised()
def _checked_suite(settings: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    known = registered_exporters()
    checked = {}
    if settings is not None and not isinstance(settings, Mapping):
        # Callers are promised one kind of exception.
        raise ValueError(f"settings: a table of sections was expected, not {type(settings).__name__}")
    for section, argument in ({} if settings is None else settings).items():
        kind = argument.get(KIND) if isinstance(argument, Mapping) else None
        kind = sections.kind_named(kind) if isinstance(kind, str) else kind
        if section in starting.registered():
            checked[section] = checked_argument(starting.registered()[section].load(), argument)
            continue
        if section in known and kind in {None, section}:
            checked[section] = checked_argument(load_exporter(section, known[section]), argument)
            continue
        if section in known or (kind is not None and kind not in known):
            raise ValueError(f"{section!r} cannot be of the kind {kind!r}; {_there_is(known)}")
        if kind is None:
            raise ValueError(
                f"no exporter is registered for {section!r}; {_there_is(known)}{_nearest(section, known)} "
                "A further instance of one names it as its kind."
            )
        checked[section] = checked_argument(instance_of(load_exporter(kind, known[kind]), section), argument)
    return checked


def load_exporter(name: str, entry: Any) -> Any:
    """Return the GenServer class that a package registers under a name; ValueError if it is none."""
    with importing():
        module = entry.load()
    called = getattr(module, "__name__", type(module).__name__)
    if not hasattr(module, "exporter_type"):
        raise ValueError(
            f"{called} is registered as {name!r} and is no exporter's process; "
            "register what exporter_module(...) returns"
        )
    if module.section != f"telemetry.{name}":
        raise ValueError(
            f"{called} is registered as {name!r} and reads the section {module.section}; "
            f"register it as {module.section.removeprefix('telemetry.')!r}"
        )
    return module


def _nearest(section: object, known: Mapping[str, Any]) -> str:
    names = [*known, *starting.registered()]
    near = difflib.get_close_matches(section, names, n=1) if isinstance(section, str) else []
    return f"; did you mean {near[0]!r}?" if near else "."


def _there_is(known: Mapping[str, Any]) -> str:
    return f"there is {', '.join(sorted(known)) or 'none at all'}"


class _Suite(Watcher):
    """Finds out which exporters configuration enables, and has them started."""

    #: Changes of configuration are reported to the suite under its name.
    registered = SUITE

    def __init__(self, settings: Mapping[str, dict[str, Any]]) -> None:
        self.settings = settings
        self.manager: Any = None
        self.looking: asyncio.Task[None] | None = None
        self.again = False
        self.trouble = Once()
        self.found: list[Child] = []
        # Sections that something was heard of: not every source can be asked for all it has.
        self.heard: set[str] = set()

    async def prepare(self, supervision: Supervision) -> None:
        """Start what is enabled already, so that it is there when the suite is up."""
        supervision.process.post((_LOOK_AGAIN,))
        await asyncio.wait({self.look(supervision)}, timeout=_FIRST_LOOK)
        for child in self.found:
            await supervision.add(child)

    async def on_message(self, supervision: Supervision, message: Any) -> None:
        if otp.is_request(message, _LOOK_AGAIN):
            starting.watch(SUITE, supervision.process.loop)
            if otpylib_config.manager() != self.manager:
                self.look(supervision)
            supervision.process.post_later(_LOOK_INTERVAL, (_LOOK_AGAIN,))
        elif otp.is_request(message, otpylib_config.NOTICE, 2):
            starting.noticed(message[1], supervision.process.loop)
            self.hear(message[1])
            self.look(supervision)
        elif otp.is_request(message, _FOUND, 2):
            for child in message[1]:
                await supervision.add(child)

    def hear(self, path: object) -> None:
        """Remember the section a changed path belongs to."""
        parts = path.split(".") if type(path) is str else []
        if len(parts) > 2 and parts[2] == KIND and is_name(parts[1]):  # noqa: PLR2004  # telemetry.x.kind
            self.heard.add(parts[1])

    def look(self, supervision: Supervision) -> asyncio.Task[None]:
        self.again = True
        looking = self.looking
        if looking is None or looking.done():
            work = self._look(supervision)
            looking = otp.run_in_background(supervision.process.loop, work, name="telemetry suite")
            self.looking = looking
        return looking

    async def _look(self, supervision: Supervision) -> None:
        while self.again:
            self.again = False
            manager = otpylib_config.manager()
            try:
                if manager is not None and manager != self.manager:
                    await otpylib_config.subscribe(SUITE, "telemetry")
                self.found = await self._find(supervision, manager)
            except Exception as error:  # noqa: BLE001  # a config manager that went away meanwhile
                if self.trouble.is_news():
                    _log.warning(
                        "The telemetry configuration could not be read (%s); it is tried again.", error
                    )
                self.manager = None
                return
            self.manager = manager
            self.trouble.over()
            supervision.process.post((_FOUND, self.found))

    async def _find(self, supervision: Supervision, manager: Any) -> list[Child]:
        tables = {} if manager is None else sections.written()
        exporters = registered_exporters()
        kinds = {name: name for name in exporters}
        for name, kind in (await self._instances(tables, manager)).items():
            if kind in exporters:
                kinds.setdefault(name, kind)
        found = []
        for name, kind in kinds.items():
            child = await self._wanted(name, kind, exporters[kind], manager, is_written=name in tables)
            if child is not None and child.name not in supervision.children:
                found.append(child)
        if manager is not None:
            sections.report(kinds)
        return found

    async def _instances(self, tables: Mapping[str, Any], manager: Any) -> dict[str, str]:
        """Return the sections that say whose instance they are; what says it most strongly counts."""
        found = sections.kinds_in_environment(os.environ)
        for name in {*sections.kinds_in_tables(tables), *self.heard} if manager is not None else ():
            kind = await otpylib_config.read_value(f"telemetry.{name}.{KIND}")
            if isinstance(kind, str):
                found[name] = sections.kind_named(kind)
        for name, argument in self.settings.items():
            if KIND in argument:
                found[name] = sections.kind_named(argument[KIND])
        return found

    async def _wanted(
        self, name: str, kind: str, entry: Any, manager: Any, *, is_written: bool
    ) -> Child | None:
        """Return the child for a section if anything enables it."""
        try:
            module = load_exporter(kind, entry)
            if name != kind:
                module = instance_of(module, name)
            settings_type = module.exporter_type.settings_type
        except Exception as error:  # noqa: BLE001  # somebody else's package
            if _unloadable.is_news(name):
                _log.warning("The exporter for section telemetry.%s cannot be used: %s", name, error)
            return None
        values: Mapping[str, Any] = {}
        if manager is not None:
            values = await otpylib_config.read_section(module.section, settings_type.model_fields)
        argument = self.settings.get(name)
        resolution = resolve.resolve(
            settings_type, module.section, environ=os.environ, config=values, argument=argument or {}
        )
        is_set = argument is not None or is_written or name != kind or sections.is_meant(resolution)
        if not is_set or not resolution.settings.enabled:
            return None
        return Child(module.registered_name, module, argument or {})


# Sections whose exporter could not be loaded, which was said.
_unloadable = Once()


def _plan_suite(settings: Mapping[str, dict[str, Any]] | None) -> tuple[list[Child], _Suite]:
    settings = settings or {}
    services = [
        Child(service.registered_name, service.load(), settings[section])
        for section, service in starting.registered().items()
        if section in settings
    ]
    exporters = {name: settings[name] for name in settings if name not in starting.registered()}
    return [Child(MANAGER, TelemetryManager), *services], _Suite(exporters)


TelemetrySupervisor = supervisor_module(
    __name__, "TelemetrySupervisor", "Supervisor of the whole suite; see :func:`child_spec`.", _plan_suite
)
