"""The pytest plugin: fixtures for what a test emits, what arrives at a collector, snapshots, a fresh start.

pytest loads it wherever the package is installed, so importing it must cost nothing: whatever it needs is
imported when a test first asks for the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from otpylib_telemetry_mock.capturing import Capture
    from otpylib_telemetry_mock.otlp_receiver import OtlpReceiver

_MARKER = (
    'telemetry(pattern="*", *, scope="own", max_events=100000): what the fixture of this name captures; '
    "scope 'all' takes the events of the whole interpreter, whatever emits them"
)

#: Events shown with a test that failed.
_SHOWN = 50

_capture_key = pytest.StashKey["Capture"]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def telemetry(request: pytest.FixtureRequest) -> Generator[Capture]:
    """What this test emits, and what it starts: a capture, empty at first.

    Needs no otpylib runtime, and works for plain tests as for async ones. The marker ``telemetry`` sets the
    event pattern and the scope.
    """
    from otpylib_telemetry_mock.capturing import capture  # noqa: PLC0415  # see the module's docstring

    marker = request.node.get_closest_marker("telemetry")
    arguments, options = (marker.args, marker.kwargs) if marker is not None else ((), {})
    try:
        captured = capture(*arguments, **options)
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"the marker of {request.node.nodeid} is not understood: {error}") from None
    with captured:
        request.node.stash[_capture_key] = captured
        yield captured


@pytest.fixture
def otlp_receiver() -> Generator[OtlpReceiver]:
    """An OTLP collector that keeps what it takes and fails on command; needs the extra ``otel``.

    It speaks gRPC and HTTP on one port: ``otlp_receiver.endpoint`` is for ``[telemetry.otel] endpoint``.
    """
    from otpylib_telemetry_mock.otlp_receiver import OtlpReceiver  # noqa: PLC0415  # see the module's docstring

    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture
def deterministic_telemetry(request: pytest.FixtureRequest) -> Generator[None]:
    """Ids that count up and a clock that goes a millisecond a reading: for snapshots."""
    from otpylib_telemetry_mock.determinism import deterministic  # noqa: PLC0415  # see the module's docstring

    with deterministic(seed=request.node.name):
        yield


@pytest.fixture
def fresh_exporters() -> Generator[None]:
    """Exporters of this test find nothing that those of an earlier one left, and leave nothing themselves.

    A fixture that starts an exporter asks for this one, so that it is ended before all is forgotten.
    """
    from otpylib_telemetry_mock.forgetting import forget_exporters  # noqa: PLC0415  # see the module's docstring

    forget_exporters()
    yield
    forget_exporters()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what was captured with a test that failed."""
    report = yield
    captured = item.stash.get(_capture_key, None)
    if captured is not None and report.when == "call" and report.failed:
        report.sections.append(("Captured telemetry", _summary(captured)))
    return report


def _summary(captured: Capture) -> str:
    from otpylib_telemetry_mock import failures, text  # noqa: PLC0415  # see the module's docstring

    events = list(captured.events)
    lines = [text.shown_event(event) for event in events[-_SHOWN:]]
    if len(events) > _SHOWN:
        lines.insert(0, f"... {len(events) - _SHOWN} earlier events")
    return failures.message(
        "\n".join([*(lines or ["nothing was emitted"]), *failures.remarks(captured.remarks())])
    )
