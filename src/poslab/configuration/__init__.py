"""Configurations: objects from plain data, and the words of a command line."""
