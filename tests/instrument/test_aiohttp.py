"""aiohttp: the server's middleware and the client's tracing, over real sockets, on either event loop."""

import asyncio
import contextlib

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from otpylib_telemetry import current_span, span, trace_context
from otpylib_telemetry.instrument.aiohttp import middleware, trace_config
from tests.support.waiting import eventually
from tests.support.web import PARENT, REMOTE, TRACE, fetch, listening, told_as


async def user(request):
    return web.json_response({"id": request.match_info["id"], **trace_context()})


async def boom(request):
    raise ValueError("no tea")


async def late(request):
    raise TimeoutError


async def answer(request):
    status = int(request.match_info["status"])
    return web.Response(status=status)


async def refuse(request):
    raise web.HTTPServiceUnavailable if request.match_info["status"] == "503" else web.HTTPNotFound


async def parts():
    for _ in range(3):
        await asyncio.sleep(0.03)
        async with span("part"):
            yield b"x"


async def body_of_parts(request):
    return web.Response(body=parts())


async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    async for part in parts():
        await response.write(part)
    return response


async def broken_body(request):
    async def broken():
        yield b"x"
        raise ValueError("half")

    return web.Response(body=broken())


async def endless(request):
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 100)
        await asyncio.sleep(0.01)


async def endless_body(request):
    async def without_end():
        while True:
            yield b"x" * 100
            await asyncio.sleep(0.01)

    return web.Response(body=without_end())


