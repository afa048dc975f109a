"""The shop's HTTP front: an ordinary aiohttp application, one span per request. Copy from here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from examples.shop.application import PRICES, PaymentError, UnknownItemError, ask, checkout
from otpylib_telemetry import span

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: The response header by which a user who complains can be found among the traces.
TRACE_HEADER = "X-Trace-Id"

#: How many of an item a customer can buy.
MOST = 9

#: What goes wrong without being the customer's fault, and the status that says so.
FAILURES: dict[type[Exception], int] = {PaymentError: 503, TimeoutError: 504}


def status_of(error: Exception) -> int:
    """Return the HTTP status for a failure."""
    return next(status for kind, status in FAILURES.items() if isinstance(error, kind))


@web.middleware
async def traced(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Make every request an operation, in the caller's trace if it sent one."""
    resource = request.match_info.route.resource
    # The pattern of the path, not the path: a label must not take a new value with every request.
    metadata: dict[str, Any] = {"method": request.method, "route": resource.canonical if resource else "none"}
    if "traceparent" in request.headers:
        metadata["traceparent"] = request.headers["traceparent"]
    trace_id = ""
    try:
        async with span("shop.http.request", metadata) as operation:
            trace_id = operation.context.trace_id if operation.context else ""
            try:
                response = await handler(request)
            except web.HTTPException as answer:
                # aiohttp's other way to answer, for instance where there is no such path.
                response = web.Response(status=answer.status, body=answer.body, headers=answer.headers)
            except tuple(FAILURES) as error:
                operation.metadata["status"] = status_of(error)
                raise
            # What is added to the metadata of an open span goes with the event that ends it.
            operation.metadata["status"] = response.status
    except tuple(FAILURES) as error:
        # Outside the span: it has ended as the error that it is.
        response = web.json_response({"error": str(error)}, status=status_of(error))
    response.headers[TRACE_HEADER] = trace_id
    return response


async def list_items(_request: web.Request) -> web.Response:
    """``GET /items``."""
    return web.json_response(await ask("catalogue", "list"))


async def show_item(request: web.Request) -> web.Response:
    """``GET /items/{item}``."""
    item = request.match_info["item"]
    price = await ask("catalogue", "price", {item: 1})
    if price is None:
        return web.json_response({"error": f"there is no {item} here"}, status=404)
    return web.json_response({"item": item, "price": price, "left": await ask("stock", "level", item)})


async def buy(request: web.Request) -> web.Response:
    """``POST /checkout`` with a basket: item to quantity."""
    try:
        basket = await request.json()
    except json.JSONDecodeError:
        basket = None
    if not is_basket(basket):
        return web.json_response({"error": 'a basket was expected, for instance {"cup": 2}'}, status=400)
    try:
        return web.json_response(await checkout(basket), status=201)
    except UnknownItemError as error:
        return web.json_response({"error": f"not for sale here: {error}"}, status=404)


def is_basket(basket: object) -> bool:
    """Tell whether a customer sent what a customer can."""
    if not isinstance(basket, dict) or not basket:
        return False
    return all(isinstance(number, int) and 0 < number <= MOST for number in basket.values())


class WebServer:
    """The shop's front, on loopback.

    Args:
        port: Where to listen; 0 for any free port.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        app = web.Application(middlewares=[traced])
        app.add_routes(
            [web.get("/items", list_items), web.get("/items/{item}", show_item), web.post("/checkout", buy)]
        )
        self._runner = web.AppRunner(app, access_log=None)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Open.

        Raises:
            OSError: The port is taken.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, shutdown_timeout=1.0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close; requests under way are answered first."""
        await self._runner.cleanup()


__all__ = ["PRICES", "TRACE_HEADER", "WebServer"]
