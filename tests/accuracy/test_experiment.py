"""tests/test_accuracy.py itself, on the three architectures of the thesis and so few pictures as it can judge by."""

import os
import subprocess
import sys

import pytest
from paths import ROOT

from mpbench.data.generated import CLASSES, picture

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(900)]

PICTURES = 400


def test_the_three_architectures_answer_alike_and_damage_is_found(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for kind in CLASSES:
        for i in range(PICTURES // len(CLASSES)):
            (photos / f"{kind}.{i}.jpg").write_bytes(picture(kind, i, 42))
    command = [sys.executable, "-m", "pytest", "tests/test_accuracy.py", "--mp-device=cpu", f"--mp-data={photos}"]
    command += [f"--basetemp={tmp_path / 'pytest'}", "-p", "no:cacheprovider"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    for model in ("vgg16", "inception_v3", "resnet152_v2"):
        assert f": {model}, mixed_float16 against float32: " in done.stdout
