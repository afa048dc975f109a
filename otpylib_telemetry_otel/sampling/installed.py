"""Samplers that other packages bring, by the name under which they are registered with OpenTelemetry.

OpenTelemetry is imported by :func:`load` and not by this module. A sampler is meant to be asked when a span
begins; here it is asked once for each trace, about the span that began it, when the trace is over. It sees
the same trace id, name, kind, parent and attributes, and besides the attributes that came with the end.
"""

from __future__ import annotations

import logging
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.primitives.fork import importing
from otpylib_telemetry_otel.attributes import attributes
from otpylib_telemetry_otel.errors import BackendUnavailableError
from otpylib_telemetry_otel.sampling.head import adjusted_count
from otpylib_telemetry_otel.sampling.policy import Verdict
from otpylib_telemetry_otel.semantics import span_kind

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.sampling import Sampler

    from otpylib_telemetry_otel.traces.spans import FinishedSpan


_log = logging.getLogger("otpylib_telemetry")

ENTRY_POINTS: Final = "opentelemetry_traces_sampler"

#: These two of the SDK's own want a number, all others are given text (so does the SDK's configuration).
_OF_A_NUMBER: Final = frozenset({"traceidratio", "parentbased_traceidratio"})


class InstalledSampler:
    """A sampler of OpenTelemetry, asked about whole traces."""

    def __init__(self, sampler: Sampler, name: str) -> None:
        # Only where one is in use; whoever made the sampler has imported OpenTelemetry already.
        from opentelemetry import trace  # noqa: PLC0415 - see the module's docstring

        self._sampler: Any = sampler
        self._name = name
        self._api: Any = trace
        self._failed = False

    def decide(self, span: FinishedSpan) -> Verdict | None:
        """Ask about the trace that began with this span; None if the sampler failed, which is logged once.

        The weight is known only of a sampler with the threshold of consistent probability sampling.
        """
        try:
            known, _ = attributes(span.attributes, span.hidden)
            result = self._sampler.should_sample(
                self._context(span),
                span.trace_id,
                span.name,
                self._api.SpanKind[span_kind(span.attributes) or span.kind],
                known,
                None,
                self._tracestate(span),
            )
            if not result.decision.is_sampled():
                return Verdict(keep=False)
            if result.attributes:
                span.attributes = {**span.attributes, **result.attributes}
            stated = result.trace_state
            return Verdict(
                keep=True, weight=adjusted_count(stated.to_header(), span.trace_id) if stated else None
            )
        except Exception as error:  # noqa: BLE001 - somebody else's code, which must not stop telemetry
            if not self._failed:
                self._failed = True
                _log.warning(
                    "The sampler %r failed with %s: %s. Where it does, sampling_rate decides. Further "
                    "failures are not reported.",
                    self._name,
                    type(error).__name__,
                    error,
                )
            return None

    def _context(self, span: FinishedSpan) -> Context | None:
        """Return the context in which the span began: with its parent, if that is known."""
        caller = span.caller
        if caller is None or caller.trace_id != span.trace_id:
            return None
        parent = self._api.SpanContext(
            caller.trace_id,
            caller.span_id,
            is_remote=True,
            trace_flags=self._api.TraceFlags(caller.flags),
            trace_state=self._tracestate(span),
        )
        context: Context = self._api.set_span_in_context(self._api.NonRecordingSpan(parent))
        return context

    def _tracestate(self, span: FinishedSpan) -> Any:
        return self._api.TraceState.from_header([span.tracestate]) if span.tracestate else None


def load(name: str, argument: str | None) -> InstalledSampler:
    """Load the sampler of this name. Imports packages, and blocks: it belongs on a thread."""
    registered = entry_points(group=ENTRY_POINTS)
    found = next((entry for entry in registered if entry.name == name), None)
    if found is None:
        known = ", ".join(sorted({entry.name for entry in registered})) or "none"
        raise BackendUnavailableError(
            f"no installed package registers an OpenTelemetry sampler named {name!r} (entry points "
            f"{ENTRY_POINTS}); installed are: {known}. Install the package that brings it, or leave sampler "
            "unset: sampling_rate then decides"
        )
    try:
        with importing():
            factory = found.load()
        sampler = factory(float(argument or 1.0) if name in _OF_A_NUMBER else argument or "")
        asked = sampler.should_sample
    except Exception as error:
        raise BackendUnavailableError(
            f"the OpenTelemetry sampler {name!r} ({found.value}) cannot be built with the argument "
            f"{argument or ''!r}: {type(error).__name__}: {error}"
        ) from error
    if not callable(asked):
        raise BackendUnavailableError(f"what {found.value} gives for {name!r} is no OpenTelemetry sampler")
    return InstalledSampler(sampler, name)
