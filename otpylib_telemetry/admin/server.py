"""The HTTP server of the API: a socket, a port, or both, each of which may change while it serves.

aiohttp is imported when it starts, on a thread: it takes a good part of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry import otp
from otpylib_telemetry.admin import sockets
from otpylib_telemetry.admin.sockets import UnavailableError
from otpylib_telemetry.primitives.fork import import_module
from otpylib_telemetry.primitives.listening import joined, reachable
from otpylib_telemetry.primitives.threads import run_in_thread

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Hashable

    from otpylib_telemetry.admin.settings import AdminSettings

_log = logging.getLogger("otpylib_telemetry.admin")

#: Seconds that answers under way get where the address they were asked at is given up, and at the end.
_MOVING: Final = 2.0
_ENDING: Final = 0.05

#: Turns of the loop in which a connection that was accepted comes to wait for a request.
_BEGINNING: Final = 3

#: Seconds for what was cancelled to come to an end.
_CANCELLED: Final = 0.5


class _Listener:
    """Listening sockets with the connections that they accepted."""

    def __init__(self, key: Hashable, found: list[socket.socket], http: Any, path: str | None) -> None:
        self.key = key
        self.port: int | None = found[0].getsockname()[1] if path is None else None
        self._sockets = found
        self._http = http
        self._path = path
        self._identity = None if path is None else sockets.identity(path)
        self._servers: list[asyncio.AbstractServer] = []

    async def start(self) -> None:
        """Accept from now on."""
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            create = loop.create_server if self._path is None else loop.create_unix_server
            self._servers.append(await create(self._http, sock=each))

    def is_there(self) -> bool:
        """Tell whether clients find it: somebody may have removed the socket from the file system."""
        return self._path is None or sockets.identity(self._path) == self._identity

    def leave(self) -> None:
        """Accept no more."""
        if self._path is not None:
            # As long as it answers nobody else puts one in its place.
            sockets.remove(self._path, self._identity)
        # Windows: its event loop does not watch.
        with contextlib.suppress(NotImplementedError, ValueError):
            for sock in self._sockets:
                asyncio.get_running_loop().remove_reader(sock)

    def close(self) -> None:
        """Close what it listens on."""
        for each in self._servers:
            each.close()
        for sock in self._sockets:
            sock.close()

    async def finish(self, seconds: float) -> None:
        """Let the answers under way get done, then close every connection."""
        for _ in range(_BEGINNING):
            await asyncio.sleep(0)
        self._http.pre_shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds + _CANCELLED):
                await self._http.shutdown(timeout=seconds)


class Server:
    """Serves the API where its settings say."""

    def __init__(self) -> None:
        self._listeners: dict[str, _Listener] = {}
        self._access: Any = None
        self._leaving: set[asyncio.Task[Any]] = set()

    @property
    def socket(self) -> str | None:
        """The path of the socket it is served on."""
        found = self._listeners.get("socket")
        return None if found is None else str(found.key)

    def loss(self) -> str | None:
        """Say which socket somebody has removed, if any."""
        found = self._listeners.get("socket")
        if found is None or found.is_there():
            return None
        return f"the socket {found.key} was removed, and is made again"

    @property
    def port(self) -> int | None:
        """The port it is served on, which for port 0 is the one that was found."""
        found = self._listeners.get("port")
        return None if found is None else found.port

    @property
    def url(self) -> str | None:
        """Where it is served over TCP."""
        found: Any = self._listeners.get("port")
        return None if found is None else f"http://{joined(reachable(found.key[0]), found.port)}"

    async def go_by(self, settings: AdminSettings) -> None:
        """Serve where these settings say, and nowhere else; raises UnavailableError where that cannot be."""
        if not settings.enabled:
            await self._give_up("socket")
            await self._give_up("port")
            return
        bridge = await _bridge()
        self._access = bridge.access_of(settings)
        withheld = settings.withheld.get("port")
        if settings.socket is None:
            await self._give_up("socket")
        else:
            await self._serve_path(bridge, settings.socket)
        if settings.port is None or withheld is not None:
            await self._give_up("port")
        else:
            await self._serve_port(bridge, settings.host, settings.port, has_token=settings.token is not None)
        if withheld is not None:
            raise UnavailableError(withheld)

    async def _serve_path(self, bridge: Any, path: str) -> None:
        before = self._listeners.get("socket")
        if before is not None and before.key == path and before.is_there():
            return
        found = await run_in_thread(sockets.bind_path, path)
        await self._replace("socket", _Listener(path, [found], self._http(bridge, is_private=True), path))

    async def _serve_port(self, bridge: Any, host: str, port: int, *, has_token: bool) -> None:
        before = self._listeners.get("port")
        if before is not None and before.key == (host, port, has_token):
            return
        # One that has others come in for whom there is no token any more is not left open meanwhile; one on
        # the same port is in the way.
        if before is not None and (before.port == port or not has_token):
            await self._give_up("port")
        found = await run_in_thread(sockets.bind_port, host, port, has_token=has_token)
        http = self._http(bridge, is_private=False)
        await self._replace("port", _Listener((host, port, has_token), found, http, None))

    async def _replace(self, kind: str, listener: _Listener) -> None:
        try:
            await listener.start()
        except BaseException:
            await _close(listener)
            raise
        await self._give_up(kind)
        self._listeners[kind] = listener

    async def _give_up(self, kind: str) -> None:
        listener = self._listeners.pop(kind, None)
        if listener is not None:
            await _close(listener)
            # The request that asked for this is answered on it.
            loop = asyncio.get_running_loop()
            leaving = otp.run_in_background(loop, listener.finish(_MOVING), name="admin API", outlasting=True)
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    def _http(self, bridge: Any, *, is_private: bool) -> Callable[[], Any]:
        async def answer(request: Any) -> Any:
            return await bridge.answer(request, self._access, is_private=is_private)

        made: Callable[[], Any] = bridge.web.Server(
            answer, access_log=None, logger=_quiet, lingering_time=1.0
        )
        return made

    async def stop(self) -> None:
        """Serve no more."""
        listeners, self._listeners = [*self._listeners.values()], {}
        await _close(*listeners)
        for task in [*self._leaving]:
            task.cancel()
        await asyncio.gather(
            *(each.finish(_ENDING) for each in listeners), *self._leaving, return_exceptions=True
        )


async def _close(*listeners: _Listener) -> None:
    """Accept no more there."""
    for each in listeners:
        each.leave()
    try:
        # A server of asyncio's that is closed loses what it has just accepted: its client would wait.
        await asyncio.sleep(0)
    finally:
        for each in listeners:
            each.close()


async def _bridge() -> Any:
    try:
        return await run_in_thread(import_module, "otpylib_telemetry.admin.aiohttp")
    except ImportError as error:
        raise UnavailableError(
            f"the admin API needs aiohttp, which cannot be imported ({error}): install "
            "otpylib-telemetry[admin]"
        ) from error


def _is_told(record: logging.LogRecord) -> bool:
    """Pass on what is a defect of ours: whoever scans ports must not fill the application's log."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None or not (
        isinstance(error, ConnectionError) or type(error).__module__.startswith("aiohttp")
    ):
        _log.handle(record)
    return False


_quiet = logging.Logger(f"{_log.name}.http", logging.WARNING)  # noqa: LOG001  # one of this server's own
_quiet.addFilter(_is_told)
