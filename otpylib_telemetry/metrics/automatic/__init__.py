"""The metrics that need no definition."""
