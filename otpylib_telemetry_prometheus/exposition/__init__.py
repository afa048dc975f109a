"""Both text formats."""
