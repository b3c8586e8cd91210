"""Configurations: objects built from plain data, and words of a command line."""
