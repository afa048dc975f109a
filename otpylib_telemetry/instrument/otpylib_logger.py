"""What otpylib itself says, as telemetry events.

otpylib sends all of it to the process that is registered as the atom ``logger``, and to nobody where there
is none: three messages for each call, with the payload. A process of ours bears the name, but nothing gets
into its mailbox: the event is emitted where the message is sent. So it has the ids of the sender's span, and
what is below the level costs one comparison.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field, field_validator

from otpylib_telemetry import otp
from otpylib_telemetry.bus.dispatch import is_listened_to
from otpylib_telemetry.config.redaction import without_secrets
from otpylib_telemetry.config.refusals import RefusedError
from otpylib_telemetry.config.settings import SectionSettings
from otpylib_telemetry.instrument import log_events
from otpylib_telemetry.instrument.log_events import LOG_EVENT, severity_number
from otpylib_telemetry.primitives.any_value import any_value, text
from otpylib_telemetry.primitives.fork import importing
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.services.server import service_module
from otpylib_telemetry.services.service import Service

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

_log = logging.getLogger("otpylib_telemetry")

#: The levels, as logging has them; otpylib uses DEBUG, INFO and ERROR.
LEVELS: Final = {
    "TRACE": 5,
    "DEBUG": 10,
    "INFO": 20,
    "WARN": 30,
    "WARNING": 30,
    "ERROR": 40,
    "CRITICAL": 50,
    "FATAL": 50,
}

#: Who says it.
_SCOPE: Final = "otpylib"

#: Under this key otpylib hands over what one process sends another, and so it begins in the text.
_PAYLOAD: Final = "payload"
_IN_TEXT: Final = ", payload="

#: Keys that tell which processes it is about.
_ABOUT: Final = ("pid", "name", "target")

#: Seconds between two looks at who bears the name.
_LOOK: Final = 1.0

_TAKEN: Final = (
    "A process of the application (%s) is registered as logger: it hears what otpylib says, and telemetry "
    "does not. telemetry.otpylib_logger.chain = true has both hear it."
)


class OtpylibLoggerSettings(SectionSettings):
    """The section ``telemetry.otpylib_logger``."""

    enabled: bool = Field(
        True, description="Whether what otpylib says about processes and messages becomes log records."
    )
    level: str = Field(
        "INFO",
        description=(
            "What is below it is left out: DEBUG, INFO, WARNING, ERROR or CRITICAL. At DEBUG otpylib says up "
            "to three things for each message that is sent."
        ),
    )
    payloads: bool = Field(
        False,
        description=(
            "Whether the messages of the application are in it, at the level DEBUG; what is called like a "
            "secret is replaced."
        ),
    )
    chain: bool = Field(
        False,
        description=(
            "Where the application has registered a process of its own as logger: whether telemetry hears "
            "what it gets. Without it, that process alone does."
        ),
    )

    @field_validator("level")
    @classmethod
    def _is_a_level(cls, value: str) -> str:
        level = value.strip().upper()
        if level not in LEVELS:
            raise RefusedError(f"expected one of {', '.join(LEVELS)}")
        return level


class OtpylibLoggerBridge(Service):
    """Hears what otpylib says, wherever it is said to."""

    def __init__(self) -> None:
        self._settings = OtpylibLoggerSettings.model_validate({})
        #: The levels that are left out.
        self._below: frozenset[str] = frozenset()
        #: The process that bears the name, if it is ours, and the one that is listened to.
        self._own: Any = None
        self._heard: Any = None
        self._undo: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._said = Once()
        self._told = 0
        self._left_out = 0

    async def apply(self, settings: OtpylibLoggerSettings) -> None:
        """Listen, or do not."""
        self._settings = settings
        self._below = frozenset(name for name, level in LEVELS.items() if level < LEVELS[settings.level])
        if not settings.enabled:
            await self.stop()
        else:
            await self._look()

    async def stop(self) -> None:
        """Give the name back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._let_go()
        own, self._own = self._own, None
        if own is not None:
            await otp.end_quietly(own)

    def stats(self) -> Mapping[str, Any]:
        """Return who is listened to, and how much was told."""
        return {
            "logger": None if self._heard is None else str(self._heard),
            "chained": self._heard is not None and self._heard != self._own,
            "records": self._told,
            "left_out": self._left_out,
        }

    async def _look(self) -> None:
        """Listen to whoever bears the name; otpylib gives it to the last one who asks, without a word."""
        bearer = otp.whereis(otp.LOGGER)
        if bearer is None:
            bearer = self._own = await otp.start_logger()
        if bearer == self._own or self._settings.chain:
            self._listen_to(bearer)
            self._said.over()
        else:
            self._let_go()
            if self._said.is_news():
                _log.warning(_TAKEN, bearer)
        self._look_later()

    def _look_later(self) -> None:
        loop = otp.running_loop()
        if loop is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(
            _LOOK, lambda: otp.run_in_background(loop, self._look(), name="otpylib_logger look")
        )

    def _listen_to(self, pid: Any) -> None:
        if self._heard is pid:
            return
        self._let_go()
        self._heard = pid
        self._undo = otp.overhear(pid, self._hears_own if pid == self._own else self._overhears)

    def _let_go(self) -> None:
        self._heard = None
        if self._undo is not None:
            self._undo()
            self._undo = None

    def _hears_own(self, message: Any) -> bool:
        """Tell of a message to our own process, which does nothing with it."""
        if self._wants(message):
            self._tell(message)
        return True

    def _overhears(self, message: Any) -> bool:
        """Tell of a message to a process of the application, which gets it as well."""
        if self._wants(message):
            self._tell(message)
        return False

    def _wants(self, message: Any) -> bool:
        """Tell whether a message is ``("log", level, text, metadata)``, and not below the level."""
        return (
            type(message) is tuple
            and len(message) == 4  # noqa: PLR2004  # see above
            and type(message[1]) is str
            and message[1] not in self._below
            and otp.is_request(message, "log", 4)
        )

    def _tell(self, message: tuple[Any, ...]) -> None:
        if not is_listened_to(LOG_EVENT):
            return
        if self._is_about_us(message[3]):
            self._left_out += 1
            return
        self._told += 1
        log_events.emit(self._metadata, message)

    def _is_about_us(self, about: Any) -> bool:
        """Tell whether otpylib speaks of a process of telemetry's, or because of one."""
        if log_events.is_caused_by_us() or otp.is_quiet() or otp.is_own_process():
            return True
        return type(about) is dict and any(_is_ours(about[key]) for key in _ABOUT if key in about)

    def _metadata(self, message: tuple[Any, ...]) -> dict[str, Any]:
        level, about = message[1], message[3] if type(message[3]) is dict else {}
        said = text(message[2], None)
        extra = {key: any_value(value) for key, value in about.items() if key != _PAYLOAD}
        if _PAYLOAD in about:
            # It is the last thing in the text.
            said = said.partition(_IN_TEXT)[0]
            if self._settings.payloads:
                extra[_PAYLOAD] = without_secrets(any_value(about[_PAYLOAD]))
                said = f"{said}{_IN_TEXT}{text(extra[_PAYLOAD])}"
        severity = severity_number(LEVELS[level]) if level in LEVELS else 0
        return log_events.metadata_of(log_events.Logged(said, said, severity, level, 0, _SCOPE, extra))


@functools.cache
def _runs_ours() -> Callable[[Any], bool]:
    with importing():
        from otpylib_telemetry.instrument.otpylib.identity import runs_ours  # noqa: PLC0415 - only where wanted

    return runs_ours


def _is_ours(value: Any) -> bool:
    """Tell of a pid or a registered name whether it is that of a process of telemetry's."""
    try:
        return _runs_ours()(otp.whereis(value) or value)
    except TypeError:
        # No pid and no name: nothing of which there could be a process.
        return False


OtpylibLogger = service_module(
    "OtpylibLogger",
    OtpylibLoggerSettings,
    OtpylibLoggerBridge,
    name="otpylib_logger",
    section="telemetry.otpylib_logger",
    module=__name__,
    doc=(
        "GenServer registered as ``otpylib_logger``, configured by ``telemetry.otpylib_logger``: turns what\n"
        "otpylib says into log records."
    ),
)
