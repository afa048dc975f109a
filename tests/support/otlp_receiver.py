"""Where the receivers were before: goes when nothing under way imports it any more."""

from otpylib_telemetry_mock.otlp_receiver import *  # noqa: F403
