"""The admin API: state and configuration of everything in ``telemetry``, from outside the process."""
