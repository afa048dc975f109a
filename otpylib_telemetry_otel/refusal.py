"""What a backend says for good."""

from otpylib_telemetry.exporter import ExportError

__all__ = ["SignalRefusedError"]


class SignalRefusedError(ExportError):
    """What answers does not take this signal at all.

    Args:
        message: What it said, for a person to read.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=False)
