"""From when to when a certificate is valid: the few bytes of X.509 that say so, and who is asked for them.

Python's ssl module says that a certificate has expired, not when; and of a certificate it did not accept it
says nothing at all.
"""

from __future__ import annotations

import datetime as dt
import ssl
from typing import Final, NamedTuple

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_LONG_FORM: Final = 0x80
#: Before serial number, signature algorithm and issuer comes nothing else: RFC 5280, section 4.1.
_FIELDS_BEFORE_VALIDITY: Final = 3
#: Years of two digits from here on are those of the last century: RFC 5280, section 4.1.2.5.1.
_LAST_CENTURY: Final = 50

#: Seconds that asking a server for its certificate may take: it is only about a better message.
ASKING_LIMIT: Final = 0.5

_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"


class Validity(NamedTuple):
    """From when to when a certificate is valid."""

    begins: dt.datetime
    ends: dt.datetime


def validity(der: bytes) -> Validity:
    """Read the validity of a certificate."""
    try:
        body = _element(_element(der, 0)[1], 0)[1]
        at = 0
        if body[0] == _VERSION:
            at = _element(body, at)[2]
        for _ in range(_FIELDS_BEFORE_VALIDITY):
            at = _element(body, at)[2]
        tag, times, _ = _element(body, at)
        if tag != _SEQUENCE:
            raise ValueError("no validity where one should be")
        first, begins, after = _element(times, 0)
        second, ends, _ = _element(times, after)
        return Validity(_time(first, begins), _time(second, ends))
    except IndexError as error:
        raise ValueError("the certificate is cut short") from error


def validity_of_pem(pem: bytes) -> Validity:
    """Read the validity of the first certificate of a PEM file."""
    _, begin, rest = pem.decode("ascii", "replace").partition(_BEGIN)
    body, end, _ = rest.partition(_END)
    if not begin or not end:
        raise ValueError("no certificate in it")
    return validity(ssl.PEM_cert_to_DER_cert(f"{_BEGIN}{body}{_END}"))


def complaint(found: Validity, now: dt.datetime) -> str | None:
    """Say why a certificate is not valid, as the end of a sentence; None if it is."""
    if now > found.ends:
        return f"expired on {found.ends:%Y-%m-%d %H:%M} UTC"
    if now < found.begins:
        return f"is not valid before {found.begins:%Y-%m-%d %H:%M} UTC"
    return None


def why_refused(host: str, port: int, now: dt.datetime) -> str | None:
    """Ask a server for its certificate, and say what is wrong with the dates on it; None if nothing is."""
    try:
        pem = ssl.get_server_certificate((host, port), timeout=ASKING_LIMIT)
        wrong = complaint(validity_of_pem(pem.encode()), now)
    except (OSError, ValueError):
        return None
    return None if wrong is None else f"the server's certificate {wrong}"


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Return the tag and the content of the DER element that begins there, and where the next one begins."""
    tag, length, at = data[at], data[at + 1], at + 2
    if length >= _LONG_FORM:
        digits = length - _LONG_FORM
        length, at = int.from_bytes(data[at : at + digits], "big"), at + digits
    if at + length > len(data):
        raise ValueError("the certificate is cut short")
    return tag, data[at : at + length], at + length


def _time(tag: int, content: bytes) -> dt.datetime:
    text = content.decode("ascii", "replace").removesuffix("Z")
    if tag == _UTC_TIME:
        text = ("19" if int(text[:2]) >= _LAST_CENTURY else "20") + text
    return dt.datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=dt.UTC)
