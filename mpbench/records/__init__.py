"""What is saved of a run, and how it is read back and checked."""
