"""The relay in front of the server: it owns the port, and resets, stalls, throttles and goes away."""

import contextlib
import socket
import struct
import threading
import time

CHUNK = 65_536
THROTTLED_CHUNK = 512


class Connection:
    """One client's connection, relayed to the server behind by two threads; the last to end closes it.

    A socket must not be closed while a thread waits on it: the kernel would keep it open, and a reset would
    come late or never. So closing means waking both threads.
    """

    def __init__(self, relay, client, upstream):
        self.relay = relay
        self.client = client
        self.upstream = upstream
        self.port_behind = upstream.getsockname()[1]  # how the server behind names this connection
        self.ending = False
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._running = 2

    def start(self):
        for pump in (self._inwards, self._outwards):
            threading.Thread(target=self._pump, args=(pump,), name="otlp-receiver", daemon=True).start()

    def _pump(self, pump):
        with contextlib.suppress(OSError):
            pump()
        self._end()
        with self._lock:
            self._running -= 1
            last = self._running == 0
        if last:
            self.client.close()
            self.upstream.close()
            self.relay.forget(self)
            self.ended.set()

    def _inwards(self):
        while self._may_flow():
            data = self.client.recv(THROTTLED_CHUNK if self.relay.bytes_per_second else CHUNK)
            if not data or not self._may_flow():
                return
            if rate := self.relay.bytes_per_second:
                time.sleep(len(data) / rate)
            self.upstream.sendall(data)

    def _outwards(self):
        while data := self.upstream.recv(CHUNK):
            self.client.sendall(data)

    def _may_flow(self):
        while not self.relay.flowing.wait(0.01):
            if self.ending:
                return False
        return not self.ending

    def _end(self, reset=False):
        with self._lock:
            if self.ending:
                return
            self.ending = True
        # Shutting down the reading side sends nothing: it only wakes the thread that reads.
        steps = [
            (self.client, socket.SHUT_RD if reset else socket.SHUT_RDWR),
            (self.upstream, socket.SHUT_RDWR),
        ]
        for end, how in steps:
            with contextlib.suppress(OSError):
                end.shutdown(how)

    def close(self, reset=False, last_words=b""):
        """End it; returns when the client can see it."""
        with contextlib.suppress(OSError):
            if last_words:
                self.client.sendall(last_words)
            if reset:
                # Lingering for zero seconds turns the close into a reset.
                self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end(reset)
        self.ended.wait(5)


class Relay:
    """Owns the port that clients see, and passes bytes to the server behind."""

    def __init__(self, port, behind):
        self.port = port
        self.behind = behind
        self.flowing = threading.Event()
        self.flowing.set()
        self.bytes_per_second = None
        self.accepted = 0
        self._lock = threading.Lock()
        self._connections = {}
        self._listener = None
        self._thread = None

    @property
    def listening(self):
        return self._listener is not None

    @property
    def open_connections(self):
        with self._lock:
            return len(self._connections)

    def start(self):
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self._listener = listener
        self._thread = threading.Thread(
            target=self._accept, args=(listener,), name="otlp-receiver", daemon=True
        )
        self._thread.start()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                upstream = socket.create_connection(("127.0.0.1", self.behind), timeout=5)
            except OSError:
                client.close()
                continue
            upstream.settimeout(None)
            for end in (client, upstream):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, client, upstream)
            with self._lock:
                self.accepted += 1
                self._connections[connection.port_behind] = connection
            connection.start()

    def connection(self, port_behind):
        with self._lock:
            return self._connections.get(port_behind)

    def forget(self, connection):
        with self._lock:
            self._connections.pop(connection.port_behind, None)

    def stop(self, reset=True):
        listener, self._listener = self._listener, None
        if listener is not None:
            # Closing alone does not wake a thread that is blocked in accept.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            self._thread.join()
        with self._lock:
            connections = list(self._connections.values())
        for connection in connections:
            connection.close(reset=reset)
