"""What the OpenTelemetry API records, on its way to the exporters."""
