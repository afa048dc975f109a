"""The head's decision: by the trace id, by the caller, by rules, by an installed sampler, within a budget."""

import json
import logging
import random
import subprocess
import sys
from types import SimpleNamespace

import pytest
from opentelemetry import trace as api
from opentelemetry.sdk.trace.sampling import Decision, SamplingResult, TraceIdRatioBased

from otpylib_telemetry.tracing.propagation import TraceParent
from otpylib_telemetry_otel.errors import BackendUnavailableError
from otpylib_telemetry_otel.sampling import installed
from otpylib_telemetry_otel.sampling.budget import SpanBudget
from otpylib_telemetry_otel.sampling.head import adjusted_count, by_ratio, decide
from otpylib_telemetry_otel.sampling.installed import InstalledSampler, load
from otpylib_telemetry_otel.sampling.policy import KEEP, OUT, Policy, Verdict, bound_of
from otpylib_telemetry_otel.sampling.rules import rules_from, ruling, tables
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_otel.signals.traces import policy_from
from otpylib_telemetry_otel.traces.spans import FinishedSpan

MILLISECOND = 1_000_000
SECOND = 1_000_000_000
#: Trace ids that every ratio above 0 keeps, and that none below 1 does.
LOW, HIGH = 1 << 64, 2**128 - 1


def span(
    trace_id=LOW, name="a", span_id=1, parent=0, duration_ns=0, caller=None, start_ns=1000, **attributes
):
    return FinishedSpan(
        name, trace_id, span_id, parent, caller, start_ns, attributes, end_ns=start_ns + duration_ns
    )


def rules(*given):
    return rules_from(tables(given))


# --- by the trace id


@pytest.mark.parametrize("ratio", [0.0, 1e-9, 0.01, 1 / 3, 0.5, 0.999, 1.0])
def test_the_same_traces_are_kept_as_by_opentelemetry(ratio):
    generator = random.Random(7)
    trace_ids = [generator.getrandbits(128) for _ in range(2000)] + [1, 2**64 - 1, 2**64, 2**128 - 1]
    theirs = TraceIdRatioBased(ratio)
    for trace_id in trace_ids:
        decision = theirs.should_sample(None, trace_id, "a").decision.is_sampled()
        assert by_ratio(trace_id, bound_of(ratio)).keep is decision
        assert decide(Policy(rate=ratio), [span(trace_id)]).keep is decision


@pytest.mark.process
def test_two_processes_agree_about_ten_thousand_traces():
    generator = random.Random(11)
    trace_ids = [generator.getrandbits(128) for _ in range(10_000)]
    program = (
        "import json, sys\n"
        "from otpylib_telemetry_otel.sampling.policy import bound_of\n"
        "from otpylib_telemetry_otel.sampling.head import by_ratio\n"
        "ids = json.load(sys.stdin)\n"
        "print(json.dumps([by_ratio(one, bound_of(0.01)).keep for one in ids]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(trace_ids),
        capture_output=True,
        text=True,
        check=True,
    )
    ours = [decide(Policy(rate=0.01), [span(trace_id)]).keep for trace_id in trace_ids]
    assert json.loads(done.stdout) == ours
    assert 60 < sum(ours) < 140


def test_what_a_lower_ratio_keeps_a_higher_one_keeps_too():
    generator = random.Random(8)
    trace_ids = [generator.getrandbits(128) for _ in range(2000)]
    kept_by_low = [one for one in trace_ids if by_ratio(one, bound_of(0.2)).keep]
    assert 300 < len(kept_by_low) < 500
    assert all(by_ratio(one, bound_of(0.6)).keep for one in kept_by_low)


def test_a_ratio_of_nothing_keeps_nothing_and_of_everything_everything():
    assert by_ratio(2**64, bound_of(0.0)) == OUT
    assert by_ratio(2**64 - 1, bound_of(1.0)) == KEEP


@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.1, 0.01, 1e-6])
def test_what_is_kept_stands_for_one_over_the_ratio(ratio):
    assert by_ratio(LOW, bound_of(ratio)).weight == pytest.approx(1 / ratio)


