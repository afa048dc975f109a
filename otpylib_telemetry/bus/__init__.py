"""The event bus: from an emitter to whoever listens."""
