"""To and from registries of prometheus_client."""
