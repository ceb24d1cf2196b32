"""What several test files share."""

import os

from hypothesis import settings

# These machines' speed varies; where CI is set, hypothesis has a profile of its own for that.
settings.register_profile("patient", deadline=None)
if "CI" not in os.environ:
    settings.load_profile("patient")

# By this the modules that both the tests and the runs that they start import know which of them they are in.
os.environ["MPBENCH_TESTS_PID"] = str(os.getpid())

pytest_plugins = ("pytester",)
