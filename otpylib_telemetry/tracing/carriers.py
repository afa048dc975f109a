"""The headers of requests, in whatever form a client or a server keeps them.

That is a dictionary with names of any case, or of bytes, or as WSGI spells them; a headers object that can
have several values of a name; a list of pairs, as ASGI has them. Nothing here raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, MutableSequence
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.bus import log
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.tracing.headers import header_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: How headers objects call what gives all values of a name: multidict (aiohttp), Starlette and Werkzeug,
#: http.client and email, Tornado.
_ALL_VALUES: Final = ("getall", "getlist", "get_all", "get_list")

#: How a WSGI environment spells the names of headers.
_WSGI: Final = "HTTP_"

_PAIR: Final = 2

#: Kinds of carriers of which it is said that they cannot be used.
_KINDS: Final = 100

_said: Final = Once(_KINDS)


def read(carrier: Any, names: Iterable[str]) -> dict[str, list[Any]]:
    """Return the values of headers by their names, which are in lower case here."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    _tried("read", carrier, _read, found)
    return found


def names_in(carrier: Any) -> list[str]:
    """Return the names of all headers, in lower case."""
    found: list[str] = []
    _tried("read", carrier, lambda _: found.extend([_plain_name(key) for key, _ in _pairs(carrier)]))
    return found


def write(carrier: Any, name: str, value: str) -> None:
    """Set a header, instead of what is there under the same name, however that is spelt."""
    _tried("written to", carrier, _write, name, value)


def _tried(what: str, carrier: Any, call: Callable[..., None], *given: Any) -> None:
    try:
        call(carrier, *given)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the carrier's own code
        kind = type(carrier)
        if _said.is_news((what, kind)):
            log.warning(
                "Headers of the type %s.%s cannot be %s (%s): the trace context does not pass. Further ones "
                "of this type are not reported.",
                kind.__module__,
                kind.__qualname__,
                what,
                describe(error),
            )


def _read(carrier: Any, found: dict[str, list[Any]]) -> None:
    missing = set(found)
    # A list is read through, and only once: every request to an ASGI server has one.
    is_list = type(carrier) is list
    getter = _none if is_list else _getter(carrier)
    for name in found:
        values = getter(name)
        if values:
            found[name] = values
            missing.discard(name)
    if missing and (is_list or not _is_case_insensitive(carrier)):
        for key, value in _pairs(carrier):
            name = _plain_name(key)
            if name in missing:
                found[name] += _values(value)


def _write(carrier: Any, name: str, value: str) -> None:
    # Names in bytes are those of ASGI, which has them in small letters.
    plain = name.lower()
    if isinstance(carrier, MutableSequence):
        in_bytes = any(type(pair[0]) is bytes for pair in carrier)
        carrier[:] = [pair for pair in carrier if _plain_name(pair[0]) != plain]
        carrier.append((plain.encode(), value.encode("latin-1")) if in_bytes else (name, value))
    elif isinstance(carrier, MutableMapping) and not _is_case_insensitive(carrier):
        other = [key for key in carrier if key != name and _plain_name(key) == plain]
        in_bytes = any(type(key) is bytes for key in carrier)
        for key in other:
            del carrier[key]
        if in_bytes:
            carrier[plain.encode()] = value.encode("latin-1")
        else:
            carrier[name] = value
    elif hasattr(type(carrier), "__setitem__"):
        if hasattr(type(carrier), "__delitem__") and name in carrier:
            # Some add a value where there is one.
            del carrier[name]
        carrier[name] = value
    else:
        # As urllib's requests have it.
        carrier.add_header(name, value)


def _getter(carrier: Any) -> Callable[[str], list[Any]]:
    """Return what gives the values of a name as it is spelt here."""
    kind = type(carrier)
    for method in _ALL_VALUES:
        if hasattr(kind, method):
            get_all = getattr(carrier, method)
            return lambda name: list(get_all(name) or ()) if name in carrier else []
    if issubclass(kind, Mapping) or hasattr(kind, "get"):
        return lambda name: _values(carrier.get(name))
    return _none


def _none(_name: str) -> list[Any]:
    return []


def _is_case_insensitive(carrier: Any) -> bool:
    """Tell whether a headers object looks names up whatever their case, as the first name in it shows."""
    kind = type(carrier)
    if kind is dict or not hasattr(kind, "__iter__"):
        return False
    name = next(iter(carrier), None)
    return type(name) is str and name.swapcase() != name and name.swapcase() in carrier


def _pairs(carrier: Any) -> Iterator[tuple[Any, Any]]:
    if hasattr(type(carrier), "items"):
        yield from carrier.items()
    elif hasattr(type(carrier), "header_items"):
        # As urllib's requests have it.
        yield from carrier.header_items()
    elif isinstance(carrier, Iterable) and not isinstance(carrier, str | bytes):
        for pair in carrier:
            if isinstance(pair, list | tuple) and len(pair) == _PAIR:
                yield pair[0], pair[1]


def _plain_name(key: Any) -> str:
    """Return the name of a header in lower case, however it is spelt."""
    name = header_text(key)
    if name.startswith(_WSGI):
        name = name.removeprefix(_WSGI).replace("_", "-")
    return name.lower()


def _values(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if type(value) in {list, tuple} else [value]
