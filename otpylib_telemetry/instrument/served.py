"""One incoming request: an operation in its sender's trace, outside of any process."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry import otp
from otpylib_telemetry.bus import context, log
from otpylib_telemetry.bus.dispatch import is_listened_to
from otpylib_telemetry.instrument import http
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.exceptions import class_name
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.tracing import bridge as bridge_module
from otpylib_telemetry.tracing import propagators
from otpylib_telemetry.tracing.places import arrival, enter, place_here, stand_for
from otpylib_telemetry.tracing.span import operation_of, span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import Token

    from otpylib_telemetry.tracing.operation import Place
    from otpylib_telemetry.tracing.span import Span

_said: Final = Once(20)

#: What is missing where a function of the application fails.
EXCLUSION: Final = "regard to exclude"
ROUTE: Final = "its route, which the function given as route was to return"

#: An event of the operation, to ask whether anybody listens to it.
_END: Final = f"{http.SERVED}.success"

#: The request that is served here, for frameworks that answer an exception before we see it.
_here: ContextVar[Served | None] = ContextVar("otpylib_telemetry_request", default=None)


def guarded(what: Callable[..., Any], *arguments: Any, part: str = "a part of it") -> Any:
    """Return what comes of a look at a request; whatever goes wrong in it never reaches the application.

    ``part`` says what is missing then.
    """
    try:
        return what(*arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a framework's objects, or the application's own function
        if _said.is_news((getattr(what, "__qualname__", ""), type(error))):
            log.warning(
                "A request is told of without %s (%s). Further failures of this kind are not reported.",
                part,
                describe(error),
            )
        return None


class Served:
    """One request on its way through the application.

    Where nobody listens, it still runs outside of any process and in its sender's trace.

    Args:
        carrier: Its headers.
        attributes: Gives what is known of it at the beginning; asked only if somebody listens.
        told: Whether it is told of at all.
    """

    def __init__(self, carrier: Any, attributes: Callable[[], dict[str, Any]], *, told: bool = True) -> None:
        self._carrier = carrier
        self._attributes = attributes
        self._use: Span | None = span(http.SERVED, self._begun) if told else None
        self._token: Token[Any] | None = None
        self._request: Token[Served | None] | None = None
        self._place: Place | None = None
        self._is_within = False
        self._began = 0.0
        self._status: int | None = None
        self._failure: BaseException | None = None
        self._fault: str | None = None
        self._seen: dict[str, Any] = {}
        #: Whether its end was told.
        self.finished = False
        #: Whether the client went away before it had all of the response.
        self.disconnected = False

    @property
    def listened_to(self) -> bool:
        """Whether somebody hears of it."""
        return self._use is not None and operation_of(self._use) is not None

    def begin(self) -> None:
        """Enter its sender's trace, leave whatever process this is, and begin the operation."""
        self._open()
        if self._use is not None:
            self._use.__enter__()
            self._begin()

    async def begin_async(self) -> None:
        """Do the same where handlers can be awaited."""
        self._open()
        if self._use is not None:
            await self._use.__aenter__()
            self._begin()

    def respond(self, status: Any, route: str | None = None) -> None:
        """Note what it was answered with, and which template its path has matched."""
        if type(status) is int:
            self._status = status
        if route is not None:
            self._seen[http.ROUTE] = route

    def note(self, error: BaseException) -> None:
        """Note an exception that the framework answers."""
        self._failure = error

    def fault(self, kind: str) -> None:
        """Note that it went wrong, though no exception and no status says so."""
        self._fault = kind

    @property
    def is_failure(self) -> bool:
        """Whether, as far as is known, it ends in an error."""
        return self._failure is not None or (self._status or 0) >= http.SERVER_ERROR

    def settle_duration(self) -> None:
        """Have it last no longer than until now, whenever its end is told."""
        if self._use is not None:
            self._use.measure(duration_ms=(monotonic() - self._began) * 1000)

    def finish(self, error: BaseException | None = None) -> None:
        """Tell of its end."""
        if not self.finished and self._use is not None:
            error = self._conclude(self._use, error)
            self._use.__exit__(*_raised(error))

    async def finish_async(self, error: BaseException | None = None) -> None:
        """Do the same where handlers can be awaited."""
        if not self.finished and self._use is not None:
            error = self._conclude(self._use, error)
            await self._use.__aexit__(*_raised(error))

    def close(self) -> None:
        """Leave the trace and go back to the process, in the context in which it began."""
        if self._request is not None:
            _here.reset(self._request)
        if self._place is not None:
            context.leave(self._place)
        otp.step_back(self._token)

    def _open(self) -> None:
        self._token = otp.step_outside()
        self._is_within = bridge_module.installed is not None and guarded(_is_served_already) is True
        if self._is_within:
            # That has read the headers.
            return
        inherited = context.is_inherited()
        here = None if inherited else place_here()
        found = propagators.in_force().extract(self._carrier)
        if found or inherited or (here is None and is_listened_to(_END)):
            # What whoever started the server was inside of has nothing to do with its requests.
            self._place = arrival(found, here)
            enter(self._place)

    def _begin(self) -> None:
        if self._use is not None and (operation := operation_of(self._use)) is not None:
            self._began = monotonic()
            self._request = _here.set(self)
            _hear_of_exceptions()
            if self._place is not None:
                stand_for(self._place, operation)

    def _begun(self) -> dict[str, Any]:
        kind = "internal" if self._is_within else "server"
        attributes = {"span.kind": kind, **(guarded(self._known_at_first) or {})}
        return {"span.name": _name(attributes), **attributes}

    def _known_at_first(self) -> dict[str, Any]:
        return http.bounded(self._attributes())

    def _conclude(self, use: Span, error: BaseException | None) -> BaseException | None:
        """Put on the operation what it came to; return the exception with which it ends."""
        self.finished = True
        if self._status is not None:
            self._seen[http.STATUS] = self._status
        if self.disconnected:
            self._seen[http.DISCONNECTED] = True
        if error is None and self._failure is not None and self.is_failure:
            error = self._failure
        if error is not None:
            self._seen[http.ERROR_TYPE] = class_name(type(error))
        elif self._fault is not None:
            self._seen[http.ERROR_TYPE] = self._fault
            use.fail(self._fault)
        elif (self._status or 0) >= http.SERVER_ERROR:
            self._seen[http.ERROR_TYPE] = str(self._status)
            # The conventions want no description of what the status says already.
            use.fail("")
        for key, value in self._seen.items():
            use.set_attribute(key, value)
        if (operation := operation_of(use)) is not None:
            metadata = operation.metadata if operation.final is None else operation.final
            if metadata.get("span.name") == operation.metadata.get("span.name"):
                # Unless the application calls it something else.
                use.set_attribute("span.name", _name(metadata))
        return error


def _name(attributes: Mapping[str, Any]) -> str:
    return http.span_name(attributes.get(http.METHOD, "HTTP"), attributes.get(http.ROUTE))


def _raised(error: BaseException | None) -> tuple[Any, Any, Any]:
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)


def _is_served_already() -> bool:
    """Tell whether an instrumentation of OpenTelemetry tells of the request that is served here."""
    trace = sys.modules.get("opentelemetry.trace")
    around = None if trace is None else trace.get_current_span()
    kind = getattr(around, "kind", None)
    return getattr(kind, "name", None) == "SERVER" and bool(around.is_recording())  # type: ignore[union-attr]


#: The modules in which frameworks tell, by a signal, of exceptions that they answer.
_SIGNALLING: Final = ("flask", "django.core.signals")
_heard: Final = Once()


def _hear_of_exceptions() -> None:
    for module in _SIGNALLING:
        if module in sys.modules and _heard.is_news(module):
            guarded(lambda name: sys.modules[name].got_request_exception.connect(_note_exception), module)


def _note_exception(*_sender: Any, **_said: Any) -> None:
    request, error = _here.get(), sys.exc_info()[1]
    if request is not None and error is not None:
        request.note(error)
