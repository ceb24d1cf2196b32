"""How long it takes to load many saved runs and to judge the last of them, in a process of its own.

PYTHONPATH=tests/support python results/history/load.py [-o FILE] [--runs N] [--rounds N] [--repeats N]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

from saved_runs import cases, saved_run

MODELS = ("vgg16", "inception_v3", "resnet152_v2")
PHASES = ("training", "inference")

JUDGE = """
import json, sys, time
start = time.perf_counter()
from pathlib import Path
from mpbench.gate.judge import judge
from mpbench.gate.rules import Rules
from mpbench.records.runs import load_runs
imported = time.perf_counter()
runs = load_runs(Path(sys.argv[1]), sys.exit)
loaded = time.perf_counter()
judge(runs[-1], runs[:-1], Rules())
judged = time.perf_counter()
print(json.dumps({
    "runs": len(runs),
    "tensorflow_imported": "tensorflow" in sys.modules,
    "import_s": imported - start,
    "load_s": loaded - imported,
    "judge_s": judged - loaded,
    "total_s": judged - start,
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, help="write the result as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_runs(Path(folder), args.runs, args.rounds)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        found = [
            json.loads(subprocess.run([sys.executable, "-c", JUDGE, folder], capture_output=True, check=True).stdout)
            for _ in range(args.repeats)
        ]
    result = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "runs": args.runs,
        "cases": len(MODELS) * len(PHASES) * 2,
        "rounds": args.rounds,
        "mib": round(size / 2**20, 1),
        "tensorflow_imported": any(one["tensorflow_imported"] for one in found),
        **{
            name: {"median": round(statistics.median(values), 3), "max": round(max(values), 3)}
            for name in ("import_s", "load_s", "judge_s", "total_s")
            if (values := [one[name] for one in found])
        },
    }
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


def write_runs(folder: Path, runs: int, rounds: int) -> None:
    """Runs of all models in both phases and precisions, each round off by up to 1 %."""
    noise = random.Random(1)
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    for n in range(runs):
        pairs = [
            (record, [seconds * noise.uniform(0.99, 1.01) for seconds in of_case])
            for model in MODELS
            for phase in PHASES
            for record, of_case in cases(150, 100, model, phase, rounds)
        ]
        time = start + timedelta(hours=n)
        saved_run(folder, time=time, commit=f"{n:040x}", records_and_rounds=pairs, name=f"{n:04}.json")


if __name__ == "__main__":
    main()
