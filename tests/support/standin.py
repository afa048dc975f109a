"""An admin API that answers what a test says, in the real one's models, and remembers what it was asked."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class StandIn:
    """``answers`` has, by method and path, a model, or a status with a model or a problem."""

    def __init__(self, answers):
        self.answers = answers
        self.asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler):  # noqa: N805  # the other self is the stand-in
                self.answer(handler)

            do_POST = do_PATCH = do_GET  # noqa: N815  # the names are http.server's

            def log_message(handler, *arguments):  # noqa: N805
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, handler):
        split = urlsplit(handler.path)
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        self.asked.append((handler.command, split.path, query, json.loads(body) if body else None))
        found = self.answers.get((handler.command, split.path))
        if found is None:
            found = 404, {"title": "Not Found", "status": 404, "detail": f"there is no {split.path}"}
        status, said = found if isinstance(found, tuple) else (200, found)
        written = (json.dumps(said) if isinstance(said, dict) else said.model_dump_json()).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(written)))
        handler.end_headers()
        handler.wfile.write(written)


@contextlib.contextmanager
def standing_in(answers):
    """Have a stand-in serve meanwhile."""
    found = StandIn(answers)
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        found.server.shutdown()
        thread.join()
        found.server.server_close()
