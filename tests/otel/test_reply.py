"""What an OTLP server's answer means."""

import json

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from otpylib_telemetry.exporter.collected import ExportOutcome
from otpylib_telemetry.exporter.errors import DestinationError, ExportError, TooLargeError
from otpylib_telemetry_otel.errors import ServerBrokenError, SignalRefusedError
from otpylib_telemetry_otel.otlp import mistakes
from otpylib_telemetry_otel.otlp.reply import (
    PROTOBUF,
    accepted,
    refused_by_grpc,
    refused_by_http,
    retry_after,
    retry_delay,
    too_large,
)
from otpylib_telemetry_otel.otlp.services import LOGS, METRICS, TRACES

DETAILS = "grpc-status-details-bin"
RETRY_INFO = "google.rpc.retryinfo-bin"


def details(*messages):
    """A google.rpc.Status with details, as a server sends it."""
    status = status_pb2.Status(code=14)
    for message in messages:
        status.details.add().Pack(message)
    return {DETAILS: status.SerializeToString()}


def retry_info(seconds=0, nanos=0):
    return error_details_pb2.RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos))


class TestAccepted:
    def test_an_empty_answer_is_full_success(self):
        assert accepted(TRACES, b"") is None
        assert accepted(TRACES, b"", "text/html") is None

    @pytest.mark.parametrize("signal", [TRACES, METRICS, LOGS], ids=lambda signal: signal.items)
    def test_what_was_rejected_is_read_for_each_signal(self, signal):
        answer = signal.answer(partial_success={signal.rejected: 7, "error_message": "too\n old"})
        assert accepted(signal, answer.SerializeToString()) == ExportOutcome(7, "too old")

    def test_a_partial_success_without_anything_in_it_is_full_success(self):
        answer = TRACES.answer(partial_success={})
        assert accepted(TRACES, answer.SerializeToString()) is None

    def test_a_warning_is_no_rejection(self):
        answer = TRACES.answer(partial_success={"error_message": "use the other endpoint"})
        assert accepted(TRACES, answer.SerializeToString()) == ExportOutcome(0, "use the other endpoint")

    @pytest.mark.parametrize(("said", "read"), [(-3, 0), (2**62, 2**31)])
    def test_a_senseless_count_is_brought_within_bounds(self, said, read):
        answer = TRACES.answer(partial_success={"rejected_spans": said, "error_message": "?"})
        assert accepted(TRACES, answer.SerializeToString()) == ExportOutcome(read, "?")

    def test_what_would_move_the_cursor_of_a_terminal_is_written_out(self):
        answer = TRACES.answer(partial_success={"rejected_spans": 1, "error_message": "too \x1b[2Jbig \x07ü"})
        assert accepted(TRACES, answer.SerializeToString()).message == r"too \x1b[2Jbig \x07ü"
        assert str(refused_by_grpc("INTERNAL", "no\x9b \x1b]0;x", {})) == r"INTERNAL: no\x9b \x1b]0;x"

    def test_a_message_of_any_length_is_cut(self):
        answer = TRACES.answer(partial_success={"rejected_spans": 1, "error_message": "x" * 10_000})
        assert len(accepted(TRACES, answer.SerializeToString()).message) == 300

    def test_json_is_understood(self):
        answer = {"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old"}, "unheard": "of"}
        outcome = accepted(TRACES, json.dumps(answer).encode(), "application/json; charset=utf-8")
        assert outcome == ExportOutcome(2, "too old")
        assert accepted(TRACES, b"{}", "application/json") is None

    @pytest.mark.parametrize(
        ("answer", "content_type"),
        [
            (b"\xff\xff\xff", "application/x-protobuf"),
            (b"\x00\xffnot what you expected", "application/x-protobuf"),
            (b"ok", "text/html; charset=utf-8"),
            (b"{", "application/json"),
            (b"\xff", "application/json"),
            (b"ok", ""),
        ],
    )
    def test_success_in_another_language_is_success_with_a_warning(self, answer, content_type):
        outcome = accepted(TRACES, answer, content_type)
        assert outcome.rejected == 0
        assert "is the endpoint right?" in outcome.message

    @pytest.mark.parametrize(
        ("answer", "content_type"),
        [
            (b"<html>Welcome to nginx!</html>", "text/html"),
            (b"\n <!DOCTYPE html><title>Sign in</title>", ""),
            (b"<h1>It works!</h1>", "text/html; charset=utf-8"),
            (b"<!-- proxy --><HTML>", "text/plain"),
            (b"<p>Sign in</p>", "application/xhtml+xml"),
        ],
    )
    def test_a_page_is_no_success_whatever_its_status(self, answer, content_type):
        with pytest.raises(DestinationError, match="a web page answers"):
            accepted(TRACES, answer, content_type)


OPENSSL = "SSL_ERROR_SSL: error:1000042e:SSL routines:OPENSSL_internal"


class TestGrpc:
    """OTLP specification, "OTLP/gRPC Response", "Failures"."""

    @pytest.mark.parametrize(
        "code", ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"]
    )
    def test_these_codes_are_worth_another_try_with_the_delay_of_the_server(self, code):
        error = refused_by_grpc(code, "not today", {})
        assert (str(error), error.retryable, error.retry_after) == (f"{code}: not today", True, None)
        assert refused_by_grpc(code, "", details(retry_info(7))).retry_after == 7

    @pytest.mark.parametrize(
        "code",
        [
            *("UNKNOWN", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS"),
            *("FAILED_PRECONDITION", "INTERNAL"),
        ],
    )
    def test_these_are_not_whatever_the_server_says_about_a_delay(self, code):
        error = refused_by_grpc(code, "", details(retry_info(7)))
        assert (str(error), error.retryable, error.retry_after) == (code, False, None)

    @pytest.mark.parametrize(
        ("code", "details", "words"),
        [
            ("PERMISSION_DENIED", "no", "may not send here"),
            ("UNAUTHENTICATED", "no token", "key or the login is missing or wrong"),
            ("UNIMPLEMENTED", "unknown service", "does not know this signal"),
            ("UNAVAILABLE", "Trying to connect an http1.x server (HTTP status 400)", "does not speak gRPC"),
            ("UNKNOWN", "Received http2 header with status: 404", "does not speak gRPC"),
            ("INTERNAL", "Received http2 header with status: 400", "does not speak gRPC"),
            ("UNIMPLEMENTED", "Received http2 header with status: 404", "does not speak gRPC"),
            ("UNAVAILABLE", "ipv4:1.2.3.4:5: SSL_ERROR_SSL: WRONG_VERSION_NUMBER: x", "does not speak TLS"),
            ("UNAVAILABLE", "ipv4:1.2.3.4:5: CERTIFICATE_VERIFY_FAILED: x", "is not trusted here"),
        ],
    )
    def test_what_no_batch_can_cause_waits_and_names_the_mistake(self, code, details, words):
        error = refused_by_grpc(code, details, {})
        assert isinstance(error, DestinationError)
        assert error.retryable
        assert words in str(error)

    @pytest.mark.parametrize(
        ("details", "words"),
        [
            ("ipv4:1.2.3.4:5: Socket closed", "ipv4:1.2.3.4:5: the connection was closed without an answer"),
            ("Stream removed (recvmsg:Connection reset by peer (104))", "Connection reset by peer"),
            ("recvmsg: Connection timed out", "Connection timed out"),
            (
                "a:1: Handshake read failed (Socket closed)",
                "a:1: the connection was closed during the TLS handshake",
            ),
            (
                f"a:1: Tls handshake failed (TSI_FAILURE): {OPENSSL}:TLSV1_ALERT_PROTOCOL_VERSION: Verify OK",
                "TLS fails: tlsv1 alert protocol version",
            ),
            (
                "a:1: Tls handshake failed (TSI_INTERNAL_ERROR)",
                "a:1: the connection was closed during the TLS handshake",
            ),
            ("busy with a socket", "busy with a socket"),
        ],
    )
    def test_what_grpc_says_of_connections_is_put_in_plain_words(self, details, words):
        error = refused_by_grpc("UNAVAILABLE", details, {})
        assert (str(error), error.retryable) == (f"UNAVAILABLE: {words}", True)
        assert not isinstance(error, DestinationError)

    @pytest.mark.parametrize(
        ("code", "details", "meant"),
        [
            ("UNKNOWN", "Stream removed", "UNAVAILABLE"),
            ("UNKNOWN", "Stream removed (Socket closed)", "UNAVAILABLE"),
            ("UNKNOWN", "Exception calling application: Stream removed", "UNKNOWN"),
            ("INTERNAL", "Stream removed", "INTERNAL"),
        ],
    )
    def test_a_connection_that_ended_is_no_refusal_by_a_server(self, code, details, meant):
        assert mistakes.meant(code, details) == meant

    @pytest.mark.parametrize(
        "details",
        [
            "errors resolving shop:4317: [field:hostname lookup error:address lookup failed]",
            "DNS resolution failed for shop:4317: C-ares status is not ARES_SUCCESS qtype=A name=shop",
        ],
    )
    def test_a_name_that_leads_nowhere_is_about_the_destination(self, details):
        error = refused_by_grpc("UNAVAILABLE", details, {})
        assert isinstance(error, DestinationError)
        assert str(error).startswith("UNAVAILABLE: shop:4317: the host cannot be found; the name is wrong")

    def test_a_server_that_is_broken_has_not_refused_what_it_got(self):
        broken = [refused_by_http(500, "", {}, b"", 0), refused_by_grpc("INTERNAL", "", {})]
        assert all(isinstance(error, ServerBrokenError) and not error.retryable for error in broken)
        assert not isinstance(refused_by_http(400, "", {}, b"", 0), ServerBrokenError)

    def test_only_a_server_of_grpc_knows_which_signals_it_takes(self):
        assert isinstance(refused_by_grpc("UNIMPLEMENTED", "unknown service", {}), SignalRefusedError)
        strange = refused_by_grpc("UNIMPLEMENTED", "Received http2 header with status: 404", {})
        assert not isinstance(strange, SignalRefusedError)

    def test_exhaustion_is_worth_another_try_only_if_the_server_says_when(self):
        assert not refused_by_grpc("RESOURCE_EXHAUSTED", "quota", {}).retryable
        error = refused_by_grpc("RESOURCE_EXHAUSTED", "quota", details(retry_info(0)))
        assert (error.retryable, error.retry_after) == (True, 0)

    @pytest.mark.parametrize(
        ("code", "said"),
        [
            ("RESOURCE_EXHAUSTED", "Received message larger than max (5000000 vs. 4194304)"),
            ("RESOURCE_EXHAUSTED", "grpc: received message after decompression larger than max 4194304"),
            ("RESOURCE_EXHAUSTED", "gRPC message exceeds maximum size 4194304: 5000000"),
            ("OUT_OF_RANGE", "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes"),
        ],
    )
    def test_a_message_beyond_the_limit_is_told_apart(self, code, said):
        error = refused_by_grpc(code, said, {})
        assert isinstance(error, TooLargeError)
        assert not error.retryable

    def test_the_ceremony_around_a_failed_connection_is_left_out(self):
        said = (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to "
            "remote host: Connection refused"
        )
        assert str(refused_by_grpc("UNAVAILABLE", said, {})) == (
            "UNAVAILABLE: ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused"
        )

    def test_a_delay_is_read_to_the_nanosecond(self):
        assert retry_delay(details(retry_info(1, 500_000_000))) == 1.5
        assert retry_delay({RETRY_INFO: retry_info(2).SerializeToString()}) == 2
        assert retry_delay(details(error_details_pb2.BadRequest(), retry_info(3))) == 3

    @pytest.mark.parametrize(
        "trailers",
        [
            {},
            {DETAILS: "text"},
            {DETAILS: b"\xff\xff"},
            {RETRY_INFO: b"\xff\xff"},
            details(error_details_pb2.BadRequest()),
            {
                DETAILS: status_pb2.Status(
                    details=[
                        AnyMessage(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff\xff")
                    ]
                ).SerializeToString()
            },
        ],
    )
    def test_anything_else_is_no_delay(self, trailers):
        assert retry_delay(trailers) is None

    def test_a_delay_in_the_past_is_none_to_wait_for(self):
        assert retry_delay(details(retry_info(-5))) == 0


class TestHttp:
    """OTLP specification, "OTLP/HTTP Response", "Failures"."""

    def test_four_statuses_pass_and_those_about_the_destination_wait_and_no_other_does(self):
        errors = {status: refused_by_http(status, "", {}, b"", 0) for status in range(100, 600)}
        waits = [status for status, error in errors.items() if isinstance(error, DestinationError)]
        assert waits == [
            *range(300, 400),
            *(401, 402, 403, 404, 405, 406, 407, 410, 415, 421, 426, 451, 501, 505, 511),
        ]
        passes = [status for status, error in errors.items() if error.retryable and status not in waits]
        assert passes == [429, 502, 503, 504]

    @pytest.mark.parametrize("status", [400, 422, 500])
    def test_a_page_is_of_no_receiver(self, status):
        page = b"<html><body>400 Bad Request</body></html>"
        assert isinstance(
            refused_by_http(status, "", {"content-type": "text/html"}, page, 0), DestinationError
        )

    @pytest.mark.parametrize(
        "said",
        [
            b"Client sent an HTTP request to an HTTPS server.\n",
            b"<title>400 The plain HTTP request was sent to HTTPS port</title>",
            b"You're speaking plain HTTP to an SSL-enabled server port.",
        ],
    )
    def test_a_server_that_expects_tls_is_told_by_its_words(self, said):
        error = refused_by_http(400, "Bad Request", {}, said, 0)
        assert isinstance(error, DestinationError)
        assert "https:// in place of http://" in str(error)

    @pytest.mark.parametrize("status", [429, 502, 503, 504])
    def test_the_delay_of_the_server_is_passed_on(self, status):
        assert refused_by_http(status, "", {"retry-after": "7"}, b"", 0).retry_after == 7
        date = {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}
        assert refused_by_http(status, "", date, b"", 946684790).retry_after == 9
        assert refused_by_http(status, "", {}, b"", 0).retry_after is None

    def test_a_delay_makes_nothing_retryable(self):
        error = refused_by_http(400, "Bad Request", {"retry-after": "7"}, b"", 0)
        assert (error.retryable, error.retry_after) == (False, None)

    def test_too_large_is_told_apart(self):
        error = refused_by_http(413, "Content Too Large", {}, b"", 0)
        assert isinstance(error, TooLargeError)
        assert str(error) == "HTTP 413 Content Too Large"

    @pytest.mark.parametrize("status", [400, 413, 422])
    @pytest.mark.parametrize(
        "words",
        [
            "http: request body too large",
            "Request Entity Too Large",
            "grpc: received message larger than max (5000000 vs. 4194304)",
            "request exceeds the maximum size",
            "body size exceeded",
            "Payload exceeds limit of 1 MB",
            "gRPC message exceeds maximum size 4194304: 5000000",
            "the batch is too big",
        ],
    )
    @pytest.mark.parametrize("form", ["protobuf", "json", "text", "html"])
    def test_too_large_is_understood_in_words(self, status, words, form):
        kind, body = {
            "protobuf": (PROTOBUF, status_pb2.Status(code=3, message=words).SerializeToString()),
            "json": ("application/json", json.dumps({"code": 3, "message": words}).encode()),
            "text": ("text/plain; charset=utf-8", words.encode()),
            "html": ("text/html", f"<html><body>{words}</body></html>".encode()),
        }[form]
        assert isinstance(refused_by_http(status, "No", {"content-type": kind}, body, 0), TooLargeError)

    @pytest.mark.parametrize("status", [400, 401, 403, 422, 429, 500, 503])
    @pytest.mark.parametrize("words", ["bad request", "invalid trace id", "unauthorized", "quota", ""])
    def test_other_words_mean_something_else(self, status, words):
        error = refused_by_http(status, "No", {"content-type": "text/plain"}, words.encode(), 0)
        assert not isinstance(error, TooLargeError)

    @pytest.mark.parametrize("status", [401, 403, 429, 503])
    def test_an_answer_about_something_else_is_not_taken_for_too_large(self, status):
        body = b"retry later: the queue is too large"
        error = refused_by_http(status, "No", {"content-type": "text/plain"}, body, 0)
        assert not isinstance(error, TooLargeError)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_a_failure_that_names_where_to(self, status):
        error = refused_by_http(status, "Moved", {"location": "http://elsewhere/"}, b"", 0)
        assert isinstance(error, DestinationError)
        assert str(error) == (
            f"HTTP {status} Moved: redirected to http://elsewhere/, which is not followed; set endpoint to "
            "where it leads, if that is right"
        )
        assert "nowhere" in str(refused_by_http(status, "", {}, b"", 0))

    @pytest.mark.parametrize(
        ("content_type", "body", "said"),
        [
            (
                "application/x-protobuf",
                status_pb2.Status(message="no\nquota").SerializeToString(),
                ": no quota",
            ),
            ("application/x-protobuf", b"\xff\xff", ""),
            ("application/json; charset=utf-8", b'{"code": 3, "message": "no quota"}', ": no quota"),
            ("application/json", b'{"error": "no quota"}', ': {"error": "no quota"}'),
            ("application/json", b"no quota", ": no quota"),
            ("text/plain", b"  no \n quota ", ": no quota"),
            ("text/plain", b"\xff", ": �"),
            ("", b"", ""),
            ("text/plain", b"x" * 1000, ": " + "x" * 299 + "…"),
        ],
    )
    def test_what_the_body_says_is_the_reason(self, content_type, body, said):
        error = refused_by_http(400, "Bad Request", {"content-type": content_type}, body, 0)
        assert str(error) == f"HTTP 400 Bad Request{said}"


class TestDelays:
    def test_retry_after_is_seconds_or_a_date(self):
        assert retry_after("120", 0) == 120
        assert retry_after(" 0 ", 0) == 0
        assert retry_after("Fri, 31 Dec 1999 23:59:59 GMT", 946684790) == 9
        assert retry_after("Fri, 31 Dec 1999 23:59:59 GMT", 946684800) == 0

    @pytest.mark.parametrize("value", [None, "", "soon", "-1", "1e5", "٣", "9" * 5000, "Fri, 99 Foo 1999"])
    def test_anything_else_is_no_delay(self, value):
        assert retry_after(value, 0) is None


def test_what_is_too_large_by_our_own_count_says_so():
    error = too_large(11, 10)
    assert isinstance(error, TooLargeError)
    assert isinstance(error, ExportError)
    assert str(error) == "the request has 11 bytes; servers take 10 as a rule"


def test_success_with_an_answer_that_cannot_be_decompressed_is_success():
    outcome = accepted(TRACES, None)
    assert outcome.rejected == 0
    assert "an answer that cannot be decompressed" in outcome.message
