"""From candidate to active plugin and back: the states, and the order of the steps."""
