"""The tracers and spans of OpenTelemetry's SDK, of which nothing is raised into the application.

The SDK makes attributes exportable where they are given: a structure that contains itself, or an object that
raises at whatever it is asked, fails there. What fails is done once more with what can be used of it; see
:mod:`~otpylib_telemetry.primitives.any_value`. What the SDK takes stays as it has it.

Imports OpenTelemetry's SDK: to be imported only where it is wanted.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util._decorator import _agnosticcontextmanager

from otpylib_telemetry.primitives.any_value import any_value, any_values, text
from otpylib_telemetry.primitives.exceptions import failure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


#: Links that are looked at, of those the SDK could not take.
_MAX_LINKS: Final = 1024


def guarded(tracer: trace.Tracer) -> trace.Tracer:
    """Return a tracer of the SDK, of which nothing is raised from now on; anything else as it is."""
    if type(tracer) is sdk.Tracer:
        # The SDK has no way to be told of another class, and keeps its tracers by their scopes.
        tracer.__class__ = _Tracer
    return tracer


class _Tracer(sdk.Tracer):
    """Begins spans whatever they are begun with."""

    def start_span(  # noqa: PLR0913, PLR0917 - the interface's own
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Any = None,
        links: Any = (),
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002 - as above
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002 - as above
    ) -> trace.Span:
        """Begin a span."""
        how = (start_time, record_exception, set_status_on_exception)
        try:
            made = super().start_span(name, context, kind, attributes, links, *how)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - what it is given may do anything
            around = context if issubclass(type(context), Context) else None
            fit = any_values(attributes)[0]
            made = super().start_span(text(name, None), around, kind, fit, _usable(links), *how)
        if isinstance(made, sdk.Span):
            made.__class__ = _Span
        return made

    @_agnosticcontextmanager
    def start_as_current_span(  # noqa: PLR0913, PLR0917 - as above
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Any = None,
        links: Any = (),
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002 - as above
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002 - as above
        end_on_exit: bool = True,  # noqa: FBT001, FBT002 - as above
    ) -> Iterator[trace.Span]:
        """Begin a span that is the current one in the block."""
        how = (start_time, record_exception, set_status_on_exception)
        made = self.start_span(name, context, kind, attributes, links, *how)
        # What the API does there, it does with the text of an exception, which may raise another.
        with trace.use_span(made, end_on_exit, record_exception=False, set_status_on_exception=False):
            try:
                yield made
            except Exception as error:
                if made.is_recording():
                    if record_exception:
                        made.record_exception(error)
                    if set_status_on_exception:
                        made.set_status(_failed(error))
                raise


class _Span(sdk.Span):
    """Takes whatever it is given."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Set one attribute."""
        try:
            super().set_attribute(key, value)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - what it is given may do anything
            super().set_attribute(text(key, None), any_value(value))

    def set_attributes(self, attributes: Any) -> None:
        """Set several attributes."""
        try:
            super().set_attributes(attributes)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - as above
            super().set_attributes(any_values(attributes)[0])

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """Add an event."""
        try:
            super().add_event(name, attributes, timestamp)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - as above
            super().add_event(text(name, None), any_values(attributes)[0], timestamp)

    def add_link(self, context: SpanContext, attributes: Any = None) -> None:
        """Add a link, if it leads anywhere."""
        try:
            super().add_link(context, attributes)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - as above
            for link in _usable([Link(context, attributes)]):
                super().add_link(link.context, link.attributes)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Any = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002 - the interface's own
    ) -> None:
        """Add the event of an exception."""
        try:
            super().record_exception(exception, attributes, timestamp, escaped)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - as above
            told = {**failure(exception, None), "exception.message": text(exception)}
            told["exception.escaped"] = str(escaped is True)
            super().add_event("exception", {**told, **any_values(attributes)[0]}, timestamp)

    def set_status(self, status: Any, description: Any = None) -> None:
        """Set the status."""
        try:
            super().set_status(status, description)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - as above
            if type(status) is StatusCode:
                super().set_status(status, text(description))
            elif issubclass(type(status), Status):
                super().set_status(status)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        """End the span."""
        try:
            super().__exit__(kind, error, stack)
        except KeyboardInterrupt:
            raise
        except BaseException:  # an exception that cannot be written down, unless a processor has raised it
            if error is None or not self.is_recording():
                raise
            self.set_status(_failed(error))
            self.end()


def _failed(error: BaseException) -> Status:
    """Return the status that an exception gives a span, in the API's words."""
    return Status(StatusCode.ERROR, f"{type(error).__name__}: {text(error, None)}")


def _usable(links: Any) -> list[Link]:
    """Return those of what was given as links that lead anywhere."""
    found: list[Link] = []
    try:
        for link in islice(links, _MAX_LINKS):
            context = link.context
            if issubclass(type(context), SpanContext) and context.is_valid:
                given = link.attributes
                found.append(Link(context, None if given is None else any_values(given)[0]))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - what is no link at all; those before it are
        return found
    return found
