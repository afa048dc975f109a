"""The admin API: state and configuration of everything in ``telemetry``, from outside the process.

``[telemetry.admin]`` serves it on a socket or a port of its own. The functions here serve it from an
application's own server, and are the two that an application's own code calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otpylib_telemetry.primitives.fork import import_module

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["asgi_app", "get_telemetry_status", "routes", "setup", "update_telemetry_config"]


def routes(prefix: str = "/telemetry", *, token: str | None = None) -> list[Any]:
    """Return the routes of the admin API for an ``aiohttp.web.Application``.

    Who may ask is up to that application. A request that changes anything needs the content type
    ``application/json`` or a header ``X-Telemetry-By``, which no form of another site can send.

    Args:
        prefix: The path below which it answers: ``/telemetry/status``, ``/telemetry/config`` ...
        token: What clients have to show as ``Authorization: Bearer TOKEN``; None where the application sees
            to that itself.

    Returns:
        Definitions for ``app.add_routes``.
    """
    found: list[Any] = import_module("otpylib_telemetry.admin.aiohttp").routes(prefix, token)
    return found


def setup(app: Any, prefix: str = "/telemetry", *, token: str | None = None) -> None:
    """Add the routes of the admin API to an ``aiohttp.web.Application``.

    Args:
        app: The application.
        prefix: As for :func:`routes`.
        token: As for :func:`routes`.
    """
    app.add_routes(routes(prefix, token=token))


def asgi_app(*, token: str | None = None) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """Return the admin API as an ASGI application, to be mounted in Starlette, FastAPI and others.

    The exporters may run on another event loop, in another thread.

    Args:
        token: As for :func:`routes`.

    Returns:
        An application as ASGI 3 has it; it also takes part in ``lifespan``, and refuses websockets.
    """
    found: Callable[[Any, Any, Any], Awaitable[None]] = import_module(
        "otpylib_telemetry.admin.mount"
    ).asgi_app(token)
    return found


async def get_telemetry_status() -> dict[str, Any]:
    """Return what ``GET /status`` answers: how every exporter and every service does.

    Returns:
        Plain data, without secrets.
    """
    found: dict[str, Any] = await import_module("otpylib_telemetry.admin.calls").get_telemetry_status()
    return found


async def update_telemetry_config(
    changes: Mapping[str, Any],
    *,
    by: str | None = None,
    seconds: float | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Change configuration as ``PATCH /config`` does: all of the keys, or none.

    Args:
        changes: Keys such as ``otel.sampling_rate`` with their new values; None takes a change back.
        by: Who asks for it, for the history.
        seconds: After how many seconds it takes itself back; None for not at all.
        dry_run: Whether only to say what it would do.

    Returns:
        What became of it: ``outcome``, ``changes``, ``generation`` ...

    Raises:
        ValueError: It is refused; the message says what was expected, and nothing was changed.
    """
    found: dict[str, Any] = await import_module("otpylib_telemetry.admin.calls").update_telemetry_config(
        changes, by, seconds, dry_run=dry_run
    )
    return found
