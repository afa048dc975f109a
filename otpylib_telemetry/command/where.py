"""Which application a command asks: ``--socket``, ``--url``, or what ``config.toml`` here says."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.admin.settings import AdminSettings
from otpylib_telemetry.command.client import Client, Target
from otpylib_telemetry.command.screen import UsageError
from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry.config.toml_source import TomlSource

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE: Final = "config.toml"
TOKEN: Final = "TELEMETRY_ADMIN_TOKEN"  # noqa: S105  # the name of a variable


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
    settings = resolve(
        AdminSettings, "telemetry.admin", environ=environ, config=_table(file, environ)
    ).settings
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


def _table(file: str, environ: Mapping[str, str]) -> dict[str, Any]:
    if not Path(file).is_file():
        return {}
    source = TomlSource(file, environ=environ)
    source.refresh()
    if source.trouble is not None:
        raise UsageError(f"{file}: the file {source.trouble}; --socket or --url does without it")
    section: Any = source.content()
    for name in ("telemetry", "admin"):
        section = section.get(name) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else {}
