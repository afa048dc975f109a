"""What otpylib's actors do: the context of every message, handlers, calls, mailboxes, crashes."""

from otpylib_telemetry.instrument.otpylib.instrumentor import OtpylibInstrumentor

__all__ = ["OtpylibInstrumentor"]
