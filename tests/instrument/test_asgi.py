"""The middleware for ASGI: Starlette, FastAPI and bare applications, on a real uvicorn."""

import asyncio
import contextlib

import pytest
from fastapi import APIRouter, FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Host, Mount, Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from otpylib_telemetry import current_span, inject, span, trace_context
from otpylib_telemetry.instrument.asgi import TelemetryMiddleware
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.service import start_telemetry_service
from tests.support.telemetry_service import stop
from tests.support.waiting import eventually
from tests.support.web import PARENT, REMOTE, TRACE, AsgiServer, fetch, hang_up, listening, told_as


async def user(request):
    return JSONResponse({"id": request.path_params.get("id"), **trace_context()})


async def boom(request):
    raise ValueError("no tea")


async def refuse(request):
    raise HTTPException(int(request.path_params["status"]))


async def slowly(request):
    async def parts():
        for _ in range(3):
            await asyncio.sleep(0.03)
            async with span("part"):
                yield b"x"

    return StreamingResponse(parts())


async def in_background(request):
    async def work():
        async with span("work"):
            await asyncio.sleep(0.4)

    return PlainTextResponse("soon", background=BackgroundTask(work))


class Unreadable:
    """Raises, whatever it is asked for."""

    def __str__(self):
        raise RuntimeError("cannot be read")

    __bool__ = __iter__ = __len__ = __getitem__ = __str__


ROUTES = [
    Route("/users/{id:int}", user, methods=["GET", "POST"]),
    Route("/boom", boom),
    Route("/status/{status}", refuse),
    Route("/slowly", slowly),
    Route("/background", in_background),
    Mount("/of/{tenant}", routes=[Route("/items/{item}", user), Mount("/deep", routes=[Route("/x", user)])]),
    Mount("/numbered/{number:int}", routes=[Route("/x", user)]),
    Mount("/files", app=PlainTextResponse("a file")),
    Host("other.test", app=Starlette(routes=[Route("/there/{x}", user)])),
]


def around():
    return TelemetryMiddleware(Starlette(routes=ROUTES))


def added():
    app = Starlette(routes=ROUTES)
    app.add_middleware(TelemetryMiddleware)
    return app


def below_another():
    """A middleware that runs the application in a task of its own."""

    async def pass_on(request, call_next):
        return await call_next(request)

    app = Starlette(routes=ROUTES)
    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    return TelemetryMiddleware(app)


APPLICATIONS = pytest.mark.parametrize("make", [around, added, below_another])


async def ask(app, path, **how):
    with AsgiServer(app) as url:
        return await asyncio.to_thread(fetch, url + path, **how)


@APPLICATIONS
async def test_a_request_is_one_operation_as_the_conventions_have_it(make, background_errors):
    told = await listening()
    headers = {"traceparent": REMOTE, "tracestate": "a=b", "baggage": "who=me", "User_Agent": "t/1"}
    status, _, body = await ask(make(), "/users/7?q=tea&token=abc", **headers)
    assert status == 200
    one = await told.one()
    assert one.attributes == told_as("/users/{id:int}", one["server.port"])
    assert one["trace_id"] == TRACE
    assert one["parent_span_id"] == PARENT
    assert one.outcome == "success"
    assert f"00-{TRACE}-{one['span_id']}-01".encode() in body
    assert b'"tracestate":"a=b"' in body
    assert b'"baggage":"who=me"' in body


@APPLICATIONS
@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/of/acme/items/7", "/of/{tenant}/items/{item}"),
        ("/of/7/items/7", "/of/{tenant}/items/{item}"),
        ("/of/acme/deep/x", "/of/{tenant}/deep/x"),
        ("/files/a/b.js", "/files/{path}"),
        ("/nowhere/77", None),
        ("/of/acme/nowhere", "/of/{tenant}/{path}"),
        ("/users/x", None),
    ],
)
async def test_the_route_is_the_template_and_never_the_path(make, path, route):
    told = await listening()
    await ask(make(), path)
    one = await told.one()
    assert one["http.route"] == route
    assert one.name == ("GET" if route is None else f"GET {route}")


async def test_a_value_that_cannot_be_found_in_the_path_is_not_shown_either():
    told = await listening()
    await ask(around(), "/numbered/007/x")
    assert (await told.one())["http.route"] == "/{mount}/x"


