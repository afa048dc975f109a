"""Events and API spans made into finished spans."""
