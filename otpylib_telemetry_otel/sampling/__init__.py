"""Which spans are kept."""
