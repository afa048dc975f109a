"""A metrics page read back: its series, or what keeps it from being one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from otpylib_telemetry_mock import text

#: Name, labels and value of a series.
Series: TypeAlias = tuple[str, Mapping[str, Any], Any]

_LINES_ALONE = 10_000


def series_on(page: str | bytes) -> list[Series]:
    """Return the series on a page in either text format.

    Raises:
        AssertionError: It is no such page.
        ImportError: prometheus_client is not there to read it.
    """
    __tracebackhide__ = True
    if isinstance(page, bytes):
        page = _decoded(page)
    read = _reader(page)
    try:
        return read(page)
    except Exception as error:  # noqa: BLE001  # the parsers raise whatever their code comes across
        raise AssertionError(
            f"what was read is no metrics page: {_culprit(page, read)} ({type(error).__name__}: "
            f"{text.printable(str(error))[:200]})"
        ) from None


def _decoded(page: bytes) -> str:
    __tracebackhide__ = True
    try:
        decoded = page.decode()
    except UnicodeDecodeError:
        decoded = "\0"
    if "\0" in decoded:
        raise AssertionError(
            f"what was read is no metrics page in a text format, but {len(page)} bytes of something else: "
            "compressed, or protobuf; ask for text/plain without an Accept-Encoding"
        )
    return decoded


def _reader(page: str) -> Callable[[str], list[Series]]:
    try:
        from prometheus_client import parser as classic  # noqa: PLC0415  # an extra
        from prometheus_client.openmetrics import parser as openmetrics  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise ImportError("to read a metrics page, install otpylib-telemetry[client]") from error
    # Which of the formats is meant is what the page says at its end.
    parser: Any = openmetrics if page.rstrip().endswith("# EOF") else classic

    def read(part: str) -> list[Series]:
        families = parser.text_string_to_metric_families(part)
        return [
            (sample.name, sample.labels, sample.value) for family in families for sample in family.samples
        ]

    return read


def _culprit(page: str, read: Callable[[str], list[Series]]) -> str:
    """Return the first line that cannot be read by itself; else what the page is as a whole."""
    lines = page.splitlines()
    end = "\n# EOF\n" if page.rstrip().endswith("# EOF") else "\n"
    for number, line in enumerate(lines[:_LINES_ALONE], start=1):
        if line.startswith("#") or not line.strip():
            continue
        try:
            read(line + end)
        except Exception:  # noqa: BLE001  # as above
            return f"line {number} is {text.shown(line)}"
    return f"its {text.counted(len(lines), 'line')} do not go together"
