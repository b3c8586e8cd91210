"""Read files with bounds and checks; write files whole, and text that cannot harm a terminal."""
