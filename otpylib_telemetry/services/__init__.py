"""Servers of one configuration section each, beside the exporters; and how any server follows its section."""
