"""Content-dependent: tokens decide how far apart they are."""
