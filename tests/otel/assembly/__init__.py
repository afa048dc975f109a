"""Events into spans."""