def test_the_weights_add_up_to_the_number_of_traces():
    generator = random.Random(3)
    kept = [by_ratio(generator.getrandbits(128), bound_of(0.25)) for _ in range(20_000)]
    assert sum(verdict.weight for verdict in kept if verdict.keep) == pytest.approx(20_000, rel=0.03)


# --- by how it went


def test_failed_and_slow_spans_are_urgent_unless_told_otherwise():
    failed = span()
    failed.error = True
    died = span()
    died.incomplete = "emitter_died"
    stopped = span()
    stopped.incomplete = "shutdown"
    assert [Policy().is_urgent(one) for one in (failed, died, stopped, span())] == [True, True, False, False]
    lenient = Policy(keep_errors=False)
    assert [lenient.is_urgent(one) for one in (failed, died)] == [False, False]
    strict = Policy(keep_slower_than_ns=5 * MILLISECOND)
    assert strict.is_urgent(span(duration_ns=5 * MILLISECOND + 1))
    assert not strict.is_urgent(span(duration_ns=5 * MILLISECOND))
    assert not Policy().is_urgent(span(duration_ns=10**15))


def test_settings_become_a_policy():
    settings = OtelSettings(
        sampling_rate=0.5,
        always_keep_slower_than_ms=2,
        sampling_rules=[{"name": "a", "rate": 1}],
        max_spans_per_second=7,
        sampling_wait=0.5,
        sampling_parent_based=True,
    )
    policy = policy_from(settings, None)
    assert policy == Policy(
        rate=0.5,
        keep_slower_than_ns=2 * MILLISECOND,
        rules=rules({"name": "a", "rate": 1}),
        spans_per_second=7,
        wait_ns=SECOND // 2,
        parent_based=True,
    )
    assert policy_from(OtelSettings(sampler="x"), None).awaits_sampler


@pytest.mark.parametrize(
    ("policy", "keeps_everything", "by_ratio_alone"),
    [
        (Policy(), True, False),
        (Policy(keep_errors=False), True, True),
        (Policy(rate=0.5), False, False),
        (Policy(rate=0.5, keep_errors=False), False, True),
        (Policy(rate=0.5, keep_errors=False, keep_slower_than_ns=1), False, False),
        (Policy(parent_based=True, keep_errors=False), False, False),
        (Policy(spans_per_second=5, keep_errors=False), False, False),
        (Policy(rules=rules({"name": "a", "rate": 1}), keep_errors=False), False, False),
        (Policy(awaits_sampler=True, keep_errors=False), False, False),
    ],
)
def test_a_policy_knows_when_there_is_nothing_to_wait_for(policy, keeps_everything, by_ratio_alone):
    assert (policy.keeps_everything, policy.by_ratio_alone) == (keeps_everything, by_ratio_alone)


# --- by the caller


def caller(sampled, trace_id=LOW):
    return TraceParent(trace_id, 7, int(sampled))


def test_the_callers_decision_is_followed_where_that_is_asked_for():
    refused, wanted = span(LOW, caller=caller(False)), span(HIGH, caller=caller(True, HIGH))
    policy = Policy(rate=0.5, parent_based=True)
    assert decide(policy, [refused]) == OUT
    assert decide(policy, [wanted]).keep
    assert decide(Policy(rate=0.5), [refused]).keep
    assert not decide(Policy(rate=0.5), [wanted]).keep


def test_without_a_caller_the_ratio_decides():
    policy = Policy(rate=0.5, parent_based=True)
    assert decide(policy, [span(LOW)]).keep
    assert not decide(policy, [span(HIGH)]).keep
    assert not decide(policy, [span(HIGH, caller=caller(True, LOW))]).keep, "the caller is of another trace"


def test_the_caller_counts_for_the_whole_trace_whichever_span_it_called():
    policy = Policy(rate=0.5, parent_based=True)
    assert decide(policy, [span(HIGH, span_id=2, parent=1), span(HIGH, caller=caller(True, HIGH))]).keep