async def test_a_method_that_a_route_does_not_have_is_told_with_the_route():
    told = await listening()
    assert (await ask(around(), "/users/7", method="DELETE"))[0] == 405
    one = await told.one()
    assert (one.name, one.outcome) == ("DELETE /users/{id:int}", "success")


async def test_a_method_that_nobody_knows_is_told_as_other():
    told = await listening()
    await ask(around(), "/users/7", method="BREW")
    one = await told.one()
    assert (one.name, one["http.request.method_original"]) == ("HTTP /users/{id:int}", "BREW")


@APPLICATIONS
async def test_an_exception_is_an_error_with_its_stack(make):
    told = await listening()
    assert (await ask(make(), "/boom"))[0] == 500
    one = await told.one()
    assert (one.outcome, one.status, one["error.type"], one["error"]) == (
        "error",
        500,
        "ValueError",
        "no tea",
    )
    assert "in boom" in one["stacktrace"]


@pytest.mark.parametrize(
    ("status", "outcome", "kind"), [(404, "success", None), (499, "success", None), (503, "error", "503")]
)
@APPLICATIONS
async def test_only_what_the_server_did_wrong_is_an_error(make, status, outcome, kind):
    told = await listening()
    assert (await ask(make(), f"/status/{status}"))[0] == status
    one = await told.one()
    assert (one.outcome, one.status, one["error.type"]) == (outcome, status, kind)


@APPLICATIONS
async def test_a_stream_lasts_until_its_end_and_belongs_to_the_request(make):
    told = await listening()
    assert (await ask(make(), "/slowly"))[2] == b"xxx"
    one = await told.one()
    assert one.duration_ms >= 90
    assert {part["parent_span_id"] for part in told.of("part")} == {one["span_id"]}


@APPLICATIONS
async def test_work_in_the_background_does_not_count_and_belongs_to_the_request(make):
    told = await listening()
    await ask(make(), "/background")
    [work] = await told.count(1, "work")
    one = await told.one()
    assert one.duration_ms < work.duration_ms
    assert (work["trace_id"], work["parent_span_id"]) == (one["trace_id"], one["span_id"])


async def test_a_client_that_goes_away_is_told_of_and_is_no_error():
    told = await listening()
    endless = asyncio.Event()

    async def parts():
        try:
            while True:
                yield b"x" * 10
                await asyncio.sleep(0.01)
        finally:
            endless.set()

    async def stream(request):
        return StreamingResponse(parts())

    with AsgiServer(TelemetryMiddleware(Starlette(routes=[Route("/s", stream)]))) as url:
        assert await asyncio.to_thread(hang_up, f"{url}/s") == b"x"
        one = await told.one()
    assert (one.outcome, one["http.client_disconnected"], one.status) == ("success", True, 200)


async def test_head_has_no_body_and_an_end():
    told = await listening()
    assert (await ask(around(), "/users/7", method="HEAD"))[0] == 200
    assert (await told.one()).name == "HEAD /users/{id:int}"


# --- bare applications --------------------------------------------------------------------------------------


SCOPE = {
    "type": "http",
    "method": "GET",
    "scheme": "http",
    "path": "/x",
    "query_string": b"",
    "headers": [],
    "http_version": "1.1",
}


async def run(app, scope=None, received=(), **options):
    """Run an application without a server; return what it sent."""
    sent = []
    waiting = [*received]

    async def receive():
        if waiting:
            return waiting.pop(0)
        return await asyncio.Future()

    async def send(message):
        sent.append(message)

    await TelemetryMiddleware(app, **options)({**SCOPE, **(scope or {})}, receive, send)
    return sent


def answering(*messages):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    return app


START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"x"}


async def test_what_is_no_request_passes_untouched():
    told = await listening()
    seen = []

    async def app(*given):
        seen.append(given)

    receive, send = object(), object()
    odd = [{"type": "lifespan"}, {"type": "other"}, {}]
    for scope in odd:
        await TelemetryMiddleware(app)(scope, receive, send)
    assert [given[0] for given in seen] == [{"type": "lifespan"}, {"type": "other"}, {}]
    assert all(
        given[1:] == (receive, send) and given[0] is scope for given, scope in zip(seen, odd, strict=True)
    )
    assert told.ends == []


