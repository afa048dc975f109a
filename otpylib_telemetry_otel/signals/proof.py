"""Whether destinations take what is sent to them, found out with empty requests."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.config.redaction import hide_in_url
from otpylib_telemetry.exporter.errors import DestinationError, ExportError
from otpylib_telemetry.primitives.threads import run_in_thread_to_end
from otpylib_telemetry_otel import destinations
from otpylib_telemetry_otel.errors import BackendUnavailableError, SignalRefusedError
from otpylib_telemetry_otel.sdk.suppression import unobserved
from otpylib_telemetry_otel.settings.endpoint import SIGNALS, SignalName

if TYPE_CHECKING:
    from otpylib_telemetry_otel.settings.connection import Connection
    from otpylib_telemetry_otel.settings.model import OtelSettings

#: Seconds beyond the timeout of a request before it is given up from outside.
_GRACE: Final = 1.0
#: Seconds that giving up waits for a request that is nearly answered.
_LINGER: Final = 0.05


async def prove(settings: OtelSettings, instead_of: OtelSettings | None) -> list[str]:
    """Try the destinations that differ, all after a rest; return which, or raise what is wrong with one.

    Only OTLP says what an empty request is. Exporters of other packages show with their first batch what they
    can do. A signal that is refused by itself fails the proof like any other, unless it is as it was before.
    """
    old: dict[str, Connection | None] = {}
    if instead_of is not None and instead_of.enabled:
        old = {name: _destination(instead_of, name) for name in SIGNALS}
    names = [
        name
        for name in SIGNALS
        if (there := _destination(settings, name)) is not None and there != old.get(name)
    ]
    tried = []
    for name, error in zip(
        names, await asyncio.gather(*(_failure(settings, name) for name in names)), strict=True
    ):
        connection = settings.connection(name)
        if error is None:
            tried.append(f"{name} over {_shown(connection, ' to ')}")
            continue
        hint = ""
        if isinstance(error, SignalRefusedError) and await takes_another(settings, name):
            if await _was_refused(instead_of, name):
                tried.append(f"{name} over {_shown(connection, ' to ')}, which takes none, as before")
                continue
            hint = f"; it takes other signals, and {name} = false says that none of these are wanted"
        where = _shown(connection, ", ")
        said = f"an empty request to the new destination of {name} ({where}) fails: {error}{hint}"
        raise DestinationError(said) if isinstance(error, DestinationError) else ExportError(said) from error
    return tried


async def _was_refused(settings: OtelSettings | None, name: SignalName) -> bool:
    """Tell whether what is in use refuses a signal too, and takes others."""
    if settings is None or _destination(settings, name) is None:
        return False
    is_refused = isinstance(await _failure(settings, name), SignalRefusedError)
    return is_refused and await takes_another(settings, name)


async def takes_another(settings: OtelSettings, refused: SignalName) -> bool:
    """Tell whether what refuses one signal takes another at the same address: then it is no wrong address."""
    base = _base(settings, refused)
    others = [name for name in SIGNALS if name != refused and _base(settings, name) == base is not None]
    return None in await asyncio.gather(*(_failure(settings, name) for name in others))


async def _failure(settings: OtelSettings, name: SignalName) -> Exception | None:
    connection = settings.connection(name)
    try:
        await run_in_thread_to_end(
            unobserved,
            destinations.prove,
            connection,
            name,
            timeout=connection.timeout + _GRACE,
            linger=_LINGER,
        )
    except TimeoutError:
        return ExportError(f"no answer within {connection.timeout:g} s")
    except (ExportError, BackendUnavailableError) as error:
        return error
    return None


def _destination(settings: OtelSettings, name: SignalName) -> Connection | None:
    """Return where a signal goes over OTLP, without what it takes and how; None if nowhere."""
    connection = settings.connection(name)
    if not settings.sends(name) or connection.protocol is None or connection.url is None:
        return None
    return replace(connection, timeout=0.0, compression="")


def _base(settings: OtelSettings, name: SignalName) -> tuple[str | None, str] | None:
    """Return what destinations of several signals have in common at one receiver."""
    found = _destination(settings, name)
    return (
        None
        if found is None or found.url is None
        else (found.protocol, found.url.removesuffix(f"/v1/{name}"))
    )


def _shown(connection: Connection, between: str) -> str:
    return f"{connection.protocol}{between}{hide_in_url(connection.url or '')}"
