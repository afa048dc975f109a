"""Which settings of an exporter differ, and which of them can be had without the others. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otpylib_telemetry.config.settings import ExporterSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def own_keys(settings_type: type[ExporterSettings]) -> frozenset[str]:
    """Return the keys that are not common to all exporters."""
    return frozenset(settings_type.model_fields.keys() - ExporterSettings.model_fields.keys())


def own_changes(before: ExporterSettings | None, wanted: ExporterSettings) -> frozenset[str]:
    """Return the keys that differ and are not common to all exporters."""
    return frozenset(
        key for key in own_keys(type(wanted)) if getattr(before, key, None) != getattr(wanted, key)
    )


def parts(keys: frozenset[str], inseparable: Iterable[frozenset[str]]) -> Iterator[frozenset[str]]:
    """Split keys into those that may be taken over by themselves, and those that go together."""
    left = set(keys)
    for together in inseparable:
        if some := keys & together:
            left -= some
            yield some
    for key in sorted(left):
        yield frozenset({key})


def with_kept(
    wanted: ExporterSettings, before: ExporterSettings | None, keys: frozenset[str]
) -> ExporterSettings:
    """Return ``wanted`` with the values that some keys had before."""
    if before is None or not keys:
        return wanted
    kept: dict[str, Any] = {key: getattr(before, key) for key in keys}
    return wanted.model_copy(update=kept)


def as_it_was(before: ExporterSettings, wanted: ExporterSettings, *also: str) -> ExporterSettings:
    """Return ``wanted`` with the values of the exporter's own keys, and those of ``also``, from before."""
    return with_kept(wanted, before, own_changes(before, wanted).union(also))


def with_part(
    before: ExporterSettings, wanted: ExporterSettings, part: frozenset[str]
) -> ExporterSettings | None:
    """Return ``wanted`` with only a part of what is new for the exporter itself; None if it does not go.

    The part grows by what it does not go without.
    """
    new = own_changes(before, wanted)
    while True:
        settings = with_kept(wanted, before, new - part)
        conflict = next(iter(settings.conflicts()), None)
        if conflict is None:
            return settings
        more = new.intersection(conflict.keys) - part
        if not more:
            return None
        part |= more
