"""What is wrong with a configuration file, in the words of the exporters that would read it.

The file goes the way it goes in an application: through a :class:`TomlSource` into a :class:`LiveConfig` for
each section. Only otpylib-config, which hands it from one to the other, is left out.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from otpylib_telemetry.command.known import Known, known_sections
from otpylib_telemetry.command.lines import line_of
from otpylib_telemetry.config import sections
from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry.config.toml_source import TomlSource
from otpylib_telemetry.primitives.errors import describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otpylib_telemetry.config.resolution import Problem
    from otpylib_telemetry.exporter.probe import Probe

Level: TypeAlias = Literal["error", "warning"]

_LINE: Final = re.compile(r"\bline (\d+)")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong; ``key`` is in full, ``line`` that of the file, and either may be missing."""

    level: Level
    message: str
    key: str = ""
    line: int | None = None


@dataclass(slots=True)
class Section:
    """One section as an exporter, or a service, would read it."""

    name: str
    kind: str
    enabled: bool
    live: LiveConfig[Any]
    probes: Sequence[Probe] = ()


@dataclass(slots=True)
class Checked:
    """What a file says."""

    findings: list[Finding] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)


class _Check:
    def __init__(self, path: str) -> None:
        self.source = TomlSource(path)
        # Its sections are read from here, in place of otpylib-config.
        self.source.in_use = True
        self.text = Path(path).read_bytes().decode("utf-8-sig", "replace")
        self.checked = Checked()

    def add(self, level: Level, message: str, key: str = "", *, written: bool = True) -> None:
        line = line_of(self.text, key.split(", ", maxsplit=1)[0]) if key and written else None
        # Which file that is stands before the message.
        message = message.replace(f" from {self.source.path}", " from the configuration")
        finding = Finding(level, message, key, line)
        if finding not in self.checked.findings:
            self.checked.findings.append(finding)

    def run(self, *, with_files: bool) -> Checked:
        self.source.refresh()
        if (trouble := self.source.trouble) is not None:
            found = _LINE.search(trouble)
            line = int(found[1]) if found else None
            self.checked.findings.append(Finding("error", f"The file {trouble}.", line=line))
            return self.checked
        written = sections.written()
        known = known_sections(self.tables(), os.environ)
        for problem in sections.problems(known):
            self.add("error", problem.message, problem.key)
        if not written and self.source.misplaced() is None:
            self._look_for_telemetry()
        for name, section in known.items():
            self._check_section(name, section, is_written=name in written)
        self._left_out()
        if with_files:
            for each in self.checked.sections:
                self._try_files(each)
        return self.checked

    def tables(self) -> dict[str, Any]:
        """Return what the file says below ``telemetry``, with what comes from the environment in it."""
        found = self.source.content().get("telemetry")
        return found if isinstance(found, dict) else {}

    def _look_for_telemetry(self) -> None:
        near = difflib.get_close_matches("telemetry", self.source.content(), n=1)
        if near:
            self.add("error", f"No exporter reads [{near[0]}]; did you mean [telemetry]?", near[0])
        else:
            self.add("warning", "The file has no section [telemetry.…]: no exporter reads anything in it.")

    def _check_section(self, name: str, known: Known, *, is_written: bool) -> None:
        if known.settings_type is None:
            if is_written:
                what = f"The exporter for section telemetry.{name} cannot be used: {known.trouble}"
                self.add("error", what, f"telemetry.{name}")
            return
        live: LiveConfig[Any] = LiveConfig(known.settings_type, f"telemetry.{name}", {}, os.environ)
        table = self.tables().get(name)
        live.observe(table if isinstance(table, dict) else {})
        if not is_written and name == known.kind and not sections.is_meant(live.resolution):
            return
        for problem in live.resolution.problems:
            self.add("error", problem.message, problem.key, written=_is_written(problem))
        enabled = bool(live.settings.enabled)
        tried = known.exporter.probes(live.settings) if enabled and known.exporter is not None else ()
        self.checked.sections.append(Section(f"telemetry.{name}", known.kind, enabled, live, tried))

    def _left_out(self) -> None:
        """Tell which keys name variables that are not set, unless the exporter has said so already."""
        said = {finding.key for finding in self.checked.findings}
        for key, reason in sorted(self.source.left_out):
            if key not in said:
                level: Level = "error" if key.startswith("telemetry.") else "warning"
                self.add(level, f"{key} is left out: {reason}.", key)

    def _try_files(self, section: Section) -> None:
        for probe in section.probes:
            if not probe.connects:
                with _warnings() as heard:
                    error = attempt(section, probe, 0.0)
                if error is not None:
                    self._add_trouble("error", section, error)
                for record in heard:
                    self._add_trouble("warning", section, section.live.scrub(record.getMessage()))

    def _add_trouble(self, level: Level, section: Section, message: str) -> None:
        # What it says of a file begins with the key that names it.
        keys, colon, _ = message.partition(": ")
        first = keys.split(", ", maxsplit=1)[0]
        named = colon and first in section.live.settings_type.model_fields
        key = f"{section.name}.{first}" if named else section.name
        self.add(level, f"{section.name}: {message.rstrip('.')}.", key)


def _is_written(problem: Problem) -> bool:
    return problem.origin == "config" or problem.origin.startswith("file ")


def check_file(path: str, *, with_files: bool = True) -> Checked:
    """Find what is wrong with a file, and with what it names on this machine, without connecting to anything.

    The environment is that of this process.
    """
    return _Check(path).run(with_files=with_files)


def attempt(section: Section, probe: Probe, seconds: float) -> str | None:
    """Try something; return why it is no good, without secrets, or None if it is."""
    try:
        probe.attempt(seconds)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return section.live.scrub(str(error) or describe(error))
    return None


@contextlib.contextmanager
def _warnings() -> Iterator[list[logging.LogRecord]]:
    """Collect what the library warns of meanwhile."""
    heard: list[logging.LogRecord] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record)

    listener, log = Listener(logging.WARNING), logging.getLogger("otpylib_telemetry")
    log.addHandler(listener)
    try:
        yield heard
    finally:
        log.removeHandler(listener)
