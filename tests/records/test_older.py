"""records.older: what earlier versions called things is read as what it is now; the committed runs are such files."""

import json

import pytest
from paths import ROOT

from mpbench.records.kinds import KINDS, kind_of
from mpbench.records.older import with_current_names
from mpbench.records.runs import UnreadableRun, read_run

OLD_KEYS = ("mpbench_schema", "mpbench_accuracy_schema", "mpbench_probe_schema")
RUNS = [
    path
    for path in sorted((ROOT / "results").rglob("*.json"))
    if any(f'"{key}"' in path.read_text(encoding="utf-8") for key in OLD_KEYS)
]


def test_old_names_and_values_are_read_as_new_ones():
    old = {"mpbench_probe_schema": 1, "mpbench_probe": "feed", "feed": "fed", "way": "jit=on", "model": "vgg16"}
    new = with_current_names(old)
    assert new == {
        "mpbench_diagnostic_schema": 1,
        "mpbench_diagnostic": "end_to_end",
        "input": "pipeline",
        "mode": "jit=on",
        "model": "vgg16",
    }
    assert with_current_names(new) == new
    assert with_current_names({"way": "old", "mode": "new"}) == {"mode": "new"}


def test_there_are_committed_runs_to_read():
    assert len(RUNS) > 10


@pytest.mark.parametrize("path", RUNS, ids=[str(path.relative_to(ROOT / "results")) for path in RUNS])
def test_committed_runs_are_read_whole(path):
    benchmarks = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    current = [
        bench["fullname"]
        for bench in benchmarks
        if (kind := kind_of(bench["extra_info"])) and kind.record_type(with_current_names(bench["extra_info"]))
    ]
    if not current:
        with pytest.raises(UnreadableRun):
            read_run(path)
        return
    run = read_run(path)
    assert set(run.cases) == set(current)
    assert sum(len(run.of(kind)) for kind in KINDS) == len(current)
