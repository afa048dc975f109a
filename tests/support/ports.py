"""Where free ports were chosen before: goes when nothing under way imports it any more."""

from otpylib_telemetry_mock.otlp_receiver.ports import free_port, is_free  # noqa: F401
