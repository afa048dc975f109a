"""The metrics that somebody has defined, at work."""
