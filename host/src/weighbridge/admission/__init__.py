"""Whether a plugin may come in: arithmetic, policies, and what it weighed last time."""
