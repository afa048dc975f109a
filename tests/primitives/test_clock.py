"""The difference between wall clock and monotonic clock."""

from otpylib_telemetry.primitives.clock import TOLERANCE_NS, WallClock


class Clocks:
    def __init__(self):
        self.wall = 10**18
        self.monotonic = 5_000

    def advance(self, monotonic_ns, wall_ns):
        self.monotonic += monotonic_ns
        self.wall += wall_ns

    def make(self):
        return WallClock(lambda: self.wall, lambda: self.monotonic)


def test_the_offset_leads_from_the_monotonic_to_the_wall_clock():
    clocks = Clocks()
    assert clocks.make().offset_ns() == 10**18 - 5_000


def test_jitter_between_two_readings_does_not_move_it():
    clocks = Clocks()
    clock = clocks.make()
    first = clock.offset_ns()
    clocks.advance(1_000_000, 1_000_000 + TOLERANCE_NS)
    assert clock.offset_ns() == first


def test_a_wall_clock_that_is_set_moves_it():
    clocks = Clocks()
    clock = clocks.make()
    first = clock.offset_ns()
    clocks.advance(1_000_000, 1_000_000 - 3_600 * 10**9)
    assert clock.offset_ns() == first - 3_600 * 10**9


def test_losing_the_processor_between_two_readings_does_not_move_it():
    clocks = Clocks()
    lost = [0]

    def wall():
        clocks.advance(lost[0], lost[0])
        return clocks.wall

    clock = WallClock(wall, lambda: clocks.monotonic)
    first = clock.offset_ns()
    for lost[0] in (100 * TOLERANCE_NS, 7 * TOLERANCE_NS):
        assert clock.offset_ns() == first
    lost[0] = 0
    assert clock.offset_ns() == first


def test_the_first_offset_is_the_surest_of_several():
    clocks = Clocks()
    lost = iter([50_000_000, 40_000_000, 0, 30_000_000, 20_000_000])

    def wall():
        clocks.advance(gone := next(lost, 0), gone)
        return clocks.wall

    assert WallClock(wall, lambda: clocks.monotonic).offset_ns() == 10**18 - 5_000
