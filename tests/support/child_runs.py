"""The pytest runs that tests start."""

BARE = "-p no:hypothesispytest -p no:timeout -p no:xdist"
"""Their PYTEST_ADDOPTS, which the fixture `pytester` unsets: they do without the tests' own plugins, whose import takes
longer than many of these runs."""
