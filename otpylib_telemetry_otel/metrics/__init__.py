"""Metrics that come from elsewhere than events."""
