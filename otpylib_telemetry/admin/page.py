"""The page: one self-contained file, with a policy that lets it load nothing but this API."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from http import HTTPStatus
from importlib import resources
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.admin.routing import Answer

if TYPE_CHECKING:
    from otpylib_telemetry.admin.routing import Call

MEDIA: Final = "text/html; charset=utf-8"

_INLINE: Final = re.compile(rb"<(script|style)(?:\s[^>]*)?>(.*?)</\1\s*>", re.DOTALL | re.IGNORECASE)


async def get_page(_call: Call) -> Answer:
    """Answer with the page. It has no data: a token is asked for by the page itself."""
    body = _page()
    headers = {
        "Content-Security-Policy": policy(body),
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    return Answer(HTTPStatus.OK, body, MEDIA, headers)


@cache
def _page() -> bytes:
    return resources.files("otpylib_telemetry.admin").joinpath("page.html").read_bytes()


@cache
def policy(page: bytes) -> str:
    """Return the policy of a page: its own scripts and styles alone run, by their hashes."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in _INLINE.findall(page):
        # A browser normalises the ends of lines before it hashes.
        normal = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        digest = base64.b64encode(hashlib.sha256(normal).digest()).decode()
        hashes[kind.decode().lower()].append(f"'sha256-{digest}'")
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_list(hashes['script'])}",
            f"style-src {_list(hashes['style'])}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _list(hashes: list[str]) -> str:
    return " ".join(hashes) or "'none'"
