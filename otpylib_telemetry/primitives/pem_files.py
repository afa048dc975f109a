"""Certificates and keys in PEM files, read again when another program replaces the files."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Generic, NoReturn, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


T = TypeVar("T")

_Signature: TypeAlias = "tuple[tuple[int, int, int, int] | None, ...]"


class FollowedFiles(Generic[T]):
    """What was last read out of files that could be used. Safe on any thread.

    Args:
        paths: The files; None for one that is not used.
        read: Reads them.
        unusable: What ``read`` raises when the files are at fault. Raised from here as well the first time.
        report: Called with that error later on; once, until the files can be used again.
    """

    def __init__(
        self,
        paths: Sequence[str | None],
        read: Callable[[], T],
        unusable: type[Exception],
        report: Callable[[Exception], None],
    ) -> None:
        self._paths = paths
        self._read = read
        self._unusable = unusable
        self._report = report
        self._lock = threading.Lock()
        self._signature = _signature(paths)
        self.content = read()
        #: Whether the files as they are now cannot be used.
        self.in_trouble = False

    def renewed(self) -> bool:
        """Look at the files, which costs a microsecond or two; return whether there is new content."""
        if _signature(self._paths) == self._signature:
            return False
        with self._lock:
            signature = _signature(self._paths)
            if signature == self._signature:
                return False
            error: Exception | None = None
            try:
                content = self._read()
            except self._unusable as caught:
                error = caught
            if _signature(self._paths) != signature:
                # Still being replaced: this may be half of the old and half of the new.
                return False
            self._signature = signature
            first_trouble = error is not None and not self.in_trouble
            self.in_trouble = error is not None
            if error is None:
                self.content = content
        if error is not None and first_trouble:
            self._report(error)
        return error is None


def no_password() -> NoReturn:
    """Refuse a key with a password. Without this, OpenSSL would ask for it on the terminal."""
    raise ValueError("the private key is encrypted with a password, which is not supported")


def _signature(paths: Sequence[str | None]) -> _Signature:
    """Return what changes when one of the files is replaced or written."""
    return tuple(_stat(path) for path in paths)


def _stat(path: str | None) -> tuple[int, int, int, int] | None:
    if path is None:
        return None
    try:
        found = os.stat(path)  # noqa: PTH116 - a call of its own costs a tenth of what a Path does
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
