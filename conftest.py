"""Loads the plugin; copy this line into your own conftest.py to use mpbench elsewhere."""

pytest_plugins = ("mpbench.plugin",)
