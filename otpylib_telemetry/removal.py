"""The request to forget a metric or a series, as every exporter that has series answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otpylib_telemetry.metric_labels import label_text

if TYPE_CHECKING:
    from otpylib_telemetry.aggregation import SeriesStore

__all__ = ["answer_removal"]


def answer_removal(store: SeriesStore, request: tuple[Any, ...]) -> bool:
    """Answer ``("remove", metric)`` and ``("remove", metric, labels)``: forget a metric, or one series.

    Args:
        store: The series.
        request: The message. ``metric`` is the name under which it leaves, ``labels`` a mapping of every
            label the series has; a value that is no text stands for its text.

    Returns:
        Whether there was such a thing.

    Raises:
        LookupError: It is another message.
    """
    match request:
        case ("remove", str(name)):
            removed = [store.remove(key) for key in store.keys_of(name)]
        case ("remove", str(name), dict(labels)):
            wanted = sorted((str(key), _text(value)) for key, value in labels.items())
            with store.lock:
                found = [
                    (key, series)
                    for key in store.keys_of(name)
                    if (metric := store.find(key)) is not None
                    for series in metric.series
                    if sorted((label, _text(text)) for label, text in series) == wanted
                ]
                removed = [store.remove(key, series) for key, series in found]
        case _:
            raise LookupError(request)
    return any(removed)


def _text(value: Any) -> str:
    """Return a label as it reads, whatever it stands for."""
    return label_text(getattr(value, "value", value)) or str.__str__(str(value))
