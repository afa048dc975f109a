"""Operations of ``span()``, as OpenTelemetry sees them: the current span in the block, and one that ended.

Imports OpenTelemetry's API: to be imported only where it is wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import Span, Status, StatusCode

from otpylib_telemetry.primitives.any_value import INT64_MAX
from otpylib_telemetry.primitives.clock import wall_clock
from otpylib_telemetry.tracing import parts
from otpylib_telemetry.tracing.operation import Operation
from otpylib_telemetry.tracing.propagators import as_theirs
from otpylib_telemetry_otel.traces.recorded import finished

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import SpanContext
    from opentelemetry.util.types import Attributes

    from otpylib_telemetry.tracing.operation import Place
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


def _no_operation() -> Operation:
    made = Operation()
    made.name, made.metadata, made.ended = "", {}, True
    return made


#: What a place elsewhere has in place of an operation: one that has ended takes nothing.
_NO_OPERATION: Final = _no_operation()


class OwnSpan(Span):
    """A span of ours: what is written to it is put on the operation, as long as that is open.

    A place elsewhere, in which the running code continues a trace, is a parent and takes nothing.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._operation = place if isinstance(place, Operation) else _NO_OPERATION
        self._context: SpanContext | None = None

    @property
    def name(self) -> str:
        """What the span is called."""
        return str(self.attributes.get("span.name", self._operation.name))

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The metadata of the operation, as far as it is known."""
        operation = self._operation
        return {**(operation.metadata if operation.final is None else operation.final)}

    def get_span_context(self) -> SpanContext:
        """Return its identity."""
        if self._context is None:
            self._context = as_theirs(self._place.context)
        return self._context

    def is_recording(self) -> bool:
        """Tell whether it takes what is written to it."""
        return not self._operation.ended

    def set_attribute(self, key: str, value: Any) -> None:
        """Set one attribute."""
        parts.set_attribute(self._operation, key, value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set several attributes."""
        parts.set_attributes(self._operation, attributes)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Add an event, now or at a time in nanoseconds since the epoch."""
        parts.add_event(self._operation, name, attributes, _monotonic(self._operation, timestamp))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Add a link, if it leads anywhere."""
        parts.add_link(self._operation, context, attributes)

    def update_name(self, name: str) -> None:
        """Call the span something else; the events of the operation keep their names."""
        parts.set_attribute(self._operation, "span.name", name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Say how it ends, as the SDK takes it: what is OK stays so, and nothing makes it unset again."""
        operation = self._operation
        if operation.is_ok:
            return
        code = status
        if isinstance(status, Status):
            code, description = status.status_code, status.description
        if code is StatusCode.OK:
            parts.succeed(operation)
        elif code is StatusCode.ERROR:
            parts.fail(operation, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002 - the interface's own
    ) -> None:
        """Add the event of an exception."""
        at_ns = _monotonic(self._operation, timestamp)
        told = {"exception.escaped": str(bool(escaped))}
        parts.record_exception(self._operation, exception, attributes, at_ns, told)

    def end(self, end_time: int | None = None) -> None:
        """Do nothing: the block in which it is the current span ends it."""


def _monotonic(operation: Operation, wall_ns: Any) -> int | None:
    """Return a time in nanoseconds since the epoch on the monotonic clock, by which the operation goes."""
    if type(wall_ns) is not int or operation.ended:
        return None
    trace = operation.trace
    if trace.wall_offset_ns is None:
        trace.wall_offset_ns = wall_clock.offset_ns()
    return min(max(wall_ns, 0), INT64_MAX) - trace.wall_offset_ns


def finished_span(operation: Operation) -> FinishedSpan:
    """Return the span of an operation that has just ended, ready to be handed out.

    Events that were emitted during it are not on it yet: exporters find them in the log of events.
    """
    offset_ns = wall_clock.offset_ns()
    if operation.trace.wall_offset_ns is None:
        operation.trace.wall_offset_ns = offset_ns
    span = finished(operation, None, offset_ns)
    span.seal()
    return span
