"""Where the images of the accuracy experiment come from, and how they become arrays."""
