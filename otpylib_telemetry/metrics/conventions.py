"""The names and labels of metrics of actors, which our pages promise, and of HTTP, which OpenTelemetry fixes.

HTTP: https://opentelemetry.io/docs/specs/semconv/http/http-metrics/ (version 1.23 and later, stable).
"""

from __future__ import annotations

from typing import Final

from otpylib_telemetry.metrics.buckets import DURATION_BOUNDS
from otpylib_telemetry.metrics.standard import ERROR_TYPE, Named, Standard, as_they_are, declare

# --- actors: grouped by server and module, never by a pid

#: Upper bounds in seconds for what takes far less than 5 ms as a rule.
_FINE: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, *DURATION_BOUNDS)

declare(
    "otpylib.handle",
    Standard(
        labels=as_they_are(("server", "module", "message", "kind", "error_type")),
        duration=Named("otpylib.handle.duration", "How long messages were handled, by outcome.", "s"),
        wait=Named("otpylib.handle.wait", "How long messages waited in the mailbox, by outcome.", "s"),
        has_in_flight=False,
        bounds=_FINE,
    ),
)
declare(
    "otpylib.call",
    Standard(
        labels=as_they_are(("server", "module", "message", "error_type")),
        duration=Named("otpylib.call.duration", "How long callers waited for an answer, by outcome.", "s"),
        has_in_flight=False,
        bounds=_FINE,
    ),
)
#: What is counted: the event, its labels, the metric and what it says.
_COUNTED: Final = (
    ("process.spawned", "server module", "process.spawned", "Processes that began."),
    ("process.exited", "server module reason", "process.exited", "Processes that ended, by reason."),
    ("process.crashed", "server module reason", "process.crashes", "Processes that crashed, by reason."),
    (
        "supervisor.restarted",
        "supervisor server child reason",
        "supervisor.restarts",
        "Children that supervisors started again.",
    ),
    (
        "supervisor.gave_up",
        "supervisor server child reason",
        "supervisor.gave_up",
        "Supervisors that ended because of too many restarts.",
    ),
    (
        "supervisor.restart_failed",
        "supervisor child reason error_type",
        "supervisor.restart_failures",
        "Children that could not be started again.",
    ),
    (
        "supervisor.child_started",
        "supervisor module",
        "supervisor.children_started",
        "Children added to dynamic supervisors.",
    ),
    (
        "supervisor.child_stopped",
        "supervisor module reason",
        "supervisor.children_stopped",
        "Children that dynamic supervisors let go.",
    ),
    ("name.taken_over", "name", "name.taken_over", "Names that went to a second process."),
    ("message.undelivered", "target server", "undelivered", "Messages to nobody, by target and sender."),
)
for _event, _labels, _name, _text in _COUNTED:
    declare(
        f"otpylib.{_event}",
        Standard(labels=as_they_are(_labels.split()), count=Named(f"otpylib.{_name}", _text)),
    )
declare(
    "otpylib.loop.stalled",
    Standard(
        labels=as_they_are(("server", "message")),
        duration=Named("otpylib.loop.stall.duration", "How long the event loop stood still.", "s"),
    ),
)

# --- HTTP

_ERROR: Final = {ERROR_TYPE: ERROR_TYPE, "error_type": ERROR_TYPE}

declare(
    "http.server.request",
    Standard(
        labels={
            **as_they_are(("http.request.method", "http.route", "http.response.status_code", "url.scheme")),
            **as_they_are(("network.protocol.version",)),
            **_ERROR,
        },
        duration=Named("http.server.request.duration", "Duration of HTTP server requests.", "s"),
        in_flight=Named("http.server.active_requests", "Number of active HTTP server requests.", "{request}"),
        in_flight_labels=frozenset({"http.request.method", "url.scheme"}),
        bounds=DURATION_BOUNDS,
        by_error_type=True,
    ),
)
declare(
    "http.client.request",
    Standard(
        labels={
            **as_they_are(("http.request.method", "http.response.status_code", "server.address")),
            **as_they_are(("server.port", "network.protocol.version")),
            **_ERROR,
        },
        duration=Named("http.client.request.duration", "Duration of HTTP client requests.", "s"),
        has_in_flight=False,
        bounds=DURATION_BOUNDS,
        by_error_type=True,
    ),
)
