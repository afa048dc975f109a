"""Spans, their ids, and which ending belongs to which beginning."""
