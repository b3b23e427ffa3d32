"""Proof that an unloaded plugin is gone, and the names of what holds it if it is not."""
