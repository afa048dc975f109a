"""Which format and which compression a scraper gets, by what its request says it can read.

``Accept`` and ``Accept-Encoding`` are those of HTTP (RFC 9110, sections 12.5.1 and 12.5.3): alternatives with
weights and parameters. The formats, their versions and the parameter ``escaping`` are Prometheus' own
(https://prometheus.io/docs/instrumenting/content_negotiation/). Whatever a header says, there is a page:
what cannot be understood is passed over, and who wants nothing we have gets the classic text, which
everything reads. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


#: A header that is longer is no header; reading it must not take time.
_MAX_HEADER: Final = 8_192

#: The weight of RFC 9110, section 12.4.2: from 0 to 1 with up to three decimals.
_WEIGHT: Final = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?")

#: The pieces of a header, each character in one of them: a quoted string, if need be without its end, a
#: separator, what is between. One pass finds them all: whoever connects may send what he likes.
_PIECE: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[,;]|[^",;]+', re.DOTALL)


class TextFormat(NamedTuple):
    """A format of the page; with ``utf8`` names may hold any character, which are then in quotation marks."""

    openmetrics: bool
    utf8: bool

    @property
    def content_type(self) -> str:
        """What a page of this format is called in HTTP."""
        kind = "application/openmetrics-text" if self.openmetrics else "text/plain"
        version = "1.0.0" if self.openmetrics or self.utf8 else "0.0.4"
        return f"{kind}; version={version}; charset=utf-8{'; escaping=allow-utf-8' if self.utf8 else ''}"


CLASSIC: Final = TextFormat(openmetrics=False, utf8=False)
CLASSIC_UTF8: Final = TextFormat(openmetrics=False, utf8=True)
OPENMETRICS: Final = TextFormat(openmetrics=True, utf8=False)
OPENMETRICS_UTF8: Final = TextFormat(openmetrics=True, utf8=True)

_ALLOW_UTF8: Final = "allow-utf-8"


class _Offer(NamedTuple):
    """One alternative of a header."""

    what: str
    parameters: dict[str, str]
    weight: float


def choose(accept: str) -> TextFormat:
    """Return the format a scraper likes best among those there are."""
    best, weight = CLASSIC, 0.0
    for offer in _offers(accept):
        found = _format(offer)
        if found is not None and offer.weight > weight:
            best, weight = found, offer.weight
    return best


def takes_gzip(accept_encoding: str) -> bool:
    """Return whether a scraper undoes gzip and likes it no less than a page that is not compressed."""
    weights = {offer.what: offer.weight for offer in _offers(accept_encoding)}
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    # Not compressed is always allowed, but one who does not name it likes it least.
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def _format(offer: _Offer) -> TextFormat | None:
    version = offer.parameters.get("version")
    utf8 = offer.parameters.get("escaping") == _ALLOW_UTF8
    match offer.what:
        case "application/openmetrics-text" if version in {None, "1.0.0"}:
            return OPENMETRICS_UTF8 if utf8 else OPENMETRICS
        case "text/plain" if version in {None, "0.0.4", "1.0.0"}:
            return CLASSIC_UTF8 if utf8 else CLASSIC
        case "*/*" | "text/*":
            return CLASSIC
        case "application/*":
            return OPENMETRICS
        case _:
            return None


def _offers(header: str) -> Iterator[_Offer]:
    for what, *rest in _alternatives(header[:_MAX_HEADER]):
        parameters: dict[str, str] = {}
        for parameter in rest:
            name, _, value = parameter.partition("=")
            parameters[name.strip().lower()] = value.strip().strip('"').lower()
        weight = parameters.pop("q", "1")
        # A weight that is none says at least that the alternative is there.
        number = float(weight) if _WEIGHT.fullmatch(weight) else 1.0
        yield _Offer(what.strip().lower(), parameters, number)


def _alternatives(header: str) -> Iterator[list[str]]:
    """Split at commas, and each part at semicolons, where no quoted string is open."""
    parts: list[str] = []
    pieces: list[str] = []
    for piece in _PIECE.findall(header):
        if piece not in {",", ";"}:
            pieces.append(piece)
            continue
        parts.append("".join(pieces))
        pieces.clear()
        if piece == ",":
            yield parts
            parts = []
    yield [*parts, "".join(pieces)]
