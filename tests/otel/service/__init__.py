"""The OpenTelemetry API as a source of what the exporters export."""
