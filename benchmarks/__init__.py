"""What telemetry costs, against the libraries called directly, in one process and one run."""
