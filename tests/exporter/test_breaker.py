"""ExporterCircuitBreaker, as the contract has it."""

import asyncio

import pytest

from otpylib_telemetry import ExporterCircuitBreaker, attach


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def transitions():
    """Every transition that was emitted: (event, failure_count, metadata)."""
    seen = []
    await attach(
        "transitions", "telemetry.breaker.*", lambda name, m, d: seen.append((name, m["failure_count"], d))
    )
    return seen


@pytest.fixture
def breaker(clock):
    return ExporterCircuitBreaker(2, 10, name="otel_exporter", clock=clock)


class Backend:
    """Called with anything; raises ``error`` if there is one, waits for ``gate`` if there is one."""

    def __init__(self, error=None):
        self.error = error
        self.gate = None
        self.calls = []

    async def __call__(self, /, *args, **kwargs):
        self.calls.append((args, kwargs))
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return "result"


async def open_it(breaker):
    for _ in range(2):
        with pytest.raises(OSError, match="refused"):
            await breaker.call(Backend(OSError("refused")))
    assert breaker.state == "open"


async def test_its_defaults_are_those_of_the_contract():
    breaker = ExporterCircuitBreaker()
    for count in range(1, 6):
        assert (breaker.state, breaker.failure_count) == ("closed", count - 1)
        with pytest.raises(OSError, match="refused"):
            await breaker.call(Backend(OSError("refused")))
    assert (breaker.state, breaker.failure_count) == ("open", 5)
    assert 59 < breaker.remaining_rest <= 60
    assert ExporterCircuitBreaker(failure_threshold=1, reset_timeout=2).state == "closed"


async def test_a_call_gives_the_result_and_passes_every_argument(breaker):
    backend = Backend()
    assert await breaker.call(backend, 1, "two", func=3, self=4, name=5) == "result"
    assert backend.calls == [((1, "two"), {"func": 3, "self": 4, "name": 5})]


async def test_a_plain_function_can_be_called_too(breaker):
    assert await breaker.call(lambda x: x + 1, 1) == 2


async def test_a_call_raises_what_the_function_raised(breaker):
    error = OSError("refused")
    with pytest.raises(OSError, match="refused") as caught:
        await breaker.call(Backend(error))
    assert caught.value is error


async def test_while_open_the_answer_is_none_and_nothing_is_called(breaker, clock):
    await open_it(breaker)
    backend = Backend()
    clock.now = 9.9
    assert await breaker.call(backend) is None
    assert backend.calls == []
    assert breaker.failure_count == 2


async def test_a_success_closes_it_and_clears_the_count(breaker, clock):
    await open_it(breaker)
    clock.now = 10
    assert await breaker.call(Backend()) == "result"
    assert (breaker.state, breaker.failure_count) == ("closed", 0)


async def test_a_success_in_between_clears_the_count(breaker):
    for _ in range(3):
        with pytest.raises(OSError, match="refused"):
            await breaker.call(Backend(OSError("refused")))
        await breaker.call(Backend())
    assert (breaker.state, breaker.failure_count) == ("closed", 0)


async def test_half_open_admits_one_probe_at_a_time_however_many_call(breaker, clock):
    await open_it(breaker)
    clock.now = 10
    backend = Backend()
    backend.gate = asyncio.Event()
    calls = [asyncio.create_task(breaker.call(backend)) for _ in range(10)]
    await asyncio.sleep(0.01)
    assert breaker.state == "half_open"
    assert len(backend.calls) == 1
    backend.gate.set()
    assert sorted(map(str, await asyncio.gather(*calls))) == ["None"] * 9 + ["result"]
    assert breaker.state == "closed"


@pytest.mark.parametrize("threshold", [1, 2])
async def test_a_cancelled_call_is_neither_success_nor_failure(clock, threshold):
    breaker = ExporterCircuitBreaker(threshold, 10, clock=clock)
    backend = Backend()
    backend.gate = asyncio.Event()
    task = asyncio.create_task(breaker.call(backend))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (breaker.state, breaker.failure_count) == ("closed", 0)


async def test_a_cancelled_probe_gives_its_place_to_the_next(breaker, clock):
    await open_it(breaker)
    clock.now = 10
    backend = Backend()
    backend.gate = asyncio.Event()
    task = asyncio.create_task(breaker.call(backend))
    await asyncio.sleep(0)
    assert await breaker.call(Backend()) is None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert breaker.state == "half_open"
    assert await breaker.call(Backend()) == "result"


