"""The ways in which an interpreter keeps the code of a plugin alive: a class for each, which finds, names and cuts it."""
