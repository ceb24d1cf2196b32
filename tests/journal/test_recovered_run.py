"""What is recovered from a real run's journal is what that run has saved."""

import json
import shutil
import subprocess
import sys

import pytest
from paths import ROOT, SUPPORT
from waiting import PATIENCE_S

from mpbench.__main__ import main
from mpbench.records.runs import read_run

pytestmark = pytest.mark.tensorflow


def test_a_recovered_entry_equals_the_saved_one(tmp_path, monkeypatch):
    """A real case and its journal, copied just before it goes."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{SUPPORT}")
    (tmp_path / "bench").mkdir()
    shutil.copy(ROOT / "bench" / "test_inference.py", tmp_path / "bench")
    shutil.copy(ROOT / "conftest.py", tmp_path)
    with (tmp_path / "conftest.py").open("a") as file:
        file.write(
            "import shutil\n"
            "def pytest_runtest_teardown(item, nextitem):\n"
            "    if nextitem is None: shutil.copytree('.benchmarks/journal', 'copy/journal')\n"
        )
    command = [sys.executable, "-m", "pytest", "bench/test_inference.py", "--mp-device=cpu", "--mp-image-size=16"]
    command += ["--mp-max-time=0.5", "--mp-models=tiny_models:classifier", "--benchmark-save=real", "--mp-control"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=PATIENCE_S)
    (ordinary,) = (tmp_path / ".benchmarks").rglob("*.json")
    assert main(["recover", str(tmp_path / "copy")]) == 0
    (recovered,) = (tmp_path / "copy").rglob("*.json")
    assert recovered.relative_to(tmp_path / "copy") == ordinary.relative_to(tmp_path / ".benchmarks")
    one, two = json.loads(ordinary.read_text()), json.loads(recovered.read_text())
    one.pop("mpbench", None)  # what else kept the machine busy, known at the end only
    assert list(one) == list(two)
    assert one["benchmarks"] == two["benchmarks"]
    assert [list(bench) for bench in one["benchmarks"]] == [list(bench) for bench in two["benchmarks"]]
    for field in ("machine_info", "commit_info", "version"):
        assert one[field] == two[field]
    assert abs((read_run(ordinary).time - read_run(recovered).time).total_seconds()) < PATIENCE_S
    compared = [sys.executable, "-m", "pytest_benchmark", "--storage=copy", "compare"]
    result = subprocess.run(compared, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "test_inference[tiny_models:classifier-float32]" in result.stdout
