"""The processes that the API asks: exporters and services, by name and by section."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry import otp
from otpylib_telemetry.admin.problems import ProblemError
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.services import starting

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Seconds that a process may take to answer what takes no time.
PATIENCE: Final = 5.0

#: Seconds beyond the time that a process was given for something.
GRACE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Process:
    """A process with a configuration section."""

    name: str
    section: str
    is_exporter: bool

    @property
    def short(self) -> str:
        """The section as keys have it: without ``telemetry.``."""
        return self.section.removeprefix("telemetry.")


class SilentError(Exception):
    """A process did not answer, or with an error; the message says which and why."""


def has_ended(name: str) -> bool:
    """Tell whether the process of an exporter is gone, though what it held is still worked on."""
    here = asyncio.get_running_loop()
    loops = [each.loop for each in registry.running() if each.state.name == name]
    return here in loops and otp.whereis(name) is None


def exporters() -> list[Process]:
    """Return the exporters that run."""
    return _running(Process(each.state.name, each.configuration.section, True) for each in registry.running())


def services() -> list[Process]:
    """Return the services that run."""
    return _running(
        Process(each.registered_name, each.section, False) for each in starting.registered().values()
    )


def _running(known: Iterable[Process]) -> list[Process]:
    return sorted((each for each in known if otp.whereis(each.name) is not None), key=lambda each: each.name)


def everything() -> list[Process]:
    """Return every process with a section."""
    return [*exporters(), *services()]


def exporter_named(name: str) -> Process:
    """Return an exporter by its registered name or by its section; ProblemError if there is none."""
    running = exporters()
    for each in running:
        if name in {each.name, each.short, each.section}:
            return each
    raise ProblemError(
        HTTPStatus.NOT_FOUND,
        f"no exporter {name[:200]!r} runs in this process",
        where="path: exporter",
        expected=", ".join(each.name for each in running) or "none runs",
    )


async def ask(process: Process, message: tuple[Any, ...], seconds: float = PATIENCE) -> Any:
    """Return what a process answers to a call; SilentError if it has none."""
    try:
        answer = await otp.safe_call(process.name, message, timeout=seconds)
    except Exception as error:
        raise SilentError(f"{process.name} does not answer ({describe(error)})") from error
    if type(answer) is tuple and len(answer) == 2 and answer[0] == "error":  # noqa: PLR2004
        raise SilentError(f"{process.name}: {answer[1]}")
    return answer


async def ask_all(
    processes: Iterable[Process], message: tuple[Any, ...], seconds: float = PATIENCE
) -> list[tuple[Process, Any]]:
    """Ask several at the same time; what raised SilentError stands in place of an answer."""
    asked = list(processes)
    answers = await asyncio.gather(*(ask(each, message, seconds) for each in asked), return_exceptions=True)
    for each in answers:
        if isinstance(each, BaseException) and not isinstance(each, SilentError):
            raise each
    return list(zip(asked, answers, strict=True))
