"""The ceiling, and what is done to stay under it."""
