"""Why a batch did not arrive, as an exporter tells it."""

from __future__ import annotations


class ExportError(Exception):
    """A batch did not arrive.

    Args:
        message: What the backend said, for a person to read.
        retryable: False when sending the same batch again cannot help: it is then counted as rejected.
        retry_after: Seconds the backend asked to be left alone for; None when it did not say.
    """

    def __init__(self, message: str, *, retryable: bool = True, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after = retry_after


class DestinationError(ExportError):
    """A batch did not arrive for a reason that no batch can cause: a wrong address, path, protocol or key.

    What waits goes on waiting and is tried again. The exporter is degraded until something arrives.

    Args:
        message: What the backend said, and which mistake is likely, for a person to read.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)


class TooLargeError(ExportError):
    """A batch is too large to be taken in one piece.

    It is sent again in smaller ones. An item that is too large by itself counts as rejected.

    Args:
        message: What the backend said, for a person to read.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=False)
