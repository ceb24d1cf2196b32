"""The pytest plugin: all that knows pytest or pytest-benchmark.

pytest loads this module, by the entry point or by a line in conftest.py; what it is made of is named below.
"""

pytest_plugins = (
    "mpbench.plugin.refusals",  # before what imports it: pytest rewrites the assertions of plugins
    "mpbench.plugin.hooks",
    "mpbench.plugin.fixtures",
)
