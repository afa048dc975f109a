"""Which proxy a URL is reached through, as ``requests`` and curl read the environment. Pure."""

from __future__ import annotations

import base64
import ipaddress
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_SCHEMES: Final = frozenset({"http", "https", "socks4", "socks4a", "socks5", "socks5h"})


class ProxyError(ValueError):
    """The proxy that the environment names cannot be used; the message shows nothing secret."""


class Proxy(NamedTuple):
    """A proxy: its address without login, host and port for messages, and the login, decoded."""

    url: str
    name: str
    username: str | None
    password: str | None

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS instead of HTTP."""
        return self.url.startswith("socks")

    @property
    def authorization(self) -> str | None:
        """The value of the header ``proxy-authorization``."""
        if self.username is None:
            return None
        pair = f"{self.username}:{self.password or ''}"
        # Bytes of the environment that are no Unicode are what the proxy is to be told.
        return f"Basic {base64.b64encode(pair.encode('utf-8', 'surrogateescape')).decode()}"


def proxy_for(url: str, proxies: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for a URL, or None, by what ``urllib.request.getproxies()`` gives."""
    scheme = urlsplit(url).scheme
    chosen = next((name for name in (scheme, "all") if proxies.get(name, "").strip()), None)
    if chosen is None or is_excepted(url, proxies.get("no", "")):
        return None
    return _parsed(proxies[chosen].strip(), f"{chosen}_proxy")


def is_excepted(url: str, exceptions: str) -> bool:
    """Tell whether ``no_proxy`` excepts a URL: names with subdomains, addresses, ranges; also with a port."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    address = _address(host)
    return any(
        _excepts(entry.strip().lower(), host, port, address)
        for entry in exceptions.replace(" ", ",").split(",")
        if entry.strip()
    )


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _excepts(entry: str, host: str, port: int | None, address: _Address | None) -> bool:
    if entry == "*":
        return True
    if address is not None and "/" in entry:
        try:
            return address in ipaddress.ip_network(entry.replace("[", "").replace("]", ""), strict=False)
        except ValueError:
            return False
    name, only_port = _split_port(entry)
    if only_port is not None and only_port != port:
        return False
    if address is not None:
        return _address(name) == address
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split_port(entry: str) -> tuple[str, int | None]:
    if _address(entry) is not None:
        return entry.strip("[]"), None
    name, colon, port = entry.rpartition(":")
    if colon and port.isascii() and port.isdigit():
        return name.strip("[]"), int(port)
    return entry.strip("[]"), None


def _address(text: str) -> _Address | None:
    try:
        # What follows % is the interface that a link-local address belongs to.
        return ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _parsed(text: str, variable: str) -> Proxy:
    if "://" not in text:
        text = f"http://{text.removeprefix('//')}"
    expected = f"the environment variable {variable} names no proxy: expected http://host:port"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ProxyError(expected) from None
    scheme = parts.scheme.lower()
    if scheme not in _SCHEMES:
        raise ProxyError(f"{expected}, https:// or socks5://")
    if not host or port == 0:
        # A name or password with characters of a URL in it ends up here, too.
        raise ProxyError(f"{expected}; other characters in a name or password are percent-encoded")
    bare = f"[{host}]" if ":" in host else host
    name = bare if port is None else f"{bare}:{port}"
    username = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return Proxy(f"{scheme}://{name}", name, username, password)
