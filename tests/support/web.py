"""Web servers and clients of several makes, on threads of their own, and what their requests were told as."""

import contextlib
import http.client
import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.validate import validator

import uvicorn

from otpylib_telemetry.bus import subscriptions
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from tests.support.waiting import eventually, wait_until

REMOTE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


def told_as(route, port):
    """What a good ``GET /users/7?q=tea&token=abc`` of the client ``t/1`` is told as, whatever serves it."""
    return {
        "span.name": f"GET {route}",
        "span.kind": "server",
        "http.request.method": "GET",
        "http.route": route,
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/users/7",
        "url.query": "q=tea&token=REDACTED",
        "server.address": "127.0.0.1",
        "server.port": port,
        "client.address": "127.0.0.1",
        "user_agent.original": "t/1",
        "network.protocol.version": "1.1",
    }


class Told:
    """The operations that were told of, as their ends say."""

    def __init__(self):
        self.starts = []
        self.ends = []

    def handle(self, name, measurements, metadata):
        if name.endswith(".start"):
            self.starts.append((name.removesuffix(".start"), metadata))
        elif measurements.get("duration_ms") is not None:
            self.ends.append(Ended(name, measurements, metadata))

    def of(self, operation="http.server.request"):
        return [end for end in self.ends if end.operation == operation]

    async def one(self, operation="http.server.request"):
        """The only one of this name."""
        await eventually(lambda: self.of(operation))
        found = self.of(operation)
        assert len(found) == 1, found
        return found[0]

    async def count(self, number, operation="http.server.request"):
        await eventually(lambda: len(self.of(operation)) >= number)
        found = self.of(operation)
        assert len(found) == number
        return found


class Ended:
    def __init__(self, name, measurements, metadata):
        self.operation, _, self.outcome = name.rpartition(".")
        self.duration_ms = measurements["duration_ms"]
        self.metadata = metadata

    def __repr__(self):
        return f"{self.operation} {self.outcome} {self.metadata}"

    def __getitem__(self, key):
        return self.metadata.get(key)

    @property
    def attributes(self):
        """All but its identity."""
        return {key: value for key, value in self.metadata.items() if not key.endswith("_id")}

    @property
    def status(self):
        return self["http.response.status_code"]

    @property
    def name(self):
        return self["span.name"]


async def listening(pattern="*"):
    told = Told()
    await subscriptions.attach("web test", pattern, told.handle)
    return told


def fetch(url, method="GET", body=None, **headers):
    """Status, headers and body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data=body, method=method, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def hang_up(url, *, after=1):
    """Read so many bytes of a response and go away."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    connection.request("GET", parts.path)
    answer = connection.getresponse()
    got = answer.read(after)
    answer.close()
    connection.close()
    return got


class AsgiServer(uvicorn.Server):
    """A real uvicorn on a thread and an event loop of its own."""

    def __init__(self, app, **config):
        self.port = free_port()
        settings = {"log_level": "critical", "ws": "none", **config}
        super().__init__(uvicorn.Config(app, port=self.port, **settings))
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        wait_until(lambda: self.started)
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *_error):
        self.should_exit = True
        self.thread.join()


class _Silent(WSGIRequestHandler):
    def log_message(self, *_args):
        pass


@contextlib.contextmanager
def wsgi_server(app, *, validated=True):
    """A real WSGI server that checks whether the application keeps to PEP 3333."""
    app = validator(app) if validated else app
    with make_server("127.0.0.1", 0, app, handler_class=_Silent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
