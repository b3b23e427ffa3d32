"""Weighing plugins, each in a fresh interpreter of its own, so that none can disturb another."""
