"""``otpylib-telemetry bundle``: an archive of all that somebody who helps needs to know, without secrets."""

from __future__ import annotations

import io
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.command import where
from otpylib_telemetry.command.client import FailedError
from otpylib_telemetry.command.screen import BAD, GOOD, UsageError
from otpylib_telemetry.command.words import counted
from otpylib_telemetry.version import __version__

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from otpylib_telemetry.command.client import Client
    from otpylib_telemetry.command.screen import Screen

NAME: Final = "bundle"
HELP: Final = "write an archive for whoever helps, without secrets"
DESCRIPTION: Final = (
    "Write an archive (tar.gz) with status, configuration, history, processes, metrics by size and "
    "versions, for whoever helps. Secrets are replaced in the application and once more here; events and "
    "traces are not in it. Look into it before it goes to somebody else: names of hosts and users are in "
    "it."
)

#: What the archive has, and which answer that is.
_PARTS: Final = {
    "status.json": ("/status", {}),
    "config.json": ("/config", {}),
    "history.json": ("/history", {"limit": 1000}),
    "actors.json": ("/actors", {}),
    "metrics.json": ("/metrics-by-size", {"limit": 200}),
}
#: Packages whose versions matter, by the beginning of their names.
_PACKAGES: Final = (
    *("otpylib", "opentelemetry", "grpc", "protobuf", "googleapis", "aiohttp", "pydantic", "prometheus"),
    *("psutil", "urllib3", "uvloop", "watchfiles"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    where.add_arguments(parser)
    parser.add_argument(
        "--output", metavar="FILE", help="the archive (default: telemetry-PID-TIME.tar.gz in this directory)"
    )


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Write it; return the exit status."""
    client = where.client_of(arguments)
    found, missing = _collected(client)
    at = time.strftime("%Y%m%d-%H%M%S")
    path = arguments.output or f"telemetry-{found['status.json']['pid']}-{at}.tar.gz"
    directory = Path(path).name.removesuffix(".gz").removesuffix(".tar").removesuffix(".tgz") or "telemetry"
    written = {name: _written(each, client.target.token) for name, each in found.items()}
    try:
        _write(path, directory, written)
    except OSError as error:
        raise UsageError(f"--output: {path} cannot be written: {error.strerror or error}") from None
    if arguments.json:
        screen.json({"file": path, "parts": sorted(written), "missing": missing})
    else:
        screen.line(f"{path}: {counted(len(written), 'part')}, no secrets; look into it before it goes out")
        for name, why in missing.items():
            screen.line(f"{name} is {screen.coloured('missing', 'red')}: {why}")
    return BAD if missing else GOOD


def _collected(client: Client) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the parts, and why others are missing; without the status there is no archive at all."""
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, (path, query) in _PARTS.items():
        try:
            found[name] = client.ask("GET", path, query=query)
        except FailedError as error:
            if not found:
                raise
            missing[name] = str(error)
    found["versions.json"] = {
        "application": {"otpylib-telemetry": found["status.json"]["version"]},
        "command": {
            "otpylib-telemetry": __version__,
            "python": sys.version,
            "platform": platform.platform(),
            "packages": _packages(),
        },
        "missing": missing,
    }
    return found, missing


def _packages() -> dict[str, str]:
    from importlib.metadata import distributions  # noqa: PLC0415  # for this command alone

    found = {str(each.metadata["Name"]).lower(): each.version for each in distributions()}
    return {name: found[name] for name in sorted(found) if name.startswith(_PACKAGES)}


def _written(found: Any, token: str | None) -> bytes:
    from otpylib_telemetry.command.cleaning import clean  # noqa: PLC0415  # for this command alone
    from otpylib_telemetry.config.redaction import REDACTED  # noqa: PLC0415  # as above

    text = json.dumps(clean(found), indent=2, ensure_ascii=True, default=str)
    return (text.replace(token, REDACTED) if token else text).encode()


def _write(path: str, directory: str, parts: Mapping[str, bytes]) -> None:
    import tarfile  # noqa: PLC0415  # for this command alone
    import tempfile  # noqa: PLC0415  # as above

    now = int(time.time())
    # A new file, which this user alone may read from its first byte on: one that is there already may be read
    # by others, or be a link to somewhere else.
    descriptor, unfinished = tempfile.mkstemp(prefix=".telemetry-", dir=Path(path).parent)
    try:
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, content in sorted(parts.items()):
                member = tarfile.TarInfo(f"{directory}/{name}")
                member.size, member.mtime, member.mode = len(content), now, 0o600
                archive.addfile(member, io.BytesIO(content))
        Path(unfinished).replace(path)
    except BaseException:
        Path(unfinished).unlink()
        raise
