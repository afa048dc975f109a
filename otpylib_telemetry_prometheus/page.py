"""What somebody who scrapes asks for, and what he gets: the seam between making a page and serving it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class ScrapeRequest(NamedTuple):
    """What a scraper asks for: two headers as they came, and the samples it wants alone, none for all."""

    accept: str = ""
    accept_encoding: str = ""
    names: tuple[str, ...] = ()


class Page(NamedTuple):
    """What it gets, compressed already if ``encoding`` says so."""

    body: bytes
    content_type: str
    encoding: str | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers that tell what the page is; caches must know what it depends on."""
        found = {"Content-Type": self.content_type, "Vary": "Accept, Accept-Encoding"}
        if self.encoding is not None:
            found["Content-Encoding"] = self.encoding
        return found


#: Makes a page.
Scrape: TypeAlias = "Callable[[ScrapeRequest], Awaitable[Page]]"
