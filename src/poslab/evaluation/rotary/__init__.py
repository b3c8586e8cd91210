"""Diagnostics of rotations that need no trained model: wavelengths, axes, and the bound on the base."""
