"""``otpylib-telemetry check FILE``: what an exporter would say about a configuration file."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry.command.env_file import read_env_file
from otpylib_telemetry.command.screen import BAD, GOOD, UsageError, one_line
from otpylib_telemetry.command.words import counted

if TYPE_CHECKING:
    import argparse

    from otpylib_telemetry.command.checking import Checked, Finding, Section
    from otpylib_telemetry.command.screen import Colour, Screen
    from otpylib_telemetry.exporter.probe import Probe

NAME: Final = "check"
HELP: Final = "say what is wrong with a configuration file"
DESCRIPTION: Final = (
    "Read a TOML file as the exporters would, with the environment of this command, and say what they would "
    "complain about. Without --connect nothing leaves this machine. Secrets are never shown."
)

#: Seconds that one attempt of --connect takes at most.
_PATIENCE: Final = 5.0
_MOST_AT_ONCE: Final = 16


class _Tried(NamedTuple):
    section: Section
    probe: Probe
    error: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("file", metavar="FILE", help="the configuration file, config.toml for instance")
    parser.add_argument(
        "--env",
        metavar="FILE",
        action="append",
        default=[],
        help="a file of NAME=value lines that go before the environment; may be given more than once",
    )
    parser.add_argument(
        "--no-files",
        action="store_true",
        help="do not look at what the file names on this machine: certificates, keys, plug-ins",
    )
    parser.add_argument(
        "--connect",
        action="store_true",
        help="also try where things go: an empty export to each destination of OTLP, the port for scrapes",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=_PATIENCE,
        help=f"how long one attempt of --connect may take (default: {_PATIENCE:g})",
    )


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Check a file; return the exit status."""
    from otpylib_telemetry.command.checking import check_file  # noqa: PLC0415  # it imports the exporters

    if not 0 < arguments.timeout < float("inf"):
        raise UsageError("--timeout: expected a number of seconds above 0")
    _can_be_read(arguments.file)
    for path in arguments.env:
        # Of this process: proxies and certificates are looked up there, too, by libraries.
        os.environ.update(read_env_file(path))
    checked = check_file(arguments.file, with_files=not arguments.no_files)
    tried = _connect(checked, arguments.timeout) if arguments.connect else []
    is_good = all(finding.level != "error" for finding in checked.findings) and all(
        each.error is None for each in tried
    )
    if arguments.json:
        screen.json(_as_json(arguments.file, checked, tried, is_good=is_good))
    else:
        _show(screen, arguments.file, checked, tried)
    return GOOD if is_good else BAD


def _can_be_read(path: str) -> None:
    """Raise a UsageError for what is no file at all: that says nothing about a configuration."""
    try:
        # Opening a named pipe would wait for a writer.
        regular = stat.S_ISREG(Path(path).stat().st_mode)
        if regular:
            Path(path).open("rb").close()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not regular:
        raise UsageError(f"{path}: it is not a regular file")


def _connect(checked: Checked, seconds: float) -> list[_Tried]:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # for --connect alone

    from otpylib_telemetry.command.checking import attempt  # noqa: PLC0415  # as for run

    wanted = [(section, probe) for section in checked.sections for probe in section.probes if probe.connects]
    with ThreadPoolExecutor(_MOST_AT_ONCE) as threads:
        errors = list(threads.map(lambda pair: attempt(pair[0], pair[1], seconds), wanted))
    return [_Tried(*pair, error) for pair, error in zip(wanted, errors, strict=True)]


def _as_json(path: str, checked: Checked, tried: list[_Tried], *, is_good: bool) -> dict[str, Any]:
    return {
        "file": path,
        "good": is_good,
        "sections": [
            {"section": each.name, "kind": each.kind, "enabled": each.enabled} for each in checked.sections
        ],
        "findings": [
            {"level": each.level, "key": each.key or None, "line": each.line, "message": each.message}
            for each in checked.findings
        ],
        "connections": [
            {
                "section": each.section.name,
                "what": each.probe.what,
                "good": each.error is None,
                "message": each.error,
            }
            for each in tried
        ],
    }


_COLOURS: Final[dict[str, Colour]] = {"error": "red", "warning": "yellow"}


def _show(screen: Screen, path: str, checked: Checked, tried: list[_Tried]) -> None:
    for finding in sorted(checked.findings, key=_order):
        where = path if finding.line is None else f"{path}:{finding.line}"
        level = screen.coloured(finding.level, _COLOURS[finding.level])
        screen.line(f"{screen.coloured(where, 'bold')}: {level}: {one_line(finding.message)}")
    for each in tried:
        good = each.error is None
        mark = screen.coloured("ok" if good else "failed", "green" if good else "red")
        said = "" if each.error is None else f": {one_line(each.error)}"
        screen.line(f"{each.section.name}, {each.probe.what}: {mark}{said}")
    screen.line(_summary(path, checked, tried))


def _order(finding: Finding) -> tuple[bool, int]:
    return finding.line is None, finding.line or 0


def _summary(path: str, checked: Checked, tried: list[_Tried]) -> str:
    levels = [finding.level for finding in checked.findings]
    counts = [counted(levels.count("error"), "error"), counted(levels.count("warning"), "warning")]
    if tried:
        good = sum(each.error is None for each in tried)
        counts.append(f"{good} of {counted(len(tried), 'connection')} good")
    read = [each.name if each.enabled else f"{each.name} (not enabled)" for each in checked.sections]
    return f"{path}: {', '.join(counts)}; sections read: {', '.join(read) or 'none'}."
