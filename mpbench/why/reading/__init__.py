"""From saved figures to sentences: imports neither TensorFlow nor what measures."""
