"""What both receivers have in common: the script, what arrived, and the life of the port."""

import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.support.otlp_receiver.behaviours import Answer, Garbage, Hang, Ok, PartialSuccess, Reset, Slow
from tests.support.otlp_receiver.received import TRACES, ReceivedRequest, decode_spans
from tests.support.otlp_receiver.relay import Relay
from tests.support.ports import free_port
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Tls:
    """What a receiver identifies itself with; ``client_authority`` has it ask its clients as well."""

    certificate: Path
    key: Path
    client_authority: Path | None = None


class Receiver:
    """What both have in common: the script, what arrived, and the life of the port."""

    allowed: ClassVar[tuple[type, ...]] = (Ok, PartialSuccess, Answer, Hang, Slow, Reset, Garbage)

    def __init__(self, port=None, tls=None):
        self.port = port or free_port()
        self.tls = tls
        self.default = Ok()
        self._script = deque()
        self._lock = threading.Lock()
        self._requests = []
        self._taken = []
        self._released = threading.Event()
        self._relay = Relay(self.port, self._start_server())
        self._relay.start()

    # What a test tells it.

    def script(self, *behaviours):
        """What to do with the next requests, in order; after them ``default`` holds."""
        for behaviour in behaviours:
            self._check(behaviour)
        with self._lock:
            self._script.extend(behaviours)

    def always(self, behaviour):
        """What to do with every request that no script is left for."""
        self._check(behaviour)
        with self._lock:
            self.default = behaviour

    def release(self):
        """Let every request that hangs go on; later ones hang again."""
        with self._lock:
            released, self._released = self._released, threading.Event()
        released.set()

    def stall(self):
        """Accept connections but read nothing, until ``unstall()``."""
        self._relay.flowing.clear()

    def unstall(self):
        """Read again, beginning with what was sent meanwhile."""
        self._relay.flowing.set()

    def throttle(self, bytes_per_second):
        """Read this slowly; None for as fast as it goes."""
        self._relay.bytes_per_second = bytes_per_second

    def stop(self, reset=False):
        """Close the port and every connection (``reset``: with a reset); ``restart()`` brings it back."""
        self._relay.stop(reset)

    def restart(self):
        """Listen again on the same port, with what arrived before still there."""
        self.unstall()
        self._relay.start()

    def close(self):
        """The end: nothing of it stays."""
        with self._lock:
            self._script.clear()
            self.default = Ok()
        self._relay.stop(reset=True)
        self.unstall()
        self.release()
        self._stop_server()

    def clear(self):
        """Forget what arrived."""
        with self._lock:
            self._requests.clear()
            self._taken.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # What a test asks it.

    @property
    def host_port(self):
        return f"127.0.0.1:{self.port}"

    @property
    def endpoint(self):
        """For clients that add the signal's path themselves, or need none (gRPC)."""
        return f"{'https' if self.tls else 'http'}://{self.host_port}"

    @property
    def requests(self):
        """Every request that was read, taken or not, in order."""
        with self._lock:
            return list(self._requests)

    @property
    def taken(self):
        """The requests that were taken, whole or in part."""
        with self._lock:
            return [request for request, _ in self._taken]

    @property
    def spans(self):
        """The spans that were taken, in order."""
        with self._lock:
            return [span for _, spans in self._taken for span in spans]

    @property
    def connections(self):
        """How many connections were ever accepted."""
        return self._relay.accepted

    @property
    def open_connections(self):
        return self._relay.open_connections

    def wait_for_spans(self, count, timeout=60.0):
        """Block until so many were taken (for tests without event loop; others use ``eventually``)."""
        wait_until(lambda: len(self.spans) >= count, timeout, f"{count} spans at {self.endpoint}")
        return self.spans

    # What happens to a request.

    def _check(self, behaviour):
        if not isinstance(behaviour, self.allowed):
            raise TypeError(f"{type(self).__name__} cannot do {behaviour!r}")
        if isinstance(behaviour, Hang | Slow):
            self._check(behaviour.then)

    def _handle(self, signal, message, headers, exchange):
        """Do with one request what the script says, by the means of its protocol (``exchange``)."""
        spans = decode_spans(message, headers) if signal is TRACES else []
        with self._lock:
            behaviour = self._script.popleft() if self._script else self.default
            now = time.monotonic_ns()
            request = ReceivedRequest(signal.name, headers, message, spans, behaviour, now)
            self._requests.append(request)
            released = self._released
        while isinstance(behaviour, Hang | Slow):
            released.wait(behaviour.seconds if isinstance(behaviour, Slow) else None)
            behaviour = behaviour.then
        match behaviour:
            case Ok():
                return self._take(request, spans, signal.response(), exchange)
            case PartialSuccess(rejected, text):
                partial = {signal.rejected_field: rejected, "error_message": text}
                kept = spans[: max(0, len(spans) - rejected)]
                return self._take(request, kept, signal.response(partial_success=partial), exchange)
            case Answer():
                return self._take(request, spans, behaviour, exchange)
            case Reset(taken):
                if taken:
                    self._take(request, spans, None, exchange)
                return exchange.break_off(self._relay, reset=True)
            case Garbage(data):
                return exchange.break_off(self._relay, last_words=data)
            case _:
                return exchange.refuse(behaviour)

    def _take(self, request, spans, response, exchange):
        # Nobody waits any more for what was held up too long: such a request counts as not taken.
        if exchange.alive(self._relay):
            with self._lock:
                self._taken.append((request, spans))
        return response


def encoded(response):
    return response.data if isinstance(response, Answer) else response.SerializeToString()


class Exchange:
    """One request and its answer: the part that depends on the protocol."""

    port_behind: int

    def alive(self, relay):
        connection = relay.connection(self.port_behind)
        return connection is not None and not connection.ending

    def break_off(self, relay, **how):
        connection = relay.connection(self.port_behind)
        if connection is not None:
            connection.close(**how)
