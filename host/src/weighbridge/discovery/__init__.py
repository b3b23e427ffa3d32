"""Discovery: what is installed, what it says about itself, and in which order it can be loaded.

Nothing is imported here, so that importing ``weighbridge.discovery.entry_points`` costs next to nothing.
"""
