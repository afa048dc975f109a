"""Traces, logs and metrics: each with its lane and its destination."""