def test_what_a_callers_trace_stands_for_is_known_only_if_it_says_so():
    policy = Policy(parent_based=True)
    told = span(HIGH, caller=caller(True, HIGH))
    told.tracestate = "ot=th:c"
    assert decide(policy, [told]) == Verdict(keep=True, weight=4.0)
    assert decide(policy, [span(HIGH, caller=caller(True, HIGH))]).weight is None


@pytest.mark.parametrize(
    ("tracestate", "count"),
    [
        ("ot=th:0", 1),
        ("ot=th:8", 2),
        ("ot=th:c", 4),
        ("ot=th:fd70a4", pytest.approx(100, rel=1e-5)),
        ("vendor=x, ot=rv:ffffffffffffff;th:8 ,other=y", 2),
        ("ot=p:8;th:e", 8),
        ("ot=rv:00000000000000;th:8", None),
        ("ot=th:", None),
        ("ot=th:xyz", None),
        ("ot=th:000000000000000", None),
        ("ot=th:-8", None),
        ("th:8", None),
        ("", None),
        ("=,;:", None),
        ("ot=th:8," + "x" * 10_000, None),
        (None, None),
        (b"ot=th:8", None),
    ],
)
def test_the_threshold_in_a_tracestate(tracestate, count):
    assert adjusted_count(tracestate, HIGH) == count


def test_a_threshold_that_contradicts_the_trace_id_is_not_believed():
    assert adjusted_count("ot=th:8", LOW) is None


# --- by rules


@pytest.mark.parametrize(
    ("given", "name", "attributes", "matches"),
    [
        ({"name": "health.*"}, "health.check", {}, True),
        ({"name": "health.*"}, "Health.check", {}, False),
        ({"name": "health.*"}, "shop.health.check", {}, False),
        ({"name": "*"}, "anything", {}, True),
        ({"attributes": {"tenant": "gold"}}, "a", {"tenant": "gold"}, True),
        ({"attributes": {"tenant": "gold"}}, "a", {"tenant": "silver"}, False),
        ({"attributes": {"tenant": "gold"}}, "a", {}, False),
        ({"attributes": {"tenant": ["gold", "plat*"]}}, "a", {"tenant": "platinum"}, True),
        ({"attributes": {"status": 500}}, "a", {"status": 500}, True),
        ({"attributes": {"status": 500}}, "a", {"status": "500"}, False),
        ({"attributes": {"cold": True}}, "a", {"cold": True}, True),
        ({"attributes": {"cold": True}}, "a", {"cold": 1}, False),
        ({"attributes": {"count": 1}}, "a", {"count": True}, False),
        ({"attributes": {"a": "1", "b": "2"}}, "a", {"a": "1"}, False),
        ({"name": "x*", "attributes": {"a": "1"}}, "a", {"a": "1"}, False),
    ],
)
def test_a_rule_matches_by_name_and_attributes(given, name, attributes, matches):
    (rule,) = rules({**given, "rate": 1})
    assert rule.matches(span(name=name, **attributes)) is matches


def test_attributes_that_cannot_be_compared_match_nothing():
    class Hostile:
        def __eq__(self, other):
            raise RuntimeError

        def __hash__(self):
            return hash("tenant")

        def __str__(self):
            raise RuntimeError

    (rule,) = rules({"attributes": {"tenant": "*"}, "rate": 1})
    for attributes in ({"tenant": Hostile()}, {Hostile(): "gold"}):
        odd = span()
        odd.attributes = attributes
        assert not rule.matches(odd)


def test_the_first_rule_that_matches_counts():
    given = rules({"name": "shop.*", "rate": 0.25}, {"name": "*", "rate": 1})
    assert ruling(given, [span(name="shop.a")]) == (0.25, True)
    assert ruling(given, [span(name="other")]) == (1.0, True)


def test_the_top_of_a_trace_decides_and_what_is_below_can_only_raise_the_rate():
    given = rules({"name": "health.*", "rate": 0}, {"attributes": {"tenant": "gold"}, "rate": 1})
    policy = Policy(rate=0.5, rules=given)
    assert decide(policy, [span(LOW, name="health.db", span_id=2, parent=1), span(LOW, name="order")]).keep
    assert not decide(
        policy, [span(LOW, name="db", span_id=2, parent=1), span(LOW, name="health.check")]
    ).keep
    gold = [span(HIGH, name="db", span_id=2, parent=1, tenant="gold"), span(HIGH, name="order")]
    assert decide(policy, gold) == KEEP


