"""One request and its answer: what the two protocols have in common, and statuses from one to the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry_mock.otlp_receiver.behaviours import Answer, GrpcStatus, HttpStatus

if TYPE_CHECKING:
    from otpylib_telemetry_mock.otlp_receiver.relay import Relay

#: OTLP specification, "Failures": what means the same in either protocol; of several the first is chosen.
_SAME: Final = (
    ("UNAVAILABLE", 503),
    ("UNAVAILABLE", 502),
    ("UNAVAILABLE", 504),
    ("RESOURCE_EXHAUSTED", 429),
    ("INVALID_ARGUMENT", 400),
    ("UNAUTHENTICATED", 401),
    ("PERMISSION_DENIED", 403),
    ("UNIMPLEMENTED", 404),
    ("DEADLINE_EXCEEDED", 503),
    ("ABORTED", 503),
    ("CANCELLED", 503),
    ("OUT_OF_RANGE", 503),
    ("DATA_LOSS", 503),
)


class Exchange:
    """One request and its answer: the part that depends on the protocol."""

    port_behind: int

    def alive(self, relay: Relay) -> bool:
        """Tell whether somebody still waits for the answer."""
        connection = relay.connection(self.port_behind)
        return connection is not None and not connection.ending

    def break_off(self, relay: Relay, *, reset: bool = False, last_words: bytes = b"") -> None:
        """Close the connection instead of answering."""
        connection = relay.connection(self.port_behind)
        if connection is not None:
            connection.close(reset=reset, last_words=last_words)

    def refuse(self, behaviour: GrpcStatus | HttpStatus) -> None:
        """Answer with a status."""
        raise NotImplementedError


def encoded(response: Any) -> bytes:
    """Return an answer as bytes."""
    data: bytes = response.data if isinstance(response, Answer) else response.SerializeToString()
    return data


def as_grpc(behaviour: GrpcStatus | HttpStatus) -> GrpcStatus:
    """Return the gRPC status that means the same."""
    if isinstance(behaviour, GrpcStatus):
        return behaviour
    code = next((code for code, status in _SAME if status == behaviour.status), "INTERNAL")
    delay = behaviour.retry_after
    return GrpcStatus(code, behaviour.message, delay if isinstance(delay, int | float) else None)


def as_http(behaviour: GrpcStatus | HttpStatus) -> HttpStatus:
    """Return the HTTP status that means the same."""
    if isinstance(behaviour, HttpStatus):
        return behaviour
    status = next((status for code, status in _SAME if code == behaviour.code), 500)
    return HttpStatus(status, behaviour.retry_after, behaviour.message)
