"""The command ``otpylib-telemetry``: one module for each of its commands, and ``main`` that finds them."""
