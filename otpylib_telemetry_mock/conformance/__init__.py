"""A conformance suite for exporters: what the chassis and its users expect of any of them, as pytest tests.

How to run it on an exporter of your own. In a test file::

    from otpylib_telemetry_mock.conformance import ExporterConformance
    from statsd_telemetry import StatsdExporter  # what exporter_module() made


    class TestStatsd(ExporterConformance):
        exporter = StatsdExporter

        def settings(self, tmp_path):
            return {"port": 8125}

and then ``pytest``. It needs no plug-in: each test has an event loop and an otpylib runtime of its own,
whatever the mode of pytest-asyncio. Override more methods of :class:`ExporterConformance` to have more
tested. A backend that the exporter needs is started in ``setup_method`` or by a fixture.
"""

from otpylib_telemetry_mock.conformance.suite import ExporterConformance

__all__ = ["ExporterConformance"]
