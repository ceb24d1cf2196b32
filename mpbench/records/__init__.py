"""What is saved of a case, and how it is read back, checked and found comparable. Imports no TensorFlow."""
