"""Statistics as pure functions: no clock, no file, every random number from a seed that the caller passes."""
