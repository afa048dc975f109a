"""The event bus: from emitters to handlers."""
