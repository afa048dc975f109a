"""Replaces secrets before anything is logged, shown or counted."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

from pydantic import SecretBytes, SecretStr

from otpylib_telemetry.primitives.patterns import late

#: Stands wherever a secret would.
REDACTED = "<redacted>"

#: Characters. Shorter texts are no secrets worth the name, and would be found in the middle of any word.
SHORTEST_SECRET = 4

# All of these take time in proportion to the length of a text, whatever is in it: they read what others send.

# Credentials before the host, and whatever a query string carries: vendors put tokens in both.
# A password may have a slash that nobody encoded; but the path of a Pushgateway has an @ of its own.
# Of a word, only the first "://" is tried.
_USERINFO = late(r"(?<!\S)(?=(\S*?://))\1\S*@(?!base64/)")
_WHOLE_USERINFO = late(r"(\s*[a-z][a-z0-9+.-]*://).*@(?!base64/)", re.IGNORECASE | re.DOTALL)
_QUERY = late(r"(?<=\?)[^#\s]+")
# The same where the scheme was forgotten: a user name, a password and a host, and nothing else.
_BARE_USERINFO = late(r"[^\s/@:]+:[^\s/@]*@(?=[^\s@]+\Z)")

# What an application calls its secrets, in names of any spelling: apiKey, AUTH_TOKEN, db-password.
_SENSITIVE = (
    r"pass(?:word|wd|phrase|code)|pwd|secret|token|api[-_ ]?key|auth(?!or(?!i[sz]))|cookie|credential|"
    r"private[-_ ]?key|access[-_ ]?key|cvv|cvc|iban"
)
_SECRET_NAME = late(_SENSITIVE, re.IGNORECASE)
_SCHEME = late(r"\b(bearer|basic)\s+[^\s'\",]+", re.IGNORECASE)
# The same where an object is written as text. A name goes on for so long at most: it may be one word again
# and again.
_NAMED_IN_TEXT = late(
    rf"((?:{_SENSITIVE})\w{{0,200}}+['\"]?\s*[:=]\s*)('[^']*'|\"[^\"]*\"|[^\s,;)}}\]]+)", re.IGNORECASE
)


@runtime_checkable
class Plain(Protocol):
    """A setting that is an object, and can be shown as a table or a text."""

    def as_table(self) -> Any:
        """Return it as it would be written in a file."""
        ...


def hide_in_url(text: str) -> str:
    """Return ``text`` with the credentials and the query of a URL in it replaced."""
    if "://" not in text:
        bare = _BARE_USERINFO.match(text) if "@" in text else None
        return text if bare is None else f"{REDACTED}@{text[bare.end() :]}"
    return _QUERY.sub(REDACTED, _USERINFO.sub(rf"\1{REDACTED}@", text))


def hide_in_value(text: str) -> str:
    """The same for a value that nobody has checked, and that is a URL at most: blanks do not end it."""
    found = _WHOLE_USERINFO.match(text)
    return hide_in_url(text if found is None else f"{found[1]}{REDACTED}@{text[found.end() :]}")


def shown(value: object, *, secret: bool = False) -> Any:  # noqa: PLR0911  # one line for each kind of value
    """Return a validated setting as plain data with secrets replaced; an unset secret is shown as unset."""
    if secret:
        return shown(value) if value is None or value in ("", (), [], {}) else REDACTED
    match value:
        case None | bool() | int() | float():
            # Most are. Asking whether something is a protocol's takes long.
            return value
        case SecretStr() | SecretBytes():
            return REDACTED if value.get_secret_value() else ""
        case str():
            return hide_in_url(value)
        case Mapping():
            return {hide_in_url(str(key)): shown(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [shown(item) for item in value]
        case PurePath():
            return str(value)
        case Plain():
            return shown(value.as_table())
        case _:
            return value


def secret_texts(value: object) -> Iterator[str]:
    """Return the texts by which a secret setting could be recognised in a library's error message.

    Of a URL or an address, the parts that name a host or carry credentials count by themselves too. Where
    parts of a value are marked as secret, only those count: of a login, the password.
    """
    match value:
        case None | bool():
            return
        case SecretStr() | SecretBytes():
            yield from secret_texts(value.get_secret_value())
        case Mapping():
            yield from _secret_texts_of(value.values())
        case list() | tuple() | set() | frozenset():
            yield from _secret_texts_of(value)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _secret_texts_of(getattr(value, field.name) for field in dataclasses.fields(value))
        case bytes():
            yield from secret_texts(value.decode("utf-8", "replace"))
        case _:
            text = str(value).strip()
            candidates = (text, *_address_parts(text))
            yield from (part for part in candidates if len(part) >= SHORTEST_SECRET)


def _secret_texts_of(items: Iterable[object]) -> Iterator[str]:
    parts = list(items)
    marked = [part for part in parts if isinstance(part, (SecretStr, SecretBytes))]
    for part in marked or parts:
        yield from secret_texts(part)


def _address_parts(text: str) -> Iterable[str]:
    if "://" not in text and ":" not in text:
        return ()
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        address = parts.netloc.rpartition("@")[2]
        found = (parts.netloc, address, parts.hostname, parts.username, parts.password)
    except ValueError:
        return ()
    return tuple(part for part in found if part)


def scrubber(texts: Iterable[str]) -> Callable[[str], str]:
    """Return a function that replaces these texts in another text, ignoring case."""
    # The longest first: of a URL that is shown as a whole, nothing is to be left.
    wanted = sorted(set(texts), key=lambda text: (-len(text), text))
    if not wanted:
        return str
    pattern = re.compile("|".join(re.escape(text) for text in wanted), re.IGNORECASE)
    return lambda text: pattern.sub(REDACTED, text)


def scrubbed(value: Any, scrub: Callable[[str], str]) -> Any:
    """Return dicts, lists and tuples with every string in them scrubbed; keys stay."""
    match value:
        case str():
            return scrub(value)
        case dict():
            return {key: scrubbed(item, scrub) for key, item in value.items()}
        case list():
            return [scrubbed(item, scrub) for item in value]
        case tuple() if type(value) is tuple:
            return tuple(scrubbed(item, scrub) for item in value)
        case _:
            return value


def without_secrets(value: Any) -> Any:
    """Return plain data of an application with what is called like a secret replaced, whatever it is.

    A precaution, not a promise: a secret may be called anything.
    """
    match value:
        case str():
            hidden = _SCHEME.sub(rf"\1 {REDACTED}", hide_in_url(value))
            return _NAMED_IN_TEXT.sub(rf"\1{REDACTED}", hidden)
        case dict():
            return {
                key: REDACTED if _SECRET_NAME.search(str(key)) else without_secrets(item)
                for key, item in value.items()
            }
        case list() | tuple():
            # What follows a name is called by it, as in ("login", "password", "...").
            named = (None, *value)
            return tuple(
                REDACTED if type(name) is str and _SECRET_NAME.search(name) else without_secrets(item)
                for name, item in zip(named, value, strict=False)
            )
        case _:
            return value
