"""Instruments of the OpenTelemetry API, recorded into our series."""
