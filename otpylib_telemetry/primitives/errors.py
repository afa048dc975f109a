"""An exception as text that cannot itself fail."""

from __future__ import annotations

_LONGEST_TEXT = 2000


def describe(error: BaseException) -> str:
    """Return an exception's kind and text, whatever its ``__str__`` does; cut off where it is very long."""
    kind = type(error).__name__
    text = error_text(error)
    return f"{kind}: {text}" if text else kind


def error_text(error: BaseException) -> str:
    """Return an exception's text, empty where there is none or it cannot be had."""
    try:
        text = str.__str__(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  # an exception that cannot be printed must not become a second one
        return ""
    return encodable(text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}...")


def encodable(text: str) -> str:
    """Return a text that UTF-8 can encode: lone surrogates, as in names of files, are written as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
