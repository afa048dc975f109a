"""OTLP over gRPC."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc  # type: ignore[import-untyped]
from google.protobuf.any_pb2 import Any as AnyMessage  # type: ignore[import-untyped]
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from otpylib_telemetry_mock.otlp_receiver.exchange import Exchange, as_grpc, encoded
from otpylib_telemetry_mock.otlp_receiver.received import SIGNALS, Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry_mock.otlp_receiver.behaviours import GrpcStatus, HttpStatus
    from otpylib_telemetry_mock.otlp_receiver.relay import Relay
    from otpylib_telemetry_mock.otlp_receiver.tls import Tls

#: Requests that may hang at once.
_WORKERS = 64

_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]


class _GrpcExchange(Exchange):
    def __init__(self, context: Any) -> None:
        self._context = context
        self.port_behind = int(context.peer().rsplit(":", 1)[1])

    def alive(self, relay: Relay) -> bool:
        return bool(self._context.is_active()) and super().alive(relay)

    def break_off(self, relay: Relay, *, reset: bool = False, last_words: bytes = b"") -> None:
        super().break_off(relay, reset=reset, last_words=last_words)
        self._context.abort(grpc.StatusCode.UNAVAILABLE, "the connection is gone")

    def refuse(self, behaviour: GrpcStatus | HttpStatus) -> None:
        status = as_grpc(behaviour)
        code = grpc.StatusCode[status.code]
        if status.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromNanoseconds(int(status.retry_after * 1e9))
            detail = AnyMessage()
            detail.Pack(retry)
            details = status_pb2.Status(code=code.value[0], message=status.message, details=[detail])
            self._context.set_trailing_metadata((("grpc-status-details-bin", details.SerializeToString()),))
        self._context.abort(code, status.message)


class GrpcServer:
    """A server on a port of its own; the relay in front of it has the public one."""

    def __init__(self, handle: Callable[..., Any], undecodable: list[Exception], tls: Tls | None) -> None:
        self._handle = handle
        self._undecodable = undecodable
        self._tls = tls
        self._pool = ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="otlp-receiver")
        self._server = grpc.server(self._pool, options=_OPTIONS)

    @staticmethod
    def check(behaviour: GrpcStatus) -> None:
        """Refuse a status that gRPC does not have."""
        if behaviour.code not in grpc.StatusCode.__members__:
            raise ValueError(f"{behaviour.code!r} is no gRPC status code")

    def start(self) -> int:
        """Listen, and return the port."""
        for signal in SIGNALS:
            export = grpc.unary_unary_rpc_method_handler(self._export(signal), self._decoder(signal), encoded)
            handler = grpc.method_handlers_generic_handler(signal.service, {"Export": export})
            self._server.add_generic_rpc_handlers((handler,))
        port: int = self._listen()
        self._server.start()
        return port

    def stop(self) -> None:
        """End it; requests that hang are broken off."""
        self._server.stop(grace=None).wait()
        self._pool.shutdown()

    def _listen(self) -> Any:
        if self._tls is None:
            return self._server.add_insecure_port("127.0.0.1:0")
        pair = (self._tls.key.read_bytes(), self._tls.certificate.read_bytes())
        asked = self._tls.client_authority
        credentials = grpc.ssl_server_credentials(
            [pair], asked and asked.read_bytes(), require_client_auth=asked is not None
        )
        return self._server.add_secure_port("127.0.0.1:0", credentials)

    def _decoder(self, signal: Signal) -> Callable[[bytes], Any]:
        def decode(data: bytes) -> Any:
            try:
                return signal.request.FromString(data)
            except Exception as error:
                self._undecodable.append(error)
                raise

        return decode

    def _export(self, signal: Signal) -> Callable[[Any, Any], Any]:
        def export(message: Any, context: Any) -> Any:
            metadata = context.invocation_metadata()
            headers = {key: value if isinstance(value, str) else value.hex() for key, value in metadata}
            return self._handle(signal, message, headers, _GrpcExchange(context))

        return export