@pytest.mark.parametrize(
    "last",
    [
        [{"type": "http.response.pathsend", "path": "/any/file"}],
        [END],
        [{**END, "more_body": True}, END],
    ],
)
async def test_every_way_to_end_a_response_ends_the_operation(last):
    told = await listening()
    seen = []

    async def app(scope, receive, send):
        await send(START)
        for message in last:
            seen.append(len(told.ends))
            await send(message)
        seen.append(len(told.ends))

    assert await run(app) == [START, *last]
    assert seen == [*(0 for _ in last), 1]


async def test_trailers_are_part_of_the_response():
    told = await listening()
    seen = []

    async def app(scope, receive, send):
        await send({**START, "trailers": True})
        await send(END)
        seen.append(len(told.ends))
        await send({"type": "http.response.trailers", "headers": []})
        seen.append(len(told.ends))

    await run(app)
    assert seen == [0, 1]


@pytest.mark.parametrize(
    ("messages", "received", "expected"),
    [
        ([], [], ("error", 500, "incomplete_response", None)),
        ([START], [], ("error", 200, "incomplete_response", None)),
        ([START, {**END, "more_body": True}], [], ("error", 200, "incomplete_response", None)),
        ([START], [{"type": "http.disconnect"}], ("success", 200, None, True)),
    ],
)
async def test_a_response_without_an_end_is_told_as_that(messages, received, expected):
    told = await listening()

    async def app(scope, receive, send):
        for _ in received:
            await receive()
        for message in messages:
            await send(message)

    await run(app, received=received)
    one = await told.one()
    assert (one.outcome, one.status, one["error.type"], one["http.client_disconnected"]) == expected


class ClientDisconnect(Exception):  # noqa: N818
    """As Starlette calls it."""


@pytest.mark.parametrize("error", [OSError("gone"), ClientDisconnect()])
async def test_an_exception_that_says_that_the_client_has_gone_is_no_error(error):
    told = await listening()

    async def app(scope, receive, send):
        await receive()
        raise error

    with pytest.raises(type(error)):
        await run(app, received=[{"type": "http.disconnect"}])
    one = await told.one()
    assert (one.outcome, one["http.client_disconnected"]) == ("success", True)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), BaseExceptionGroup("g", [ValueError()])]
)
async def test_whatever_the_application_raises_comes_out(error):
    told = await listening()

    async def app(scope, receive, send):
        raise error

    with contextlib.suppress(BaseException):
        await run(app)
        raise AssertionError
    assert (await told.one()).outcome == ("success" if isinstance(error, GeneratorExit) else "error")
    assert current_span() is None


async def test_cancellation_is_an_outcome_of_its_own():
    told = await listening()

    async def app(scope, receive, send):
        await send(START)
        await asyncio.Future()

    running = asyncio.ensure_future(run(app))
    await eventually(lambda: told.starts)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    one = await told.one()
    assert (one.outcome, one["error_type"], one["error.type"]) == (
        "error",
        "CancelledError",
        "asyncio.exceptions.CancelledError",
    )


@pytest.mark.parametrize(
    "scope",
    [
        {"headers": [(b"user-agent", b"\xff\xfe\x00"), (b"host", b"\xff"), (b"traceparent", b"\xff")]},
        {"headers": [(b"traceparent", REMOTE.encode()), (b"traceparent", REMOTE.upper().encode())]},
        {"headers": None, "method": None, "path": None, "query_string": None, "scheme": None},
        {"headers": [(1, 2)], "server": 3, "client": ()},
        {"headers": [["User-Agent", "text"]], "http_version": 2},
        {"raw_path": b"/\xff?x=1", "client": ("::1", 1), "server": ("/run/socket", None)},
        {"path": "/\udcff", "root_path": "/api"},
        {"path": Unreadable()},
        {"root_path": Unreadable(), "raw_path": Unreadable(), "query_string": Unreadable()},
        {"headers": Unreadable(), "scheme": Unreadable(), "server": Unreadable(), "client": Unreadable()},
        {"path": "/" + "x" * 1_000_000, "query_string": b"x" * 1_000_000},
        {"headers": [(b"host", b"h" * 100_000), (b"user-agent", b"(" * 100_000)], "method": "X" * 100_000},
    ],
)  # fmt: skip
async def test_nothing_odd_in_a_scope_breaks_the_request(scope):
    told = await listening()
    assert await run(answering(START, END), scope) == [START, END]
    one = await told.one()
    assert (one.outcome, one.status) == ("success", 200)
    assert all(len(text) < 10_000 for text in one.attributes.values() if isinstance(text, str))


