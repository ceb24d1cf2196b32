"""What several test files share."""

import os

from hypothesis import settings

# These machines' speed varies; where CI is set, hypothesis has a profile of its own for that.
settings.register_profile("patient", deadline=None)
if "CI" not in os.environ:
    settings.load_profile("patient")

pytest_plugins = ("pytester",)