async def sockets(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def nothing(request):
    return None


async def file(request):
    return web.FileResponse(__file__)


def application(*before, **options):
    app = web.Application(middlewares=[*before, middleware(**options) if options else middleware])
    below = web.Application()
    below.router.add_get("/items/{item}", file)
    app.router.add_get("/users/{id}", user)
    app.router.add_get("/number/{id:[0-9]+}", user)
    for handler in (
        boom,
        late,
        body_of_parts,
        stream,
        broken_body,
        endless,
        endless_body,
        sockets,
        nothing,
        file,
    ):
        app.router.add_get(f"/{handler.__name__}", handler)
    app.router.add_get("/answer/{status}", answer)
    app.router.add_get("/refuse/{status}", refuse)
    app.add_subapp("/below", below)
    return app


@contextlib.asynccontextmanager
async def serving(app, **options):
    runner = web.AppRunner(app, **options)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def ask(app, path, method="GET", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        serving(app) as url,
        aiohttp.ClientSession() as session,
        session.request(method, url + path, headers=named) as response,
    ):
        try:
            return response.status, await response.read()
        except aiohttp.ClientError:
            return response.status, None


async def test_a_request_is_one_operation_as_the_conventions_have_it():
    told = await listening()
    _, body = await ask(application(), "/users/7?q=tea&token=abc", traceparent=REMOTE, User_Agent="t/1")
    one = await told.one()
    assert one.attributes == told_as("/users/{id}", one["server.port"])
    assert one["trace_id"] == TRACE
    assert (one["parent_span_id"], one.outcome) == (PARENT, "success")
    assert f"00-{TRACE}-{one['span_id']}-01".encode() in body
    assert told.starts[0][1]["http.route"] == "/users/{id}"


@pytest.mark.parametrize(
    ("path", "route", "status", "outcome", "kind"),
    [
        ("/number/7", "/number/{id}", 200, "success", None),
        ("/nowhere/7", None, 404, "success", None),
        ("/below/items/7", "/below/items/{item}", 200, "success", None),
        ("/below/nowhere/7", None, 404, "success", None),
        ("/boom", "/boom", 500, "error", "ValueError"),
        ("/late", "/late", 504, "error", "TimeoutError"),
        ("/answer/404", "/answer/{status}", 404, "success", None),
        ("/answer/502", "/answer/{status}", 502, "error", "502"),
        ("/refuse/404", "/refuse/{status}", 404, "success", None),
        ("/refuse/503", "/refuse/{status}", 503, "error", "503"),
        ("/nothing", "/nothing", 500, "error", "500"),
        ("/file", "/file", 200, "success", None),
    ],
)
async def test_what_aiohttp_answers_is_told_with_its_route(path, route, status, outcome, kind):
    told = await listening()
    assert (await ask(application(), path))[0] == status
    one = await told.one()
    assert (one["http.route"], one.status, one.outcome, one["error.type"]) == (route, status, outcome, kind)
    assert ("in boom" in (one["stacktrace"] or "")) is (path == "/boom")


@pytest.mark.parametrize("path", ["/stream", "/body_of_parts"])
async def test_a_stream_lasts_until_its_end_and_belongs_to_the_request(path):
    told = await listening()
    assert await ask(application(), path) == (200, b"xxx")
    one = await told.one()
    assert one.duration_ms >= 90
    assert {part["parent_span_id"] for part in told.of("part")} == {one["span_id"]}


async def test_a_body_that_fails_half_way_is_an_error():
    told = await listening()
    await ask(application(), "/broken_body")
    one = await told.one()
    assert (one.outcome, one.status, one["error"]) == ("error", 200, "half")


@pytest.mark.parametrize("path", ["/endless", "/endless_body"])
async def test_a_client_that_goes_away_is_told_of_and_is_no_error(path):
    told = await listening()
    async with serving(application()) as url:
        async with aiohttp.ClientSession() as session, session.get(url + path) as response:
            await response.content.readexactly(10)
            response.close()
        one = await told.one()
    assert (one.outcome, one["http.client_disconnected"], one.status if path == "/endless_body" else 200) == (
        "success",
        True,
        200,
    )


async def test_a_handler_that_is_cancelled_is_told_as_that():
    told = await listening()
    begun = asyncio.Event()

    async def wait(request):
        begun.set()
        await asyncio.Future()

    app = application()
    app.router.add_get("/wait", wait)
    async with serving(app, handler_cancellation=True) as url, aiohttp.ClientSession() as session:
        asking = asyncio.ensure_future(session.get(f"{url}/wait"))
        await begun.wait()
        asking.cancel()
        one = await told.one()
    assert (one.outcome, one["error_type"]) == ("error", "CancelledError")


async def test_a_websocket_is_one_operation_until_it_is_closed():
    told = await listening()
    async with serving(application()) as url, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{url}/sockets") as socket:
            await socket.send_str("x")
            assert (await socket.receive()).data == "x"
            assert told.of() == []
        one = await told.one()
    assert (one.name, one.status, one.outcome) == ("GET /sockets", 101, "success")


async def test_head_has_an_end():
    told = await listening()
    assert (await ask(application(), "/users/7", method="HEAD"))[0] == 200
    assert (await told.one()).name == "HEAD /users/{id}"


async def test_requests_over_one_connection_do_not_know_each_other():
    told = await listening()
    async with serving(application()) as url, aiohttp.ClientSession() as session:
        for _ in range(3):
            async with session.get(f"{url}/users/7"):
                pass
    found = await told.count(3)
    assert {one["parent_span_id"] for one in found} == {None}
    assert len({one["trace_id"] for one in found}) == 3


async def test_a_request_is_not_part_of_what_its_server_was_started_in():
    told = await listening()
    async with span("start-up"):
        status, _ = await ask(application(), "/users/7")
    assert status == 200
    assert (await told.one())["parent_span_id"] is None


async def test_requests_are_left_out_and_still_in_their_trace():
    told = await listening()
    _, body = await ask(application(exclude="/users/*"), "/users/7", traceparent=REMOTE)
    assert told.of() == []
    assert REMOTE.encode() in body


async def test_where_nobody_listens_the_context_passes():
    _, body = await ask(application(), "/users/7", traceparent=REMOTE)
    assert REMOTE.encode() in body


async def test_two_of_them_make_one_operation():
    told = await listening()
    await ask(application(middleware(exclude=())), "/users/7")
    await told.one()


async def test_a_middleware_may_run_the_handler_in_a_task_of_its_own():
    told = await listening()

    @web.middleware
    async def limited(request, handler):
        return await asyncio.create_task(asyncio.wait_for(handler(request), 30))

    assert (await ask(application(limited), "/body_of_parts"))[1] == b"xxx"
    await told.one()


async def test_called_without_a_server_it_ends_with_the_handler_and_leaves_nothing():
    told = await listening()
    async with span("test") as outer:
        response = await middleware(make_mocked_request("GET", "/x"), body_of_parts)
        assert response.status == 200
        assert current_span() == outer.context
    await told.one()


@pytest.mark.parametrize(
    "headers",
    [
        {"User-Agent": "\ufffd\x01", "Host": "[x"},
        {"Host": "shop.test:99999999"},
        {"traceparent": "\u20ac", "baggage": "x" * 5000},
    ],
)
async def test_nothing_odd_in_a_request_breaks_it(headers):
    told = await listening()
    await middleware(make_mocked_request("GET", "/x?%ff=%zz", headers=headers), nothing)
    await told.one()


@pytest.mark.parametrize(
    "asked",
    [
        "x" * 60_000,
        "=" * 60_000,
        "token=" * 10_000,
        "&" * 60_000,
        "token=" + "s3" * 30_000,
        "%ff=%zz&%",
        "a;b",
    ],
    ids=lambda asked: asked[:8],
)
async def test_whatever_is_asked_is_answered_as_without_it(asked):
    async def echo(request):
        return web.Response(text=f"{request.path_qs} {sorted(request.query.items())}")

    bare, told_of = web.Application(), web.Application(middlewares=[middleware])
    answers = []
    told = await listening()
    for app in (bare, told_of):
        app.router.add_get("/x", echo)
        async with serving(app, max_line_size=100_000) as url:
            answers.append((await asyncio.to_thread(fetch, f"{url}/x?{asked}"))[::2])
    assert answers[0] == answers[1]
    assert answers[0][0] == 200
    one = await told.one()
    assert len(one["url.query"]) < 10_000
    assert "s3" not in one["url.query"]


# --- the client ---------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def client(app, *configs, **options):
    async with (
        serving(app) as url,
        aiohttp.ClientSession(trace_configs=[trace_config(), *configs], **options) as session,
    ):
        yield session, url


async def test_a_request_that_is_made_is_the_parent_of_the_one_that_is_served():
    told = await listening()
    async with client(application()) as (session, url), span("outer"):
        async with session.get(f"{url}/users/7", params={"token": "abc"}) as response:
            assert response.status == 200
        outer = current_span()
    made, served = await told.one("http.client.request"), await told.one()
    assert (made["parent_span_id"], made["trace_id"]) == (outer.span_id, outer.trace_id)
    assert (served["parent_span_id"], served["trace_id"]) == (made["span_id"], outer.trace_id)
    assert made.attributes == {
        "span.name": "GET",
        "span.kind": "client",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.full": f"{url}/users/7?token=REDACTED",
        "server.address": "127.0.0.1",
        "server.port": int(url.rpartition(":")[2]),
        "network.protocol.version": "1.1",
    }


@pytest.mark.parametrize("status", [400, 404, 503])
async def test_for_a_client_every_error_is_an_error(status):
    told = await listening()
    async with client(application()) as (session, url), session.get(f"{url}/answer/{status}"):
        pass
    made = await told.one("http.client.request")
    assert (made.outcome, made.status, made["error.type"], made["error"]) == (
        "error",
        status,
        str(status),
        "",
    )


async def test_a_status_that_raises_is_told_once():
    told = await listening()
    async with client(application(), raise_for_status=True) as (session, url):
        with pytest.raises(aiohttp.ClientResponseError):
            await session.get(f"{url}/answer/503")
    made = await told.one("http.client.request")
    assert (made.outcome, made.status, made["error_type"]) == ("error", 503, "ClientResponseError")


async def test_a_server_that_is_not_there_is_an_error_with_its_exception():
    told = await listening()
    async with aiohttp.ClientSession(trace_configs=[trace_config()]) as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get("http://me:secret@127.0.0.1:1/x")
        assert current_span() is None
    made = await told.one("http.client.request")
    assert (made.outcome, made["error.type"]) == ("error", "aiohttp.client_exceptions.ClientConnectorError")
    assert "secret" not in str(made)


async def test_a_request_that_is_cancelled_is_told_as_that():
    told = await listening()
    begun, over = asyncio.Event(), asyncio.Event()

    async def wait(request):
        begun.set()
        await over.wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/wait", wait)
    async with client(app) as (session, url):
        asking = asyncio.ensure_future(session.get(f"{url}/wait"))
        await begun.wait()
        asking.cancel()
        made = await told.one("http.client.request")
        # Or the server waits a minute for its handler when it is closed.
        over.set()
    assert (made.outcome, made["error_type"]) == ("error", "CancelledError")


async def test_redirects_are_part_of_the_request():
    told = await listening()

    async def away(request):
        raise web.HTTPFound("/users/7")

    app = application()
    app.router.add_get("/away", away)
    async with client(app) as (session, url), session.get(f"{url}/away") as response:
        assert response.status == 200
    made = await told.one("http.client.request")
    served = await told.count(2)
    assert {one["parent_span_id"] for one in served} == {made["span_id"]}


async def test_where_nobody_listens_a_client_passes_its_callers_context_on():
    async with client(application()) as (session, url):
        async with span("nobody listens", {"traceparent": REMOTE}), session.get(f"{url}/users/7") as response:
            assert REMOTE in await response.text()
        assert current_span() is None


async def test_many_requests_at_once_do_not_get_into_each_others_traces():
    told = await listening()
    async with client(application()) as (session, url):

        async def one(number):
            async with (
                span("outer", {"number": number}) as outer,
                session.get(f"{url}/users/{number}") as response,
            ):
                assert (await response.json())["traceparent"].split("-")[1] == outer.context.trace_id

        await asyncio.gather(*map(one, range(50)))
    made = await told.count(50, "http.client.request")
    assert len({each["trace_id"] for each in made}) == 50


async def test_a_websocket_is_asked_for_in_the_trace():
    told = await listening()
    async with client(application()) as (session, url), session.ws_connect(f"{url}/sockets") as socket:
        await socket.close()
    made, served = await told.one("http.client.request"), await told.one()
    assert (made.status, served["parent_span_id"]) == (101, made["span_id"])
    await eventually(lambda: current_span() is None)