async def test_two_traceparents_are_none():
    told = await listening()
    headers = [(b"traceparent", REMOTE.encode())] * 2
    await run(answering(START, END), {"headers": headers})
    assert (await told.one())["parent_span_id"] is None


@pytest.mark.parametrize(
    "odd",
    [{}, {"type": None}, {"type": "http.response.start"}, {"type": "http.response.start", "status": "200"}],
)
async def test_no_odd_message_is_touched(odd):
    await listening()
    assert (await run(answering(odd, START, END)))[0] is odd


async def test_where_nobody_listens_the_context_passes_and_nothing_is_wrapped():
    seen = []

    async def receive():
        raise AssertionError

    async def send(message):
        raise AssertionError

    async def app(scope, *given):
        seen.append((given, trace_context()["traceparent"]))

    scope = {**SCOPE, "headers": [(b"traceparent", REMOTE.encode())]}
    await TelemetryMiddleware(app)(scope, receive, send)
    assert seen == [((receive, send), REMOTE)]
    assert current_span() is None


async def test_requests_are_left_out_and_still_in_their_trace():
    told = await listening()
    carriers = []

    async def app(scope, receive, send):
        carriers.append({})
        inject(carriers[-1])

    scope = {"headers": [(b"traceparent", REMOTE.encode())], "path": "/healthz"}
    await run(app, scope, exclude="/healthz")
    assert told.ends == []
    assert carriers == [{"traceparent": REMOTE}]


async def test_a_function_that_fails_to_exclude_leaves_nothing_out(caplog):
    told = await listening()
    await run(answering(START, END), exclude=lambda _path: 1 / 0)
    await told.one()
    assert "ZeroDivisionError" in caplog.text


async def test_the_application_may_say_which_route_it_took():
    told = await listening()
    await run(answering(START, END), route=lambda scope: f"/{{{len(scope['path'])}}}")
    assert (await told.one()).name == "GET /{2}"


async def test_two_of_them_make_one_operation():
    told = await listening()
    await run(TelemetryMiddleware(answering(START, END)))
    await told.one()


async def test_a_request_is_not_part_of_what_its_server_was_started_in():
    """A server hands the context in which it was started to every request."""
    told = await listening()
    async with span("start-up"):
        serving = asyncio.create_task(run(answering(START, END)))
    await serving
    assert (await told.one())["parent_span_id"] is None


async def test_called_directly_it_is_part_of_what_it_is_called_in():
    told = await listening()
    async with span("outer") as outer:
        await run(answering(START, END))
        assert current_span() == outer.context
    assert (await told.one())["parent_span_id"] == told.of("outer")[0]["span_id"]


# --- websockets ---------------------------------------------------------------------------------------------


WEBSOCKET = {"type": "websocket", "scheme": "ws", "path": "/ws/7", "method": None}
CONNECT = {"type": "websocket.connect"}
ACCEPT = {"type": "websocket.accept"}


def websocket_scope():
    scope = {**SCOPE, **WEBSOCKET}
    del scope["method"]
    return scope


async def run_websocket(endpoint, *received):
    sent = []
    waiting = [CONNECT, *received]

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    app = Starlette(routes=[WebSocketRoute("/ws/{room}", endpoint)])
    with contextlib.suppress(WebSocketDisconnect, ValueError):
        await TelemetryMiddleware(app)(websocket_scope(), receive, send)
    return sent


async def echo(socket):
    await socket.accept()
    while True:
        await socket.send_text(await socket.receive_text())


async def close_badly(socket):
    await socket.accept()
    await socket.close(1011)


async def refuse_socket(socket):
    await socket.close()


async def fail(socket):
    await socket.accept()
    raise ValueError("broken")


TEXT = {"type": "websocket.receive", "text": "x"}


