"""The relay in front of the servers: it owns the port, and resets, stalls, throttles and goes away."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

from otpylib_telemetry.primitives.fork import new_lock
from otpylib_telemetry_mock.otlp_receiver.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 65_536
_THROTTLED_CHUNK = 512

#: Seconds that closing a connection waits for its threads.
_PATIENCE = 5.0

#: What every connection of HTTP/2 begins with, and with it gRPC's (RFC 9113, section 3.4).
_HTTP2 = b"PRI * HTTP/2.0"


def spawn(target: Callable[..., object], *args: object) -> threading.Thread:
    """Start a thread of a receiver's."""
    thread = threading.Thread(target=target, args=args, name="otlp-receiver", daemon=True)
    thread.start()
    return thread


class Connection:
    """One client's connection, relayed to the server behind by two threads; the last to end closes it.

    A socket must not be closed while a thread waits on it: the kernel would keep it open, and a reset would
    come late or never. So closing means waking both threads.
    """

    def __init__(self, relay: Relay, client: socket.socket) -> None:
        self.ending = False
        self._relay = relay
        self._client = client
        self._upstream: socket.socket | None = None
        self._ended = threading.Event()
        self._lock = new_lock()
        self._running = 1

    def run(self) -> None:
        """Find the server that is meant, and pass on what the client sends."""
        try:
            upstream = self._connect()
        except OSError:
            upstream = None
        with self._lock:
            relayed = upstream is not None and not self.ending
            self._upstream = upstream
            self._running = 1 + relayed
        if upstream is not None and relayed:
            self._relay.know(self, upstream.getsockname()[1])
            spawn(self._pump, self._outwards, upstream)
            self._pump(self._inwards, upstream)
        else:
            self._end()
            self._thread_ends()

    def close(self, *, reset: bool = False, last_words: bytes = b"") -> None:
        """End it; returns when the client can see it."""
        with contextlib.suppress(OSError):
            if last_words:
                self._client.sendall(last_words)
            if reset:
                # Lingering for zero seconds turns the close into a reset.
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end(reset=reset)
        self._ended.wait(_PATIENCE)

    def _connect(self) -> socket.socket | None:
        upstream = self._choose()
        if upstream is not None:
            for end in (self._client, upstream):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return upstream

    def _choose(self) -> socket.socket | None:
        behind = self._relay.behind
        if len(behind) == 1:
            [port] = behind.values()
        else:
            start = self._peek()
            if not start:
                return None
            port = behind["grpc" if start == _HTTP2[: len(start)] else "http/protobuf"]
        upstream = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        upstream.settimeout(None)
        return upstream

    def _peek(self) -> bytes:
        """Return how the client begins, once that tells the two protocols apart; empty if it never does."""
        start = b""
        while not self.ending:
            seen = self._client.recv(len(_HTTP2), socket.MSG_PEEK)
            if not seen:
                return b""
            # Every method of HTTP/1 that begins like the preface, such as PROPFIND, differs by then.
            if seen != _HTTP2[: len(seen)] or len(seen) >= len(b"PRI"):
                return seen
            if seen == start:
                time.sleep(0.001)
            start = seen
        return b""

    def _pump(self, pump: Callable[[socket.socket], None], upstream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            pump(upstream)
        self._end()
        self._thread_ends()

    def _thread_ends(self) -> None:
        with self._lock:
            self._running -= 1
            last = self._running == 0
        if last:
            self._client.close()
            if self._upstream is not None:
                self._upstream.close()
            self._relay.forget(self)
            self._ended.set()

    def _inwards(self, upstream: socket.socket) -> None:
        while self._may_flow():
            data = self._client.recv(_THROTTLED_CHUNK if self._relay.bytes_per_second else _CHUNK)
            if not data or not self._may_flow():
                return
            if rate := self._relay.bytes_per_second:
                time.sleep(len(data) / rate)
            upstream.sendall(data)

    def _outwards(self, upstream: socket.socket) -> None:
        while data := upstream.recv(_CHUNK):
            self._client.sendall(data)

    def _may_flow(self) -> bool:
        while not self._relay.flowing.wait(0.01):
            if self.ending:
                return False
        return not self.ending

    def _end(self, *, reset: bool = False) -> None:
        with self._lock:
            if self.ending:
                return
            self.ending = True
            upstream = self._upstream
        # Shutting down the reading side sends nothing: it only wakes the thread that reads.
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
        if upstream is not None:
            with contextlib.suppress(OSError):
                upstream.shutdown(socket.SHUT_RDWR)


class Relay:
    """Owns the port that clients see, and passes bytes to the servers behind."""

    def __init__(self, port: int | None, behind: dict[str, int]) -> None:
        self.behind = behind
        self.flowing = threading.Event()
        self.flowing.set()
        self.bytes_per_second: float | None = None
        self.accepted = 0
        self.port = port or free_port()
        self.listener = _listen(self.port)
        self._lock = new_lock()
        self._connections: set[Connection] = set()
        self._by_port: dict[int, Connection] = {}
        self._thread: threading.Thread | None = spawn(self._accept, self.listener)

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        with self._lock:
            return len(self._connections)

    def start(self) -> None:
        """Listen again, on the same port."""
        if self._thread is None:
            self.listener = _listen(self.port)
            self._thread = spawn(self._accept, self.listener)

    def stop(self, *, reset: bool = True) -> None:
        """Close the port and every connection."""
        thread, self._thread = self._thread, None
        if thread is not None:
            # Closing alone does not wake a thread that is blocked in accept.
            with contextlib.suppress(OSError):
                self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            thread.join()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.close(reset=reset)

    def connection(self, port_behind: int) -> Connection | None:
        """Return the connection that a server behind sees coming from this port."""
        with self._lock:
            return self._by_port.get(port_behind)

    def know(self, connection: Connection, port_behind: int) -> None:
        """Remember how a server behind names a connection."""
        with self._lock:
            self._by_port[port_behind] = connection

    def forget(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        with self._lock:
            self._connections.discard(connection)
            self._by_port = {port: each for port, each in self._by_port.items() if each is not connection}

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            connection = Connection(self, client)
            with self._lock:
                self.accepted += 1
                self._connections.add(connection)
            spawn(connection.run)


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener
