"""What an OTLP server's answer means: pure functions.

Section names in the comments are those of the OpenTelemetry Protocol specification.

Imports the generated classes of OTLP: to be imported only where something is about to be exported.
"""

from __future__ import annotations

import json
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.json_format import Parse, ParseError  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from otpylib_telemetry.exporter.collected import ExportOutcome
from otpylib_telemetry.exporter.errors import ExportError, TooLargeError
from otpylib_telemetry_otel.errors import (
    BatchRefusedError,
    ServerBrokenError,
    SignalRefusedError,
    StrangeOutcome,
)
from otpylib_telemetry_otel.otlp import mistakes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry_otel.otlp.services import Service


PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"
#: What Loki calls a google.rpc.Status of protobuf.
_BYTES: Final = "application/octet-stream"

#: The field of an answer to an export, as JSON may name it.
_ANSWERED: Final = frozenset({"partialSuccess", "partial_success"})

#: "OTLP/gRPC Response", "Failures". RESOURCE_EXHAUSTED is retryable as well if the server says when.
_RETRYABLE_CODES: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)

#: "OTLP/HTTP Response", "Retryable Response Codes": all others must not be retried.
_RETRYABLE_STATUSES: Final = frozenset({429, 502, 503, 504})

_TOO_LARGE_STATUS: Final = 413

#: A message beyond the limit of the receiving side has no code of its own. These are the words of gRPC's
#: implementations (C++, C#, Go and all that build on C++; Java; Rust, which says OUT_OF_RANGE instead), of
#: the HTTP server of Go and so of the Collector, which answers 400, and of others that speak HTTP.
_TOO_LARGE: Final = re.compile(
    r"larger than|too (?:large|big|long)|exceed\w* (?:the )?(?:\w+ )?(?:max|limit|size)"
    r"|\b(?:size|length|limit) exceeded",
    re.IGNORECASE,
)
_TOO_LARGE_CODES: Final = frozenset({"RESOURCE_EXHAUSTED", "OUT_OF_RANGE", "INVALID_ARGUMENT"})
#: Answers that may mean it beside 413 itself. Where the words are about one item, it alone is lost by smaller
#: requests.
_MAYBE_TOO_LARGE: Final = frozenset({400, 422})

#: Where a server puts a google.rpc.Status with details, and where gRPC for Java puts a RetryInfo by itself.
_STATUS_DETAILS: Final = "grpc-status-details-bin"
_RETRY_INFO: Final = "google.rpc.retryinfo-bin"

#: The way gRPC reports that it could not connect, in front of what happened.
_CONNECTING: Final = re.compile(r"failed to connect to all addresses; last error: (?:[A-Z_]+: )?")

#: The address in front of what happened there.
_ADDRESS: Final = re.compile(r"(?:ipv[46]:)?(\S+:\d+)(?=: )")

#: The server does not know the signal: no such service, no such path, or none that can be posted to.
_UNKNOWN_CODE: Final = "UNIMPLEMENTED"

#: The code of what did not get as far as to a server of gRPC.
_UNAVAILABLE: Final = "UNAVAILABLE"
#: It is broken, and has not said that it cannot take what it was sent.
_BROKEN_CODES: Final = frozenset({"INTERNAL", "UNKNOWN"})
_BROKEN_STATUS: Final = 5
_UNKNOWN_STATUSES: Final = frozenset({404, 405, 501})

_MAX_REASON: Final = 300
_MOST_WORDS: Final = 4_096
_LARGEST_COUNT: Final = 2**31


def accepted(service: Service, answer: bytes | None, content_type: str = PROTOBUF) -> ExportOutcome | None:
    """Read the answer to a request that succeeded ("Full Success" and "Partial Success").

    Success is success whatever the answer says: the request must not be sent again. But an answer that is no
    OTLP may come from something that is no OTLP receiver, so that is passed on as a warning. None stands for
    one that cannot be decompressed.

    A web page is no success: whoever shows it has thrown the request away.
    """
    if answer is None:
        return _strange("that cannot be decompressed")
    if not answer:
        return None
    if words := mistakes.of_body(content_type, answer):
        raise mistakes.error_of("success is reported with a page of HTML", words)
    message = service.answer()
    kind = _kind(content_type)
    try:
        if kind == PROTOBUF:
            message.ParseFromString(answer)
        elif _is_answer_in_json(answer):
            # Whatever it is called: who writes two braces rarely says of which type they are.
            Parse(answer, message, ignore_unknown_fields=True)
        else:
            said = "that says something else" if kind == _JSON else f"of type {_short(kind) or 'unknown'}"
            return _strange(said)
    except (DecodeError, ParseError, UnicodeDecodeError):
        return _strange("that cannot be decoded")
    partial = message.partial_success
    rejected = min(max(getattr(partial, service.rejected), 0), _LARGEST_COUNT)
    if not rejected and not partial.error_message:
        return None
    return ExportOutcome(rejected=rejected, message=_short(partial.error_message))


def refused_by_grpc(code: str, details: str, trailers: Mapping[str, bytes | str]) -> ExportError:
    """Make an error of a gRPC status other than OK."""
    said = _short(_CONNECTING.sub("", details))
    message = f"{code}: {said}" if said else code
    if code in _TOO_LARGE_CODES and _TOO_LARGE.search(details):
        # "OTLP/gRPC Request": not retryable; smaller requests are other requests.
        return TooLargeError(message)
    if words := mistakes.of_code(code, details):
        if code == _UNKNOWN_CODE and words is mistakes.NO_SUCH_SERVICE:
            return SignalRefusedError(f"{message}; {words}")
        if words is not mistakes.in_code(code):
            # What gRPC writes about the bytes that it got is of no use to anybody.
            where = _ADDRESS.match(said)
            message = f"{code}: {where[1]}" if where else code
        return mistakes.error_of(message, words)
    if code == _UNAVAILABLE:
        if (name := mistakes.no_host(said)) is not None:
            return mistakes.error_of(f"{code}: {name}: the host cannot be found", mistakes.NO_HOST)
        message = f"{code}: {mistakes.plain(said)}" if said else code
    delay = retry_delay(trailers)
    # "OTLP/gRPC Throttling": a RetryInfo is how a server says that RESOURCE_EXHAUSTED will pass.
    retryable = code in _RETRYABLE_CODES or (code == "RESOURCE_EXHAUSTED" and delay is not None)
    if not retryable:
        return ServerBrokenError(message) if code in _BROKEN_CODES else BatchRefusedError(message)
    return ExportError(message, retry_after=delay)


def retry_delay(trailers: Mapping[str, bytes | str]) -> float | None:
    """Read the RetryInfo of a gRPC status: seconds to wait, or None."""
    info = RetryInfo()
    try:
        if isinstance(packed := trailers.get(_STATUS_DETAILS), bytes):
            for detail in Status.FromString(packed).details:
                if detail.Is(RetryInfo.DESCRIPTOR):
                    detail.Unpack(info)
                    return _seconds(info)
        if isinstance(packed := trailers.get(_RETRY_INFO), bytes):
            info.ParseFromString(packed)
            return _seconds(info)
    except DecodeError:
        return None
    return None


def _seconds(info: RetryInfo) -> float:
    delay = info.retry_delay
    return max(float(delay.seconds + delay.nanos / 1e9), 0.0)


def refused_by_http(
    status: int, phrase: str, headers: Mapping[str, str], body: bytes, now: float
) -> ExportError:
    """Make an error of an HTTP answer other than one of success."""
    message = f"HTTP {status} {phrase}".rstrip()
    if 300 <= status < 400:  # noqa: PLR2004 - the class of redirects
        # "All Other Responses": a POST is not sent elsewhere without asking (RFC 9110, section 15.4).
        place = _short(headers.get("location", "")) or "nowhere"
        message = f"{message}: redirected to {place}, which is not followed"
        return mistakes.error_of(message, mistakes.MOVED)
    kind = headers.get("content-type", "")
    if said := _reason(kind, body):
        message = f"{message}: {said}"
    words = body[:_MOST_WORDS].decode("utf-8", "replace")
    if status == _TOO_LARGE_STATUS or (status in _MAYBE_TOO_LARGE and _TOO_LARGE.search(words)):
        # "OTLP/HTTP Request": not to be retried; smaller requests are other requests.
        return TooLargeError(message)
    retryable = status in _RETRYABLE_STATUSES
    mistake = None if retryable else mistakes.of_status(status) or mistakes.of_body(kind, body)
    if mistake is not None:
        is_unknown = status in _UNKNOWN_STATUSES
        return (
            SignalRefusedError(f"{message}; {mistake}") if is_unknown else mistakes.error_of(message, mistake)
        )
    if retryable:
        return ExportError(message, retry_after=retry_after(headers.get("retry-after"), now))
    if status // 100 == _BROKEN_STATUS:
        return ServerBrokenError(message)
    return BatchRefusedError(message) if _is_status(kind, body) else ExportError(message, retryable=False)


def retry_after(value: str | None, now: float) -> float | None:
    """Read a ``Retry-After`` header (RFC 9110, section 10.2.3) as seconds; None for what is no time."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        # More digits than a year has seconds is no delay but a mistake, and may be no float.
        return float(value) if len(value) < 10 else None  # noqa: PLR2004
    try:
        return max(parsedate_to_datetime(value).timestamp() - now, 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def no_answer(seconds: float, code: str = "") -> ExportError:
    """Make the error of a request that was not answered in time."""
    return ExportError(f"{code}{code and ': '}no answer within {seconds:.3g} s")


def too_large(size: int, limit: int) -> TooLargeError:
    """Make the error of a request that is too large to be sent at all."""
    return TooLargeError(f"the request has {size} bytes; servers take {limit} as a rule")


def _reason(content_type: str, body: bytes) -> str:
    """What the body of a refusal says: a google.rpc.Status, as OTLP wants it, or text."""
    kind = _kind(content_type)
    status = _status(kind, body, strict=False)
    if status is not None and (status.message or kind == PROTOBUF):
        return _short(status.message)
    # Bytes are for nobody to read, and a page is made for a browser, not for a line of a log.
    return "" if kind in {PROTOBUF, "text/html"} else _short(body.decode("utf-8", "replace"))


def _is_status(content_type: str, body: bytes) -> bool:
    """Tell whether a refusal is a google.rpc.Status: then who refuses speaks OTLP."""
    kind = _kind(content_type)
    status = _status(kind, body, strict=True)
    if status is None:
        return False
    # Many bytes can be read as a message, of unknown fields. One without any field is no bytes at all.
    return bool(status.message) or (kind == PROTOBUF and (bool(status.code) or not body))


def _status(kind: str, body: bytes, *, strict: bool) -> Any:
    """Read a google.rpc.Status; None for what is none. A strict one in JSON has no other fields."""
    status = Status()
    try:
        if kind in {PROTOBUF, _BYTES}:
            status.ParseFromString(body)
        elif kind == _JSON:
            Parse(body, status, ignore_unknown_fields=not strict)
        else:
            return None
    except (DecodeError, ParseError, UnicodeDecodeError):
        return None
    return status


def _is_answer_in_json(answer: bytes) -> bool:
    """Tell whether JSON is an answer to an export: an object without a field, or with the one there is."""
    try:
        said = json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and (not said or not _ANSWERED.isdisjoint(said))


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _strange(what: str) -> ExportOutcome:
    return StrangeOutcome(
        message=f"it reports success with an answer {what}, which is no OTLP: is the endpoint right?"
    )


def _short(said: str) -> str:
    """Return what a server says as it may stand in a log: on one line, and moving no cursor."""
    said = " ".join(said[: 4 * _MAX_REASON].split())
    if not said.isprintable():
        said = "".join(each if each.isprintable() else repr(each)[1:-1] for each in said)
    return said if len(said) <= _MAX_REASON else said[: _MAX_REASON - 1] + "…"
