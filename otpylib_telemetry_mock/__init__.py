"""Testing what an application emits: captures, assertions, an exporter that remembers, a pytest fixture.

The names are imported when they are first used: pytest loads this package in every suite where it is
installed, used or not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otpylib_telemetry.version import __version__
    from otpylib_telemetry_mock.assertions import (
        assert_emitted,
        assert_spans_balanced,
        refute_emitted,
        wait_for,
    )
    from otpylib_telemetry_mock.capturing import Capture, capture
    from otpylib_telemetry_mock.determinism import deterministic
    from otpylib_telemetry_mock.exported import assert_metric, assert_span, assert_span_tree, span_tree
    from otpylib_telemetry_mock.exporter import (
        MockExporter,
        MockExporterServer,
        child_spec,
        mock_callbacks,
        start_mock_exporter,
    )
    from otpylib_telemetry_mock.forgetting import forget_exporters
    from otpylib_telemetry_mock.recording import RecordedEvent
    from otpylib_telemetry_mock.settings import MockSettings

__all__ = [
    "Capture",
    "MockExporter",
    "MockExporterServer",
    "MockSettings",
    "RecordedEvent",
    "__version__",
    "assert_emitted",
    "assert_metric",
    "assert_span",
    "assert_span_tree",
    "assert_spans_balanced",
    "capture",
    "child_spec",
    "deterministic",
    "forget_exporters",
    "mock_callbacks",
    "refute_emitted",
    "span_tree",
    "start_mock_exporter",
    "wait_for",
]

_HOMES = {
    ".assertions": ("assert_emitted", "assert_spans_balanced", "refute_emitted", "wait_for"),
    ".capturing": ("Capture", "capture"),
    ".determinism": ("deterministic",),
    ".exported": ("assert_metric", "assert_span", "assert_span_tree", "span_tree"),
    ".exporter": (
        "MockExporter",
        "MockExporterServer",
        "child_spec",
        "mock_callbacks",
        "start_mock_exporter",
    ),
    ".forgetting": ("forget_exporters",),
    ".recording": ("RecordedEvent",),
    ".settings": ("MockSettings",),
    "otpylib_telemetry.version": ("__version__",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(module, __name__), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
