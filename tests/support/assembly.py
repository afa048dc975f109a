"""An assembler that is fed with events at times of the test's own."""

import itertools

from otpylib_telemetry_otel.traces.assembly import Assembler

MILLISECOND = 1_000_000
SECOND = 1_000_000_000
WALL = 1_700_000_000 * SECOND
TRACE = 0x0AF7651916CD43DD8448EB211C80319C
CALLER = 0xB7AD6B7169203331


class Trace:
    """An assembler with ids 1, 2, 3 ... and a clock that stands still unless told otherwise."""

    def __init__(self, limit=1000, ttl_ns=300 * SECOND):
        self.assembler = Assembler(
            limit, ttl_ns, trace_ids=itertools.count(1001).__next__, span_ids=itertools.count(1).__next__
        )
        self.now_ns = 0
        self.wall_offset_ns = WALL
        self.spans = []
        self.accepted = self.unused = self.rejected = self.repeated = self.surplus = self.balanced = 0

    def emit(self, name, measurements=None, metadata=None, *, after_ms=0, emitter="p", **more):
        self.now_ns += int(after_ms * MILLISECOND)
        event = (name, measurements or {}, {**(metadata or {}), **more}, self.now_ns, emitter)
        return self.take([event])

    def take(self, events):
        result = self.assembler.collect(events, self.wall_offset_ns)
        self.accepted += len(events)
        self.unused += result.unused
        self.rejected += result.rejected
        self.repeated += result.repeated
        self.surplus += result.surplus
        self.spans += result.spans
        self.balance()
        return result.spans

    def tick(self, after_ms=0, alive=lambda emitter: True):
        self.now_ns += int(after_ms * MILLISECOND)
        ended = self.assembler.tick(self.now_ns, alive)
        self.spans += ended
        self.balance()
        return ended

    def end_open(self):
        ended = self.assembler.end_open()
        self.spans += ended
        self.balance()
        return ended

    def balance(self):
        self.balanced += 1
        if len(self.spans) > 500 and self.balanced % 100:
            # To add up so many each time would cost the square of their number.
            return
        handled = sum(span.weight for span in self.spans) + self.unused + self.surplus + self.rejected
        assert self.accepted == handled + self.assembler.held

    def one(self):
        assert len(self.spans) == 1
        self.spans[0].seal()
        return self.spans[0]

    def named(self, name):
        (found,) = [span for span in self.spans if span.name == name]
        return found