def test_the_caller_goes_before_the_rules_and_the_rules_before_the_ratio():
    given = rules({"name": "a", "rate": 1})
    assert decide(Policy(rate=0.0, rules=given), [span(HIGH)]) == KEEP
    policy = Policy(rate=0.0, rules=given, parent_based=True)
    assert decide(policy, [span(HIGH, caller=caller(False, HIGH))]) == OUT


# --- by an installed sampler


class Scripted:
    """A sampler as a package might bring it."""

    def __init__(self, result):
        self.result = result
        self.asked = []

    def should_sample(self, parent_context, trace_id, name, kind, attributes, links, trace_state):
        self.asked.append((parent_context, trace_id, name, kind, attributes, trace_state))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def asked_about(one, result):
    sampler = Scripted(result)
    verdict = InstalledSampler(sampler, "x").decide(one)
    (question,) = sampler.asked
    return verdict, question


def test_an_installed_sampler_is_told_what_there_is_to_know():
    one = span(HIGH, name="shop.order", caller=caller(False, HIGH), tenant=object, kind="server")
    one.tracestate = "v=1"
    verdict, (context, trace_id, name, kind, attributes, state) = asked_about(
        one, SamplingResult(Decision.DROP)
    )
    assert verdict == OUT
    assert (trace_id, name, kind) == (HIGH, "shop.order", api.SpanKind.SERVER)
    assert isinstance(attributes["tenant"], str)
    parent = api.get_current_span(context).get_span_context()
    assert (parent.trace_id, parent.span_id, parent.is_remote) == (HIGH, 7, True)
    assert not parent.trace_flags.sampled
    assert state["v"] == "1"


def test_an_installed_sampler_may_add_attributes_and_state_its_threshold():
    result = SamplingResult(Decision.RECORD_AND_SAMPLE, {"sampled.by": "x"}, api.TraceState([("ot", "th:8")]))
    one = span(HIGH, tenant="gold")
    verdict, _ = asked_about(one, result)
    assert verdict == Verdict(keep=True, weight=2.0)
    assert one.attributes == {"tenant": "gold", "sampled.by": "x"}
    assert asked_about(span(), SamplingResult(Decision.RECORD_AND_SAMPLE))[0].weight is None
    assert asked_about(span(), SamplingResult(Decision.RECORD_ONLY))[0] == OUT


def test_where_an_installed_sampler_fails_the_ratio_decides_and_it_is_said_once(caplog):
    policy = Policy(rate=0.5, sampler=InstalledSampler(Scripted(RuntimeError("no strategy yet")), "remote"))
    with caplog.at_level(logging.WARNING, "otpylib_telemetry"):
        assert decide(policy, [span(LOW)]).keep
        assert not decide(policy, [span(HIGH)]).keep
    (record,) = caplog.records
    assert "'remote' failed with RuntimeError: no strategy yet" in record.getMessage()


def test_a_rule_below_the_top_adds_to_what_an_installed_sampler_keeps():
    policy = Policy(
        sampler=InstalledSampler(Scripted(SamplingResult(Decision.DROP)), "x"),
        rules=rules({"name": "gold", "rate": 1}),
    )
    assert not decide(policy, [span(HIGH)]).keep
    trace = [span(HIGH, name="gold", span_id=2, parent=1), span(HIGH)]
    assert decide(policy, trace) == Verdict(keep=True, weight=None)


@pytest.mark.parametrize(
    ("name", "argument", "low", "high"),
    [
        ("always_on", None, True, True),
        ("always_off", None, False, False),
        ("traceidratio", "0.5", True, False),
        ("parentbased_traceidratio", "0.5", True, False),
        ("traceidratio", None, True, True),
    ],
)
def test_samplers_are_had_by_their_registered_names(name, argument, low, high):
    sampler = load(name, argument)
    assert [sampler.decide(span(LOW)).keep, sampler.decide(span(HIGH)).keep] == [low, high]


