"""``[telemetry.instrument]``: the instrumentation of otpylib's actors, switched by configuration.

See :mod:`otpylib_telemetry.services.server` for what such a section has in common with others.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from otpylib_telemetry.config.field_types import Number, WholeNumber, Words
from otpylib_telemetry.config.settings import SectionSettings
from otpylib_telemetry.primitives.fork import importing
from otpylib_telemetry.primitives.threads import run_in_thread
from otpylib_telemetry.services.server import service_module
from otpylib_telemetry.services.service import Applied

if TYPE_CHECKING:
    from types import ModuleType

    from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor

_RELATION: Final = (
    "How {} is related to what its sender was doing: `child` for a part of it, `link` for an operation of "
    "its own with a link to it, `none`."
)


class InstrumentSettings(SectionSettings):
    """What is recorded of otpylib's actors."""

    enabled: bool = Field(
        False,
        description="Whether the actors are seen: the context of the sender travels with every message, and "
        "each handled message is an operation. False while running: everything is as without it.",
    )
    include: Words = Field(
        ("*",),
        description="Shell patterns over a server's registered name or its module; only these are recorded.",
    )
    exclude: Words = Field((), description="The same; these are not recorded.")
    messages: Words = Field(
        ("*",),
        description="Shell patterns over a message's tag, which is its first element or itself; only these "
        "are recorded.",
    )
    calls: Literal["child", "link", "none"] = Field("child", description=_RELATION.format("a handled call"))
    casts: Literal["child", "link", "none"] = Field("child", description=_RELATION.format("a handled cast"))
    infos: Literal["child", "link", "none"] = Field(
        "child", description=_RELATION.format("any other handled message")
    )
    loop_stall_ms: Number = Field(
        100.0,
        ge=0,
        le=3_600_000,
        description="How long the event loop may stand before an event tells what it stood in; 0 for never.",
        json_schema_extra={"unit": "milliseconds"},
    )
    recorder: WholeNumber = Field(
        20,
        ge=0,
        le=10_000,
        description="How many messages each named server remembers for the case that it crashes; 0 for none.",
    )
    payloads: bool = Field(
        False, description="Whether it remembers what was in these messages, too, secrets left out."
    )


_OFF: Final = InstrumentSettings.model_validate({})


class _Instrumented:
    """Whether it was configuration that switched the instrumentation on."""

    by_configuration = False


@functools.cache
def _instrumentation() -> tuple[type[OtpylibInstrumentor], ModuleType]:
    with importing():
        from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor, rules  # noqa: PLC0415 - only where wanted

    return OtpylibInstrumentor, rules


async def apply(settings: InstrumentSettings) -> None:
    """Instrument the actors, or no more, under these settings."""
    if not settings.enabled and not _Instrumented.by_configuration:
        return
    # On a thread: another one may be importing OpenTelemetry, and this one waits for it.
    instrumentor, rules = await run_in_thread(_instrumentation) if settings.enabled else _instrumentation()
    if settings.enabled:
        wanted = {key: getattr(settings, key) for key in InstrumentSettings.model_fields if key != "enabled"}
        rules.put_in_force(rules.Rules(**wanted))
        instrumentor().instrument()
    else:
        instrumentor().uninstrument()
    _Instrumented.by_configuration = settings.enabled


TelemetryInstrument = service_module(
    "TelemetryInstrument",
    InstrumentSettings,
    lambda: Applied(apply, _OFF),
    name="telemetry_instrument",
    section="telemetry.instrument",
    module=__name__,
    doc="GenServer that instruments otpylib's actors as ``telemetry.instrument`` says, registered as\n"
    "``telemetry_instrument``.",
)
