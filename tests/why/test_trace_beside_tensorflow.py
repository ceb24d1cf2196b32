"""why.reading.planes beside TensorFlow in one process: both know a trace's message, and neither disturbs the other."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.tensorflow


def test_tensorflow_may_be_imported_beside_it():
    code = (
        "from mpbench.why.reading.planes import message_class; a = message_class(); "
        "from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace; "
        "b = message_class(); assert XSpace.FromString(a().SerializeToString()) == XSpace() and b() == a()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