def registered(monkeypatch, factory):
    entry = SimpleNamespace(name="own", value="some.package:make", load=lambda: factory)
    monkeypatch.setattr(installed, "entry_points", lambda group: [entry])


def test_a_registered_sampler_is_made_with_its_argument(monkeypatch):
    given = []
    registered(
        monkeypatch, lambda argument: given.append(argument) or Scripted(SamplingResult(Decision.DROP))
    )
    assert load("own", "endpoint=http://x").decide(span()) == OUT
    load("own", None)
    assert given == ["endpoint=http://x", ""]


def test_a_sampler_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(
        BackendUnavailableError, match=r"no installed package registers .* named 'jaeger_remote'"
    ) as caught:
        load("jaeger_remote", None)
    assert "always_on, parentbased_always_off" in str(caught.value)
    assert "sampling_rate then decides" in str(caught.value)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (lambda argument: 1 / 0, "cannot be built with the argument '0.5': ZeroDivisionError"),
        (lambda argument: object(), "cannot be built .* AttributeError"),
        (lambda argument: SimpleNamespace(should_sample=1), "is no OpenTelemetry sampler"),
    ],
)
def test_a_sampler_that_cannot_be_made_says_why(monkeypatch, factory, said):
    registered(monkeypatch, factory)
    with pytest.raises(BackendUnavailableError, match=said):
        load("own", "0.5")


def test_a_ratio_that_is_none_says_so():
    with pytest.raises(
        BackendUnavailableError, match=r"'traceidratio' .* cannot be built with the argument 'half'"
    ):
        load("traceidratio", "half")


# --- within a budget


def test_without_a_limit_everything_is_admitted():
    budget = SpanBudget()
    assert all(budget.admit(10**9, 0, urgent=False) for _ in range(3))


def test_a_budget_admits_so_many_spans_per_second_in_the_long_run():
    budget = SpanBudget(100)
    admitted = sum(4 for number in range(10_000) if budget.admit(4, number * 10 * MILLISECOND, urgent=False))
    assert 100 * 100 - 100 <= admitted <= 100 * 100 + 104


def test_a_trace_larger_than_the_budget_is_admitted_and_paid_for_afterwards():
    budget = SpanBudget(10)
    assert budget.admit(100, 0, urgent=False)
    assert not budget.admit(1, 9 * SECOND, urgent=True)
    assert budget.admit(1, 10 * SECOND, urgent=True)


def test_part_of_the_budget_is_kept_for_what_is_urgent():
    budget = SpanBudget(10)
    assert [budget.admit(1, 0, urgent=False) for _ in range(10)] == [True] * 5 + [False] * 5
    assert [budget.admit(1, 0, urgent=True) for _ in range(10)] == [True] * 5 + [False] * 5
    assert not budget.admit(1, SECOND // 4, urgent=False), "what comes in first serves what is urgent"
    assert budget.admit(1, SECOND // 4, urgent=True)


def test_what_follows_an_admitted_trace_is_paid_for():
    budget = SpanBudget(10)
    budget.spend(20, 0)
    assert not budget.admit(1, SECOND, urgent=True)
    assert budget.admit(1, 2 * SECOND, urgent=True)


def test_less_than_one_span_per_second_is_possible():
    budget = SpanBudget(0.1)
    assert sum(budget.admit(1, second * SECOND, urgent=False) for second in range(100)) in {10, 11}


def test_a_clock_that_seems_to_stand_or_go_back_gives_nothing():
    budget = SpanBudget(2)
    assert budget.admit(2, 10 * SECOND, urgent=True)
    assert not budget.admit(1, 9 * SECOND, urgent=True)
    assert not budget.admit(1, 10 * SECOND, urgent=True)
    assert budget.admit(1, 11 * SECOND, urgent=True)


def test_a_new_limit_counts_at_once():
    budget = SpanBudget(1)
    assert budget.admit(1, 0, urgent=True)
    budget.per_second = 1000
    assert budget.admit(1, 1 * MILLISECOND, urgent=True)
    budget.per_second = None
    assert budget.admit(10**9, 1 * MILLISECOND, urgent=False)
