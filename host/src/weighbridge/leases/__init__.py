"""What the host lends: each module works alone and knows nothing of plugins."""
