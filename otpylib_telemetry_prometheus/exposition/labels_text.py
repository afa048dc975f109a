"""The labels of series as text: worked out once per series, and never the same for two series of a metric.

Pure.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.metrics.labels import label_text
from otpylib_telemetry.metrics.names import label_name
from otpylib_telemetry_prometheus.exposition.text import (
    encoded_name,
    escaped,
    is_label_name,
    pairs_text,
    printable,
    shown_label,
    underscored_label,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from otpylib_telemetry.aggregation.series import Labels


#: Label names remembered to need no change.
_MAX_PLAIN: Final = 10_000

#: The value of a pair.
_VALUE: Final = itemgetter(1)


def common_labels(global_labels: Mapping[str, Any]) -> dict[str, str]:
    """Return the setting ``global_labels`` as the labels that every series gets; empty ones are none."""
    texts = {label_name(str(name)): label_text(value) for name, value in global_labels.items()}
    return {name: text for name, text in texts.items() if text}


def beside(labels: Iterable[tuple[str, str]], taken: Collection[str]) -> dict[str, str]:
    """Return the labels of a series, those renamed to ``exported_<name>`` whose names are taken."""
    pairs = [*labels]
    own = {name: text for name, text in pairs if name not in taken}
    for name, text in pairs:
        if name in taken:
            exported = f"exported_{name}"
            while exported in own or exported in taken:
                exported = f"exported_{exported}"
            own[exported] = text
    return own


def renamed_again(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels that read like those of another series with what was renamed renamed once more."""
    return {
        (f"exported_{name}" if name.startswith("exported_") else name): text for name, text in labels.items()
    }


class LabelWriter:
    """Writes the labels of series between braces; ``taken`` are names that somebody else gives labels."""

    def __init__(self, common: Mapping[str, str], *, utf8: bool, taken: Collection[str] = ()) -> None:
        self._common = common
        self._taken = {*common, *taken}
        self._utf8 = utf8
        #: Names that stay as they are, and how they are written.
        self._plain: dict[str, str] = {}

    def plain(self, labels: Labels, reserved: str = "") -> str | None:
        """Return what :meth:`text` returns if it can be had quickly: names as they are, no label empty."""
        if self._taken:
            return None
        plain = self._plain
        parts: list[str] = []
        for name, value in labels:
            shown = plain.get(name)
            if shown is None or not value or name == reserved:
                return None
            parts.append(f'{shown}="{escaped(value)}"')
        return ",".join(parts)

    def text(self, labels: Labels, reserved: str = "") -> tuple[str, str]:
        """Return the labels of a series as they stand between the braces."""
        if self.faithful(labels, reserved):
            return self._both(dict(labels))
        return self._both(self._beside(self._named(labels, encoded=False), reserved))

    def other_texts(self, labels: Labels, reserved: str = "") -> Iterable[tuple[str, str]]:
        """Return what else the labels of a series may be written as if that of :meth:`text` is taken."""
        named = self._named(labels, encoded=True)
        yield self._both(self._beside(named, reserved))
        # Two labels are renamed to one where one of them had the new name before: rename once more.
        own = self._beside(self._named(labels, encoded=False), reserved)
        for _ in range(len(labels)):
            own = renamed_again(own)
            yield self._both(own)
        # It is another series that was renamed to what this one is called.
        yield self._both(self._beside({encoded_name(name): text for name, text in labels}, reserved))

    def faithful(self, labels: Labels, reserved: str = "") -> bool:
        """Return whether labels can be written under the very names they have."""
        plain, taken = self._plain, self._taken
        for name, _ in labels:
            if name == reserved or name in taken:
                return False
            if name not in plain:
                if not (is_label_name(name) or self._fits(name)):
                    return False
                if len(plain) < _MAX_PLAIN:
                    plain[name] = shown_label(name)
        return True

    def _fits(self, name: str) -> bool:
        return self._utf8 and bool(name) and not name.startswith("__") and printable(name) == name

    def _named(self, labels: Labels, *, encoded: bool) -> dict[str, str]:
        own: dict[str, str] = {}
        for name, text in labels:
            if is_label_name(name) or self._fits(name):
                fit = name
            else:
                fit = encoded_name(name) if encoded else underscored_label(name)
            # OpenTelemetry's "Prometheus and OpenMetrics compatibility" joins what has become one name.
            own[fit] = f"{own[fit]};{text}" if fit in own else text
        return own

    def _beside(self, named: Mapping[str, str], reserved: str) -> dict[str, str]:
        return beside(named.items(), {*self._taken, reserved})

    def _both(self, own: Mapping[str, str]) -> tuple[str, str]:
        pairs = sorted({**own, **self._common}.items())
        return pairs_text(pairs), pairs_text(filter(_VALUE, pairs))
