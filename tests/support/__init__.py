"""What several test modules need: a runtime, real backends, an OTLP server that fails on command."""
