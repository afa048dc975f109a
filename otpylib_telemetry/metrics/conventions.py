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
declare(
    "otpylib.process.spawned",
    Standard(
        labels=as_they_are(("server", "module")),
        count=Named("otpylib.process.spawned", "Processes that began."),
    ),
)
declare(
    "otpylib.process.exited",
    Standard(
        labels=as_they_are(("server", "module", "reason")),
        count=Named("otpylib.process.exited", "Processes that ended, by reason."),
    ),
)
declare(
    "otpylib.process.crashed",
    Standard(
        labels=as_they_are(("server", "module", "reason")),
        count=Named("otpylib.process.crashes", "Processes that crashed, by reason."),
    ),
)
declare(
    "otpylib.supervisor.restarted",
    Standard(
        labels=as_they_are(("supervisor", "server", "child", "reason")),
        count=Named("otpylib.supervisor.restarts", "Children that supervisors started again."),
    ),
)
declare(
    "otpylib.supervisor.gave_up",
    Standard(
        labels=as_they_are(("supervisor", "server", "child", "reason")),
        count=Named("otpylib.supervisor.gave_up", "Supervisors that ended because of too many restarts."),
    ),
)
declare(
    "otpylib.supervisor.restart_failed",
    Standard(
        labels=as_they_are(("supervisor", "child", "reason", "error_type")),
        count=Named("otpylib.supervisor.restart_failures", "Children that could not be started again."),
    ),
)
declare(
    "otpylib.supervisor.child_started",
    Standard(
        labels=as_they_are(("supervisor", "module")),
        count=Named("otpylib.supervisor.children_started", "Children added to dynamic supervisors."),
    ),
)
declare(
    "otpylib.supervisor.child_stopped",
    Standard(
        labels=as_they_are(("supervisor", "module", "reason")),
        count=Named("otpylib.supervisor.children_stopped", "Children that dynamic supervisors let go."),
    ),
)
declare(
    "otpylib.name.taken_over",
    Standard(
        labels=as_they_are(("name",)),
        count=Named("otpylib.name.taken_over", "Names that went to a second process."),
    ),
)
declare(
    "otpylib.message.undelivered",
    Standard(
        labels=as_they_are(("target", "server")),
        count=Named("otpylib.undelivered", "Messages to nobody, by target and sender."),
    ),
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
