"""Log records: those that are made of events, and those that are log records already."""
