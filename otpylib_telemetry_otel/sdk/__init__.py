"""Exporters and samplers of other packages, through OpenTelemetry's SDK classes."""
