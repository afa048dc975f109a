"""The decision about a trace that does not depend on how it went: by its id, its caller, its operations.

Whoever knows the id of a trace and the rate decides alike, in every process. The share is taken as the class
``TraceIdRatioBased`` of OpenTelemetry's SDK takes it: the low 64 bits of the id below ``rate * 2**64``.

What was kept counts for more than itself, and how much more is written on each span as the attribute
:data:`SAMPLING_WEIGHT`: the *adjusted count* of OpenTelemetry's specification ("TraceState: Probability
Sampling"), which is one over the probability of having been kept. The specification's own place for it is the
sub-key ``th`` of ``tracestate``. That one is a promise, which samplers further down the line check: that the
low 56 bits of the trace id are not below the threshold. The SDK's decision keeps the low ids and not the high
ones, so it would be a false promise, and the specification has a threshold erased that is inconsistent. A
``th`` that arrives with the caller's ``tracestate`` is understood, because there the caller decided.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from otpylib_telemetry_otel.sampling.policy import OUT, Verdict, bound_of
from otpylib_telemetry_otel.sampling.rules import ruling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otpylib_telemetry_otel.sampling.policy import Policy
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


#: The attribute that says for how many operations a span stands. It is left out where that is one, and where
#: nobody knows.
SAMPLING_WEIGHT: Final = "sampling.weight"


_LOW_64_BITS: Final = 2**64 - 1


#: "TraceState: Probability Sampling": thresholds and randomness have 56 bits.
_BITS: Final = 56

_DIGITS: Final = _BITS // 4

_THRESHOLD: Final = re.compile(r"[0-9a-f]{1,14}")

_RANDOMNESS: Final = re.compile(r"[0-9a-f]{14}")


#: More than any ``tracestate`` may be long (W3C Trace Context asks for 512 to be carried on).
_MAX_TRACESTATE: Final = 8192


def by_ratio(trace_id: int, bound: int) -> Verdict:
    """Decide by the trace id alone."""
    return Verdict(keep=True, weight=2**64 / bound) if (trace_id & _LOW_64_BITS) < bound else OUT


def decide(policy: Policy, spans: Sequence[FinishedSpan]) -> Verdict:
    """Decide about a trace in which nothing failed and nothing was slow.

    In this order: the caller's decision, if the policy is to follow it and there is a caller; the rules; the
    installed sampler; the ratio.
    """
    trace_id = spans[0].trace_id
    if policy.parent_based and (verdict := _as_the_caller(trace_id, spans)) is not None:
        return verdict
    rate, decides = ruling(policy.rules, spans) if policy.rules else (None, False)
    if rate is not None and decides:
        return by_ratio(trace_id, bound_of(rate))
    if policy.sampler is None:
        bound = policy.bound if rate is None else max(policy.bound, bound_of(rate))
        return by_ratio(trace_id, bound)
    verdict = policy.sampler.decide(root_span(spans))
    if verdict is None:
        verdict = by_ratio(trace_id, policy.bound)
    if not verdict.keep and rate and by_ratio(trace_id, bound_of(rate)).keep:
        # Kept by the one or by the other: how probable that is, only the sampler could say.
        return Verdict(keep=True, weight=None)
    return verdict


def root_span(spans: Sequence[FinishedSpan]) -> FinishedSpan:
    """Return the span that began the trace in this process, as far as it is known."""
    ids = {span.span_id for span in spans}
    return min(spans, key=lambda span: (span.parent_span_id in ids, span.start_ns))


def _as_the_caller(trace_id: int, spans: Sequence[FinishedSpan]) -> Verdict | None:
    """Decide as the service did that called, the way of OpenTelemetry's ``ParentBased``; None without one."""
    called = [span for span in spans if span.caller is not None and span.caller.trace_id == trace_id]
    if not called:
        return None
    for span in called:
        if span.caller is not None and span.caller.sampled:
            return Verdict(keep=True, weight=adjusted_count(span.tracestate, trace_id))
    return OUT


def adjusted_count(tracestate: object, trace_id: int) -> float | None:
    """Read for how many traces one stands, according to its ``tracestate``.

    The rules are those of OpenTelemetry's specification, "TraceState: Probability Sampling": ``th`` in the
    member ``ot`` is the rejection threshold, trailing zeros left out; ``rv``, or else the low 56 bits of the
    trace id, the randomness it was compared with. A threshold that contradicts the randomness is ignored.
    """
    if not isinstance(tracestate, str) or len(tracestate) > _MAX_TRACESTATE:
        return None
    members = dict(member.strip().partition("=")[::2] for member in tracestate.split(","))
    values = dict(value.partition(":")[::2] for value in members.get("ot", "").split(";"))
    written = values.get("th", "")
    if _THRESHOLD.fullmatch(written) is None:
        return None
    threshold = int(written, 16) << 4 * (_DIGITS - len(written))
    given = values.get("rv", "")
    randomness = int(given, 16) if _RANDOMNESS.fullmatch(given) else trace_id & (2**_BITS - 1)
    return 2**_BITS / (2**_BITS - threshold) if randomness >= threshold else None
