"""What a profile says. Pure: no TensorFlow, only figures, names and text."""
