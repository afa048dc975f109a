"""Every form in which a span can be used, and a handler that remembers its events."""

import pytest

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
IDS = ("trace_id", "span_id", "parent_span_id", "correlation_id")


class Events(list):
    def __call__(self, name, measurements, metadata):
        self.append((name, dict(measurements), dict(metadata)))

    @property
    def names(self):
        return [name for name, _, _ in self]

    def metadata(self, name):
        (found,) = [metadata for each, _, metadata in self if each == name]
        return found


class Sync:
    """Runs a body inside a span, as a plain context manager."""

    async def __call__(self, a_span, body):
        with a_span as entered:
            return body(entered)


class Async:
    async def __call__(self, a_span, body):
        async with a_span as entered:
            return body(entered)


class DecoratedSync:
    async def __call__(self, a_span, body):
        return a_span(lambda: body(a_span))()


class DecoratedAsync:
    async def __call__(self, a_span, body):
        async def work():
            return body(a_span)

        return await a_span(work)()


every_form = pytest.mark.parametrize(
    "run", [Sync(), Async(), DecoratedSync(), DecoratedAsync()], ids=lambda f: type(f).__name__
)
every_block = pytest.mark.parametrize("run", [Sync(), Async()], ids=lambda f: type(f).__name__)
