"""What a plugin holds, and how that was measured."""
