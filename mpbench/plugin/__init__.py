"""The pytest plugin: all that knows pytest or pytest-benchmark."""
