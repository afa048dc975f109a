"""One page for several worker processes."""

from otpylib_telemetry_prometheus.multiprocess.registry import MultiProcessRegistry

__all__ = ["MultiProcessRegistry"]
