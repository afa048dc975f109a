"""What runs an exporter: queue, books, sending, reconfiguration, shutdown."""
