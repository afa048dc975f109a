"""Takes secrets out of what is about to leave: attributes, texts, log records and labels."""
