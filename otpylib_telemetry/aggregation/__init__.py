"""Series of numbers by labels, read as totals or as differences."""
