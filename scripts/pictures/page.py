"""The admin page as a real Chromium shows it, of the demonstration's shop under a small load."""

from __future__ import annotations

import asyncio
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from scripts.pictures import svg

#: The picture, what of the page is on it, how wide the screen is, how much of it, and whether it is dark.
SHOTS: Final = (
    ("page-exporters.png", "#exporters", 1000, 560, False),
    ("page-trace.png", "#trace", 1000, 520, True),
    ("page-actors.png", "#actors", 1000, 560, False),
    ("page-narrow.png", "body", 360, 720, True),
)

#: Seconds of work that the charts are to show.
WATCHED: Final = 45.0


def make() -> dict[Path, bytes]:
    """Run the shop, open its page, and return the pictures."""
    return asyncio.run(_make())


async def _make() -> dict[Path, bytes]:
    # What drives the browser is the tests', which have no types.
    support: Any = importlib.import_module("tests.support.chromium")
    peers: Any = importlib.import_module("tests.support.peers")
    waiting: Any = importlib.import_module("tests.support.waiting")
    made = {}
    with tempfile.TemporaryDirectory(prefix="page-") as name:
        directory = Path(name)
        command = (sys.executable, "-m", "tests.support.shop_app", directory)
        shop = peers.PeerProcess(command, directory / "shop.log", {"PYTHONPATH": str(Path.cwd())})
        browser = support.Chromium(support.find_chromium(), directory)
        try:
            shop.start()
            browser.start()
            url = await waiting.eventually(lambda: _address(directory / "shop.log"))
            async with browser.page(url) as page:
                await asyncio.sleep(WATCHED)
                for picture, selector, width, height, dark in SHOTS:
                    await page.look(width=width, height=1200, dark=dark)
                    await asyncio.sleep(2)
                    made[svg.PICTURES / picture] = await page.picture(selector, height)
        finally:
            browser.stop()
            shop.stop()
    return made


def _address(log: Path) -> str | None:
    return next((line for line in log.read_text().splitlines() if line.startswith("http")), None)
