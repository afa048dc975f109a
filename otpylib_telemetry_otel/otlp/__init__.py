"""OTLP: messages, transports, answers."""
