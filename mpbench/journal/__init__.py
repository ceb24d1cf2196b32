"""What a killed run leaves, and what becomes of it: each finished case on the disk at once, resumed or recovered."""
