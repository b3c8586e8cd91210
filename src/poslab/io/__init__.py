"""Files that are read with bounds and checks and written whole, and text that cannot harm a terminal."""
