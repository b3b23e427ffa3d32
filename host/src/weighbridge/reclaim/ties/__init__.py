"""The ways in which an interpreter keeps a plugin's code alive: a class for each, which finds, names and cuts it."""
