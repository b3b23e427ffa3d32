"""Who says that memory is short: a small module for each source."""