async def test_calls_from_before_it_opened_decide_nothing_for_the_probe(breaker, clock):
    late, cancelled = Backend(OSError("late")), Backend()
    late.gate, cancelled.gate = asyncio.Event(), asyncio.Event()
    late_call, cancelled_call = (asyncio.create_task(breaker.call(b)) for b in (late, cancelled))
    await asyncio.sleep(0)
    await open_it(breaker)
    clock.now = 10
    probe = Backend()
    probe.gate = asyncio.Event()
    probing = asyncio.create_task(breaker.call(probe))
    await asyncio.sleep(0)

    late.gate.set()
    with pytest.raises(OSError, match="late"):
        await late_call
    cancelled_call.cancel()
    await asyncio.wait([cancelled_call])
    assert breaker.state == "half_open"
    assert await breaker.call(Backend()) is None

    probe.gate.set()
    assert await probing == "result"
    assert breaker.state == "closed"


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()]
)
async def test_what_ends_more_than_the_call_says_nothing_about_the_backend(breaker, error):
    with pytest.raises(type(error)):
        breaker.call(Backend(error)).send(None)
    assert (breaker.state, breaker.failure_count) == ("closed", 0)


async def test_every_transition_is_emitted(breaker, clock, transitions):
    await open_it(breaker)
    clock.now = 10
    with pytest.raises(OSError, match="refused"):
        await breaker.call(Backend(OSError("refused")))
    clock.now = 20
    await breaker.call(Backend())
    await breaker.call(Backend())

    assert [
        (name.removeprefix("telemetry.breaker."), count, d["from"]) for name, count, d in transitions
    ] == [
        ("opened", 2, "closed"),
        ("half_open", 2, "open"),
        ("opened", 3, "half_open"),
        ("half_open", 3, "open"),
        ("closed", 0, "half_open"),
    ]
    assert {d["breaker"] for _, _, d in transitions} == {"otel_exporter"}


async def test_a_listener_that_fails_does_not_harm_the_call(breaker):
    def bad(*_event):
        raise ValueError

    await attach("bad", "*", bad)
    await open_it(breaker)
    assert await breaker.call(Backend()) is None


async def test_who_calls_by_himself_asks_and_answers(breaker, clock, transitions):
    assert breaker.admit() is True
    breaker.failed()
    breaker.failed()
    assert breaker.admit() is False
    clock.now = 10
    assert breaker.admit() is True
    assert breaker.admit() is False
    breaker.released()
    assert breaker.admit() is True
    breaker.succeeded()
    assert [name for name, _, _ in transitions] == [
        "telemetry.breaker.opened",
        "telemetry.breaker.half_open",
        "telemetry.breaker.closed",
    ]


async def test_a_call_that_was_let_through_before_it_opened_does_not_close_it(breaker, clock, transitions):
    late = breaker.permit()
    await open_it(breaker)
    opened = (breaker.failure_count, breaker.last_failure_time, breaker.remaining_rest)
    breaker.succeeded(late)
    breaker.succeeded()
    breaker.failed(late)
    assert breaker.state == "open"
    assert (breaker.failure_count, breaker.last_failure_time, breaker.remaining_rest) == opened
    assert [name for name, _, _ in transitions] == ["telemetry.breaker.opened"]


async def test_overlapping_calls_that_end_late_change_nothing(breaker, clock):
    gates = [asyncio.get_running_loop().create_future() for _ in range(2)]

    async def wait(gate):
        return await gate

    slow = [asyncio.ensure_future(breaker.call(wait, gate)) for gate in gates]
    await asyncio.sleep(0)
    await open_it(breaker)
    gates[0].set_result("well")
    gates[1].set_exception(OSError("late"))
    assert await slow[0] == "well"
    with pytest.raises(OSError, match="late"):
        await slow[1]
    assert (breaker.state, breaker.remaining_rest) == ("open", breaker.reset_timeout)


async def test_another_backend_starts_with_a_clean_record(breaker, transitions):
    await open_it(breaker)
    breaker.reset()
    assert (breaker.state, breaker.failure_count) == ("closed", 0)
    breaker.reset()
    assert [name for name, _, _ in transitions] == ["telemetry.breaker.opened", "telemetry.breaker.closed"]


async def test_its_limits_can_be_changed_while_it_is_open(breaker, clock):
    await open_it(breaker)
    breaker.adjust(5, 1.0)
    assert breaker.remaining_rest == 1.0
    with pytest.raises(ValueError, match="failure_threshold is 0"):
        breaker.adjust(0, 1.0)


async def test_it_tells_its_limits_and_when_a_call_failed_last(breaker, clock):
    assert (breaker.failure_threshold, breaker.reset_timeout, breaker.last_failure_time) == (2, 10, None)
    clock.now = 7.0
    with pytest.raises(OSError, match="refused"):
        await breaker.call(Backend(OSError("refused")))
    clock.now = 8.0
    await breaker.call(Backend())
    assert breaker.last_failure_time == 7.0
    breaker.adjust(3, 20)
    assert (breaker.failure_threshold, breaker.reset_timeout) == (3, 20)
