"""Bridges from what an application uses already to telemetry events."""
