"""What is known of the fate of one trace, in words: nothing is recorded for it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry_otel.sampling.head import by_ratio

if TYPE_CHECKING:
    from otpylib_telemetry_otel.sampling.policy import Policy, Verdict
    from otpylib_telemetry_otel.sampling.tail import Tail


class Fate(NamedTuple):
    """Whether a trace is kept, None where that is not decided, and what decided it."""

    takes: bool | None
    answers: list[str]


#: That of every trace where no spans are sent.
NOT_SENT: Final = Fate(False, ["spans are not sent: traces = false"])


def explain(tail: Tail, trace_id: int, *, is_open: bool) -> Fate:
    """Return what is known of a trace; ``is_open`` says whether spans of it are."""
    held, known, policy = tail.known(trace_id)
    answers = ["spans of it are open here"] if is_open else []
    if known is not None:
        return Fate(known.keep, [*answers, _decided(known)])
    if policy.keeps_everything:
        return Fate(True, [*answers, "sampling keeps everything: sampling_rate = 1"])
    by_id = _by_id(trace_id, policy)
    if policy.by_ratio_alone:
        return Fate(by_ratio(trace_id, policy.bound).keep, [*answers, by_id])
    if held:
        answers.append(
            f"{held} spans of it are held: it is decided about when it is over, and sampling_wait "
            f"({policy.wait_ns / 1e9:g} s) has passed"
        )
    elif not is_open:
        answers.append("nothing is held or remembered of it: it never was here, or was decided a while ago")
    return Fate(None, [*answers, *_what_would_decide(policy), by_id])


def _decided(verdict: Verdict) -> str:
    if not verdict.keep:
        return (
            "it was left out: max_spans_per_second was reached"
            if verdict.final
            else "it was left out by sampling, whatever is not an error that comes later"
        )
    if verdict.weight is None:
        return "it was kept: the caller or a sampler decided, which do not say for how many it stands"
    if verdict.weight == 1:
        return "it was kept, for an error, for being slow, by its caller, or because everything like it is"
    return f"it was kept, and stands for {verdict.weight:g} of its kind"


def _by_id(trace_id: int, policy: Policy) -> str:
    kept = by_ratio(trace_id, policy.bound).keep if policy.bound else False
    word = "among" if kept else "not among"
    return f"by its id it is {word} the share that sampling_rate = {policy.rate:g} keeps"


def _what_would_decide(policy: Policy) -> list[str]:
    """Return what comes before the share, in this order."""
    slow = policy.keep_slower_than_ns
    rules: list[tuple[Any, str]] = [
        (policy.keep_errors, "an error keeps it whole: always_keep_errors"),
        (slow, f"slower than {(slow or 0) / 1e6:g} ms keeps it whole: always_keep_slower_than_ms"),
        (policy.parent_based, "else its caller's decision counts: sampling_parent_based"),
        (policy.rules, f"else the first of {len(policy.rules)} sampling_rules that fits counts"),
        (policy.sampler, "else the configured sampler decides"),
        (policy.awaits_sampler, "the configured sampler is not there yet: decisions wait for it"),
        (
            policy.spans_per_second is not None,
            f"what is kept is limited: max_spans_per_second = {policy.spans_per_second or 0:g}",
        ),
    ]
    return [text for counts, text in rules if counts]
