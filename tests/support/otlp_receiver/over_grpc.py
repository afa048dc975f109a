"""OTLP over gRPC."""

from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from tests.support.otlp_receiver.behaviours import GrpcStatus
from tests.support.otlp_receiver.received import LOGS, METRICS, TRACES
from tests.support.otlp_receiver.receiver import Exchange, Receiver, encoded


class _GrpcExchange(Exchange):
    def __init__(self, context):
        self.context = context
        self.port_behind = int(context.peer().rsplit(":", 1)[1])

    def alive(self, relay):
        return self.context.is_active() and super().alive(relay)

    def break_off(self, relay, **how):
        super().break_off(relay, **how)
        self.context.abort(grpc.StatusCode.UNAVAILABLE, "the connection is gone")

    def refuse(self, behaviour):
        code = grpc.StatusCode[behaviour.code]
        if behaviour.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromNanoseconds(int(behaviour.retry_after * 1e9))
            detail = AnyMessage()
            detail.Pack(retry)
            status = status_pb2.Status(code=code.value[0], message=behaviour.message, details=[detail])
            self.context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        self.context.abort(code, behaviour.message)


class GrpcReceiver(Receiver):
    """OTLP over gRPC, all three signals. The scheme of ``endpoint`` says "without TLS" to exporters."""

    allowed = (*Receiver.allowed, GrpcStatus)
    protocol = "grpc"

    def _check(self, behaviour):
        super()._check(behaviour)
        if isinstance(behaviour, GrpcStatus) and behaviour.code not in grpc.StatusCode.__members__:
            raise ValueError(f"{behaviour.code!r} is no gRPC status code")

    def _start_server(self):
        self._pool = ThreadPoolExecutor(max_workers=64, thread_name_prefix="otlp-receiver")
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        self._server = grpc.server(self._pool, options=unlimited)
        for signal in (TRACES, METRICS, LOGS):
            export = grpc.unary_unary_rpc_method_handler(
                self._export(signal), signal.request.FromString, encoded
            )
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(signal.service, {"Export": export}),)
            )
        if self.tls is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            pairs = [(self.tls.key.read_bytes(), self.tls.certificate.read_bytes())]
            asked = self.tls.client_authority
            credentials = grpc.ssl_server_credentials(
                pairs, asked and asked.read_bytes(), require_client_auth=asked is not None
            )
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()
        return port

    def _export(self, signal):
        def export(message, context):
            metadata = context.invocation_metadata()
            headers = {key: value if isinstance(value, str) else value.hex() for key, value in metadata}
            return self._handle(signal, message, headers, _GrpcExchange(context))

        return export

    def _stop_server(self):
        self._server.stop(grace=None).wait()
        self._pool.shutdown()
