"""The shop: an otpylib application with telemetry in its supervision tree. Copy from here.

::

    shop_sup
    ├── telemetry_sup        everything otpylib-telemetry runs, one line in the tree
    │   ├── telemetry_manager
    │   ├── otel_exporter
    │   └── prometheus_exporter
    ├── catalogue
    ├── stock
    └── payment

``[telemetry.instrument] enabled = true`` in ``config.toml`` has every message take along where in a trace its
sender was. So the spans of a server are children of those of its caller, and no message says anything of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import random
from typing import TYPE_CHECKING, Any

import otpylib_config
from otpylib import gen_server, process, supervisor
from otpylib.gen_server.data import NoReply, Reply
from otpylib.module import GEN_SERVER, SUPERVISOR, OTPModule
from otpylib.runtime import reset_runtime, set_runtime
from otpylib.runtime.atoms import SHUTDOWN
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

import otpylib_telemetry
from otpylib_telemetry import TomlSource, current_span, execute, span

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: What the shop sells: item to price.
PRICES = {"kettle": 34, "teapot": 28, "cup": 9, "saucer": 5, "sencha": 14, "assam": 11}

#: How many of each item are on the shelf after a delivery, and how few make the shop order more.
FULL_SHELF, LOW_SHELF = 60, 12

#: Seconds to wait for a server's answer. otpylib waits for ever without one.
PATIENCE = 5.0

#: How often the bank does not answer.
BANK_FAILURES = 0.12

#: Seconds between two readings of the configuration file. Far more often than an application would need.
RELOAD_INTERVAL = 0.2


class UnknownItemError(Exception):
    """The shop does not sell that."""


class PaymentError(Exception):
    """The money did not come."""


# --- calling a server ---------------------------------------------------------------------------------------


async def ask(server: str, *request: Any) -> Any:
    """Call one of the shop's servers.

    For code that is no process, such as the handler of an HTTP request. A server must not call another one
    this way: while ``gen_server.call`` waits inside a process, all other messages to that process are lost.

    Args:
        server: Its registered name.
        *request: What is asked.

    Returns:
        The answer.
    """
    return await gen_server.call(server, request, timeout=PATIENCE)


@span("shop.checkout")
async def checkout(basket: Mapping[str, int]) -> dict[str, Any]:
    """Sell what is in a basket: price it, reserve it, take the money; without money, put it back.

    As a decorator, ``span`` makes every call an operation of its own. It nests in whatever span is open.

    Args:
        basket: Item to quantity.

    Returns:
        The receipt.

    Raises:
        UnknownItemError: Something in it is not for sale.
        PaymentError: The bank did not pay.
    """
    amount = await ask("catalogue", "price", dict(basket))
    if amount is None:
        raise UnknownItemError(", ".join(sorted(basket)))
    await ask("stock", "reserve", dict(basket))
    outcome, detail = await ask("payment", "charge", amount)
    if outcome != "paid":
        await ask("stock", "release", dict(basket))
        raise PaymentError(detail)
    # An event that is no operation: a counter for Prometheus, and an event on the span that is open.
    execute("shop.revenue", {"count": amount}, {"currency": "EUR", "correlation_id": current_correlation()})
    return {"order": detail, "amount": amount}


def current_correlation() -> Any:
    """Return what ties an event to the span that is open here."""
    current = current_span()
    return None if current is None else current.correlation_id


# --- the servers --------------------------------------------------------------------------------------------


class Catalogue(metaclass=OTPModule, behavior=GEN_SERVER, version="1.0.0"):
    """Knows what is for sale."""

    async def init(self, prices: Mapping[str, int]) -> dict[str, int]:
        """Start with these prices."""
        return dict(prices)

    async def handle_call(self, message: Any, _from: Any, prices: dict[str, int]) -> Any:
        """Answer ``("list",)`` and ``("price", basket)``."""
        match message:
            case ("list",):
                async with span("shop.catalogue.list"):
                    await _look_up()
                    return (Reply(payload=dict(prices)), prices)
            case ("price", basket):
                async with span("shop.catalogue.price", {"items": len(basket)}):
                    await _look_up()
                    known = all(item in prices for item in basket)
                    amount = sum(prices[item] * number for item, number in basket.items()) if known else None
                    return (Reply(payload=amount), prices)
            case _:
                return (Reply(payload=("error", "unknown request")), prices)

    async def handle_cast(self, _message: Any, prices: dict[str, int]) -> Any:
        """Ignore what it does not know."""
        return (NoReply(), prices)

    async def handle_info(self, _message: Any, prices: dict[str, int]) -> Any:
        """Ignore what it does not know."""
        return (NoReply(), prices)

    async def terminate(self, _reason: Any, _prices: Any) -> None:
        """Nothing to release."""


@span("shop.catalogue.query")
async def _look_up() -> None:
    """Stand in for a query to a database."""
    await asyncio.sleep(0.0005)


class Stock(metaclass=OTPModule, behavior=GEN_SERVER, version="1.0.0"):
    """Knows how many of each item are on the shelf."""

    async def init(self, items: Mapping[str, int]) -> dict[str, int]:
        """Start with full shelves."""
        return dict.fromkeys(items, FULL_SHELF)

    async def handle_call(self, message: Any, _from: Any, shelf: dict[str, int]) -> Any:
        """Answer ``("level", item)``, ``("reserve", basket)`` and ``("release", ...)``."""
        match message:
            case ("level", item):
                with span("shop.stock.level", {"item": item}):
                    return (Reply(payload=shelf.get(item)), shelf)
            case ("reserve", basket):
                with span("shop.stock.reserve", {"items": len(basket)}):
                    for item, number in basket.items():
                        _take(shelf, item, number)
                    return (Reply(payload="reserved"), shelf)
            case ("release", basket):
                with span("shop.stock.release", {"items": len(basket)}):
                    for item, number in basket.items():
                        shelf[item] += number
                    return (Reply(payload="released"), shelf)
            case _:
                return (Reply(payload=("error", "unknown request")), shelf)

    async def handle_cast(self, _message: Any, shelf: dict[str, int]) -> Any:
        """Ignore what it does not know."""
        return (NoReply(), shelf)

    async def handle_info(self, _message: Any, shelf: dict[str, int]) -> Any:
        """Ignore what it does not know."""
        return (NoReply(), shelf)

    async def terminate(self, _reason: Any, _shelf: Any) -> None:
        """Nothing to release."""


def _take(shelf: dict[str, int], item: str, number: int) -> None:
    shelf[item] -= number
    if shelf[item] < LOW_SHELF:
        execute("shop.stock.delivery", {"count": FULL_SHELF - shelf[item]}, {"item": item})
        shelf[item] = FULL_SHELF
    execute("shop.stock.shelf", {"value": shelf[item]}, {"item": item})


class Payment(metaclass=OTPModule, behavior=GEN_SERVER, version="1.0.0"):
    """Takes the money. The bank it asks does not always answer."""

    async def init(self, failures: float) -> dict[str, Any]:
        """Start with a bank that fails this often."""
        dice = random.Random(2)  # noqa: S311  # nobody's money
        return {"failures": failures, "dice": dice, "numbers": itertools.count(1001)}

    async def handle_call(self, message: Any, _from: Any, state: dict[str, Any]) -> Any:
        """Answer ``("charge", amount)``."""
        match message:
            case ("charge", amount):
                try:
                    async with span("shop.payment.charge", {"amount": amount}):
                        await _ask_the_bank(state["dice"], state["failures"])
                except PaymentError as error:
                    # The span has seen the exception and says so. It must not leave the handler: otpylib
                    # would end the process, and leave the caller without an answer.
                    return (Reply(payload=("failed", str(error))), state)
                return (Reply(payload=("paid", next(state["numbers"]))), state)
            case _:
                return (Reply(payload=("error", "unknown request")), state)

    async def handle_cast(self, _message: Any, state: dict[str, Any]) -> Any:
        """Ignore what it does not know."""
        return (NoReply(), state)

    async def handle_info(self, _message: Any, state: dict[str, Any]) -> Any:
        """Ignore what it does not know."""
        return (NoReply(), state)

    async def terminate(self, _reason: Any, _state: Any) -> None:
        """Nothing to release."""


@span("shop.payment.bank")
async def _ask_the_bank(dice: random.Random, failures: float) -> None:
    """Stand in for a request to somebody else's service."""
    fails = dice.random() < failures
    await asyncio.sleep(0.012 if fails else dice.uniform(0.003, 0.008))
    if fails:
        raise PaymentError("the bank did not answer")


