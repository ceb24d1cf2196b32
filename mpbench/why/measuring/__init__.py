"""What is measured to explain a speedup; all of it imports TensorFlow."""
