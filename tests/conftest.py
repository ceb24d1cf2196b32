"""What holds for every test: the environment it runs in, and that a run without TensorFlow stays without.

Fixtures and helpers that several files share are in tests/support; what only one file needs is in that file.
"""

import os
import re
import signal
import sys
from pathlib import Path

import pytest
import scipy.optimize
import scipy.special  # noqa: F401 -- now: pytester forgets what a test has imported, and numpy's parts load only once
from child_runs import BARE
from hypothesis import settings

from mpbench.system.lock import HELD, MACHINE

# These machines' speed varies; where CI is set, hypothesis has a profile of its own for that.
settings.register_profile("patient", deadline=None)
if "CI" not in os.environ:
    settings.load_profile("patient")

# The pytest runs that tests start are runs of their own: on a worker of pytest-xdist pytest-benchmark measures nothing.
for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
    os.environ.pop(name, None)

# Nobody keeps what the tests measure: their sessions need not wait for those of another worker.
os.environ[HELD] = MACHINE

# By this the modules that both the tests and the runs that they start import know which of them they are in.
os.environ["MPBENCH_TESTS_PID"] = str(os.getpid())

pytest_plugins = ("pytester",)

MODULE_MARKS = {"tensorflow", "browser"}
"""What pyproject.toml says of them. A module says `pytestmark = ...`, in one line."""

PYTESTMARK = re.compile(r"^pytestmark = .*", re.MULTILINE)
EXPERIMENT = Path(__file__).with_name("test_accuracy.py")
"""Users run it by its path, and may copy it: it names none of this project's marks itself. Among tests that run side by
side it is left out, as its tables would be: test_experiment.py runs it in a process of its own."""


@pytest.fixture(scope="session", autouse=True)
def _child_runs():
    os.environ["PYTEST_ADDOPTS"] = BARE  # not before: pytest-xdist's workers are children too, and need the plugins


@pytest.fixture
def interruptible():
    """SIGINT interrupts this test and the processes it starts, also where it was ignored, as in a background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class NoTensorFlow:
    """An importer that refuses TensorFlow and Keras."""

    def find_spec(self, name, path=None, target=None):
        if name in ("tensorflow", "keras"):
            raise ImportError(f"{name}: this run is without; modules that need it are marked `tensorflow`")
        return None


def marks_of(path):
    """The marks of a whole module, which need not be imported for that."""
    line = PYTESTMARK.search(path.read_text(encoding="utf-8"))
    return {"tensorflow"} if path == EXPERIMENT else set(re.findall(r"mark\.(\w+)", line[0] if line else ""))


def selected(config, marks):
    """Whether -m selects a whole module by its marks; where it is about other marks too, it may."""
    expression = config.option.markexpr
    names = set(re.findall(r"\w+", expression)) - {"and", "or", "not"}
    return not names or not names <= MODULE_MARKS or eval(expression, {name: name in marks for name in names})


def side_by_side(config):
    return hasattr(config, "workerinput") or config.getoption("dist", "no") != "no"


def pytest_configure(config):
    if not selected(config, {"tensorflow"}) and selected(config, set()):
        sys.meta_path.insert(0, NoTensorFlow())


def pytest_ignore_collect(collection_path, config):
    """Leave out whole modules by their marks, unimported: importing some takes longer than the tests of others."""
    if collection_path == EXPERIMENT and side_by_side(config):
        return True
    if collection_path.suffix == ".py" and not selected(config, marks_of(collection_path)):
        return True
    return None


def pytest_collection_modifyitems(items):
    # What needs TensorFlow takes longest: begun first, it leaves no worker of pytest-xdist idle at the end.
    items.sort(key=lambda item: item.get_closest_marker("tensorflow") is None)
