"""The difference between wall clock and monotonic clock."""

from otpylib_telemetry.clock import TOLERANCE_NS, WallClock


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
