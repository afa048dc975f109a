"""An OTLP collector for tests, which does on command what no real one does on demand.

It refuses, hangs, resets, answers garbage, reads slowly or not at all, and goes away::

    with OtlpReceiver() as receiver:
        receiver.script(GrpcStatus("UNAVAILABLE"), Ok())     # the next two requests
        ... export to receiver.endpoint ...
        assert [span.name for span in receiver.spans] == ["shop.checkout"]

In front of the servers stands a relay for the bytes. It owns the port, and is what resets connections,
answers garbage, stalls and goes away: gRPC's own server can do none of that. Needs the extra ``otel``.
"""

from otpylib_telemetry_mock.otlp_receiver.behaviours import (
    Answer,
    Behaviour,
    Garbage,
    GrpcStatus,
    Hang,
    HttpStatus,
    Ok,
    PartialSuccess,
    Reset,
    Slow,
)
from otpylib_telemetry_mock.otlp_receiver.received import (
    ReceivedEvent,
    ReceivedLog,
    ReceivedPoint,
    ReceivedRequest,
    ReceivedSpan,
)
from otpylib_telemetry_mock.otlp_receiver.receiver import GrpcReceiver, HttpReceiver, OtlpReceiver
from otpylib_telemetry_mock.otlp_receiver.tls import Tls

__all__ = [
    "Answer",
    "Behaviour",
    "Garbage",
    "GrpcReceiver",
    "GrpcStatus",
    "Hang",
    "HttpReceiver",
    "HttpStatus",
    "Ok",
    "OtlpReceiver",
    "PartialSuccess",
    "ReceivedEvent",
    "ReceivedLog",
    "ReceivedPoint",
    "ReceivedRequest",
    "ReceivedSpan",
    "Reset",
    "Slow",
    "Tls",
]
