"""An OTLP server that does on command what no real one does on demand: refuse, hang, reset, answer garbage.

Two of them, `GrpcReceiver` and `HttpReceiver`, with one way to be used::

    with GrpcReceiver() as receiver:
        receiver.script(GrpcStatus("UNAVAILABLE"), Ok())     # the next two requests
        ... export to receiver.endpoint ...
        assert [span.name for span in receiver.spans] == ["shop.checkout"]

They run in threads, so an event loop that a test blocks by mistake cannot hide what the server would have
seen. In front of the real server stands a relay for the bytes: it owns the port, and is what resets
connections, answers garbage, stalls and goes away, because gRPC's own server can do none of that.
"""

from tests.support.otlp_receiver.behaviours import (
    Answer,
    Garbage,
    GrpcStatus,
    Hang,
    HttpStatus,
    Ok,
    PartialSuccess,
    Reset,
    Slow,
)
from tests.support.otlp_receiver.over_grpc import GrpcReceiver
from tests.support.otlp_receiver.over_http import HttpReceiver
from tests.support.otlp_receiver.received import TRACES
from tests.support.otlp_receiver.receiver import Tls

__all__ = [
    "TRACES",
    "Answer",
    "Garbage",
    "GrpcReceiver",
    "GrpcStatus",
    "Hang",
    "HttpReceiver",
    "HttpStatus",
    "Ok",
    "PartialSuccess",
    "Reset",
    "Slow",
    "Tls",
]
