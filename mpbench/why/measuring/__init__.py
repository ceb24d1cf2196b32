"""What is measured to explain a step: its parts, layers, peaks, input, a profile. Imports TensorFlow when used."""
