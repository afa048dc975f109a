"""Which application a command asks: ``--socket``, ``--url``, or what ``config.toml`` here says."""

from __future__ import annotations

import argparse
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.command.client import Client, Target
from otpylib_telemetry.command.screen import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE: Final = "config.toml"
TOKEN: Final = "TELEMETRY_ADMIN_TOKEN"  # noqa: S105  # the name of a variable

#: Where a table begins in a text, and what begins that of the API.
_HEADER: Final = re.compile(r"^(?=[ \t]*\[)", re.MULTILINE)
_OURS: Final = re.compile(r"""\s*\[\s*["']?telemetry["']?\s*\.\s*["']?admin["']?\s*(\]|#|$)""")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say how an application is named; given before the command and after it."""
    named = parser.add_mutually_exclusive_group()
    named.add_argument(
        "--socket",
        metavar="PATH",
        default=argparse.SUPPRESS,
        help="the socket of the application's admin API (default: telemetry.admin.socket of config.toml in "
        "the working directory)",
    )
    named.add_argument(
        "--url",
        metavar="URL",
        default=argparse.SUPPRESS,
        help=f"its address, such as http://127.0.0.1:9465; the token is in the variable {TOKEN}",
    )


def client_of(arguments: argparse.Namespace) -> Client:
    """Return a client of the application that is meant."""
    path, url = getattr(arguments, "socket", None), getattr(arguments, "url", None)
    if path is not None and url is not None:
        raise UsageError("--socket and --url name two applications: leave one out")
    if path is not None:
        return Client(Target(socket=path))
    if url is not None:
        return Client(Target(url=url, token=os.environ.get(TOKEN, "").strip() or None))
    return Client(target_of(FILE, os.environ))


def target_of(file: str, environ: Mapping[str, str]) -> Target:
    """Return where the application whose configuration file this is serves its API."""
    # Whoever names the application does not wait for pydantic.
    from otpylib_telemetry.admin.settings import AdminSettings  # noqa: PLC0415  # see above
    from otpylib_telemetry.config.resolve import resolve  # noqa: PLC0415  # see above

    table, trouble = _table(file, environ)
    settings = resolve(AdminSettings, "telemetry.admin", environ=environ, config=table).settings
    if trouble is not None:
        if settings.socket is None and not settings.port:
            raise UsageError(f"{file}: the file {trouble}; --socket or --url does without it")
        # The application goes on with what it read before, and is asked all the same.
        sys.stderr.write(f"{file}: the file {trouble}; where the application is was read all the same\n")
    if settings.socket is not None:
        return Target(socket=settings.socket)
    if settings.port == 0:
        raise UsageError(
            "telemetry.admin.port is 0, a free port: name it with --url; the log of the application tells it"
        )
    if settings.port is not None:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared
        token = None if settings.token is None else settings.token.get_secret_value()
        return Target(url=f"http://{f'[{host}]' if ':' in host else host}:{settings.port}", token=token)
    raise UsageError(
        f"which application? There is no telemetry.admin.socket in {file} here: name one with --socket PATH "
        "or --url URL"
    )


def _table(file: str, environ: Mapping[str, str]) -> tuple[dict[str, Any], str | None]:
    """Return what a file says of the API, as far as it can be read, and what is wrong with the file."""
    if not Path(file).is_file():
        return {}, None
    from otpylib_telemetry.config.interpolation import expand  # noqa: PLC0415  # as for target_of
    from otpylib_telemetry.config.toml_source import TomlSource  # noqa: PLC0415  # as for target_of

    source = TomlSource(file, environ=environ)
    source.refresh()
    if source.trouble is None:
        return _admin_of(source.content()), None
    try:
        text = Path(file).read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return {}, source.trouble
    found = ((key, expand(value, environ)) for key, value in _what_parses(text).items())
    return {key: each.value for key, each in found if each.problem is None}, source.trouble


def _admin_of(content: object) -> dict[str, Any]:
    for name in ("telemetry", "admin"):
        content = content.get(name) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}


def _what_parses(text: str) -> dict[str, Any]:
    """Return what a broken file says of the API: each table is read by itself, and if need be each line."""
    found: dict[str, Any] = {}
    for table in _HEADER.split(text):
        header, _, rest = table.partition("\n")
        if _OURS.match(header):
            # Its own bracket may be what is missing.
            table = f"[telemetry.admin]\n{rest}"  # noqa: PLW2901  # the same, mended
        content = _parsed(table)
        if content is None and "admin" in table:
            kept = ""
            for line in table.splitlines():
                content = _parsed(f"{kept}{line}\n")
                kept += "" if content is None else f"{line}\n"
                if not kept and line.lstrip().startswith("["):
                    # Whose the lines below it are is not known.
                    break
            content = _parsed(kept)
        found |= _admin_of(content)
    return found


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None