# --- the supervision tree -----------------------------------------------------------------------------------


class Shop(metaclass=OTPModule, behavior=SUPERVISOR, version="1.0.0"):
    """The application's supervisor. Telemetry starts first, to see the others from their first moment."""

    async def init(self, _arg: Any) -> Any:
        """Say what to supervise."""
        children = [
            otpylib_telemetry.child_spec(),
            supervisor.child_spec(id="catalogue", module=Catalogue, args=PRICES, name="catalogue"),
            supervisor.child_spec(id="stock", module=Stock, args=PRICES, name="stock"),
            supervisor.child_spec(id="payment", module=Payment, args=BANK_FAILURES, name="payment"),
        ]
        return (children, supervisor.options(strategy=supervisor.ONE_FOR_ONE))

    async def terminate(self, _reason: Any, _state: Any) -> None:
        """Nothing to release."""


class Application:
    """The running application: an otpylib runtime, its configuration, and the tree.

    Args:
        config: The configuration file.
    """

    def __init__(self, config: Path) -> None:
        self._config = config
        self._backend = AsyncIOBackend()
        self._tree: list[Any] = []
        self._grown: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Start everything; returns when all servers are up."""
        await self._backend.initialize()
        set_runtime(self._backend)
        self._grown = asyncio.get_running_loop().create_future()
        # Supervisors can only be started by a process, and whoever runs this is none.
        await process.spawn(self._grow, args=[self._grown], mailbox=True)
        await asyncio.shield(self._grown)

    async def _grow(self, grown: asyncio.Future[None]) -> None:
        try:
            # A TomlSource keeps the last good settings while the file is being edited.
            sources = [TomlSource(self._config)]
            spec = otpylib_config.ConfigSpec(id="shop", sources=sources, reload_interval=RELOAD_INTERVAL)
            with contextlib.redirect_stdout(io.StringIO()):  # otpylib-config prints while it starts
                self._tree.append(await otpylib_config.start(spec))
            self._tree.append(await supervisor.start_link(Shop, name="shop_sup"))
        except Exception as error:  # noqa: BLE001  # raised where the application was started
            grown.set_exception(error)
        else:
            grown.set_result(None)

    async def stop(self) -> None:
        """Stop the tree, then the configuration; returns when telemetry has exported what it held."""
        if self._grown is None:
            return
        # Stopped while it starts: what is half started cannot be stopped.
        await asyncio.wait([self._grown], timeout=PATIENCE)
        telemetry = process.whereis("telemetry_sup")
        for pid in reversed(self._tree):
            await process.send(pid, SHUTDOWN)
        # otpylib's supervisors wait for nobody, and nothing tells whoever is no process when one has ended.
        # That of telemetry ends when its exporters have, each within its shutdown_timeout.
        while telemetry is not None and process.is_alive(telemetry):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await self._backend.shutdown()
        reset_runtime()