@pytest.mark.parametrize(
    ("endpoint", "received", "expected"),
    [
        (echo, [TEXT, {"type": "websocket.disconnect", "code": 1000}], ("success", 101, None, None)),
        (echo, [TEXT, {"type": "websocket.disconnect", "code": 1001}], ("success", 101, None, None)),
        (echo, [{"type": "websocket.disconnect", "code": 1006}], ("success", 101, None, True)),
        (close_badly, [], ("error", 101, "websocket 1011", None)),
        (refuse_socket, [], ("success", 403, None, None)),
        (fail, [], ("error", 101, "ValueError", None)),
    ],
)
async def test_a_websocket_is_one_operation_until_it_is_closed(endpoint, received, expected):
    told = await listening()
    await run_websocket(endpoint, *received)
    one = await told.one()
    assert one.name == "GET /ws/{room}"
    assert one["network.protocol.name"] == "websocket"
    assert (one.outcome, one.status, one["error.type"], one["http.client_disconnected"]) == expected


# --- FastAPI ------------------------------------------------------------------------------------------------


def fastapi_application(**options):
    app = FastAPI(**options)
    router = APIRouter(prefix="/things")
    behind = FastAPI()

    @router.get("/{thing}")
    def thing(thing: str):
        with span("in a thread"):
            return {}

    @app.get("/fail/{number}")
    async def failing(number: int):
        raise ValueError("no tea")

    @behind.get("/x/{y}")
    async def deep(y: str):
        return {}

    app.include_router(router, prefix="/api/{version}")
    app.mount("/behind", behind)
    return app


@pytest.mark.parametrize(
    ("path", "status", "route"),
    [
        ("/api/v1/things/7", 200, "/api/{version}/things/{thing}"),
        ("/fail/x", 422, "/fail/{number}"),
        ("/fail/7", 500, "/fail/{number}"),
        ("/behind/x/7", 200, "/behind/x/{y}"),
        ("/behind/nowhere/7", 404, "/behind/{path}"),
        ("/nowhere/7", 404, None),
    ],
)
@pytest.mark.parametrize("way", ["around", "added"])
async def test_fastapi_tells_its_routes(path, status, route, way):
    told = await listening()
    app = fastapi_application()
    if way == "added":
        app.add_middleware(TelemetryMiddleware)
    else:
        app = TelemetryMiddleware(app)
    assert (await ask(app, path))[0] == status
    one = await told.one()
    assert (one["http.route"], one.outcome) == (route, "error" if status == 500 else "success")
    for inner in told.of("in a thread"):
        assert inner["parent_span_id"] == one["span_id"]


@pytest.fixture
async def api(runtime, http_receiver):
    """OpenTelemetry's API with our providers, so that whatever else tells of requests has somewhere to."""
    await start_otel_exporter(
        {"endpoint": http_receiver.endpoint, "protocol": "http/protobuf", "flush_interval": 0.02}, name=None
    )
    await start_telemetry_service()
    await eventually(lambda: type(trace.get_tracer_provider()).__module__.startswith("otpylib"))
    yield http_receiver
    await stop()


async def spans_of(receiver, *names):
    await eventually(lambda: {each.name for each in receiver.spans} >= set(names))
    return [each for each in receiver.spans if str(each.kind).upper().endswith(("SERVER", "2"))]


async def test_fastapis_own_telemetry_leaves_it_to_us(api):
    app = TelemetryMiddleware(fastapi_application())
    await ask(app, "/api/v1/things/7")
    servers = await spans_of(api, "GET /api/{version}/things/{thing}")
    assert len(servers) == 1


@pytest.mark.parametrize("way", ["around", "added"])
async def test_opentelemetrys_instrumentation_beside_ours_breaks_nothing(api, way):
    # Of one route: old versions of it cannot deal with routers that are included.
    app = FastAPI()

    @app.get("/things/{thing}")
    def thing(thing: str):
        with span("in a thread"):
            return {}

    if way == "added":
        app.add_middleware(TelemetryMiddleware)
    FastAPIInstrumentor.instrument_app(app)
    try:
        whole = app if way == "added" else TelemetryMiddleware(app)
        assert (await ask(whole, "/things/7", traceparent=REMOTE))[0] == 200
    finally:
        FastAPIInstrumentor.uninstrument_app(app)
    servers = await spans_of(api, "in a thread")
    await eventually(lambda: len(api.spans) >= 3)
    assert {each.trace_id for each in api.spans} == {TRACE}
    assert len(servers) <= 1
