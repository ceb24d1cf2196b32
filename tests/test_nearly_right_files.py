"""Every command on files that are nearly right: it answers or says no in a line, and nothing in a file steers a
terminal, forges a verdict, breaks a page or ends a command with a traceback.

Seeded: each run of the tests tries the same files, about a minute's worth.
"""

import json
import os
import re
from dataclasses import asdict
from xml.etree import ElementTree

import pytest
from case_records import accuracy_record
from diagnostic_records import end_to_end, peaks, pipeline
from journals import finished, header
from mutated_runs import damaged, mutated, seeded
from paths import ROOT
from saved_runs import saved_run

from mpbench import __main__ as command
from mpbench.journal.lines import SCHEMA_VERSIONS, line
from mpbench.records.thumbnails import Thumbnail, as_text, jpeg_of
from mpbench.terminal import MAX_LINE_CHARACTERS

FINE, RED, BAD_USAGE = 0, 1, 4
H200 = ROOT / "results" / "nvidia-h200"
AA = ROOT / "results" / "gate" / "aa"
PROFILED = [
    H200 / f"{name}.json" for name in ("vgg16-training", "inception_v3-training-no-xla", "earlier-vgg16-training")
]
PLAIN = [H200 / "earlier-vgg16-inference.json", *(AA / f"{number:02}.json" for number in range(1, 7))]


def read(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A run with a comparison of accuracy, its images, and diagnostic cases."""
    import numpy as np

    image = Thumbnail("cat.1.jpg", "cat", "float32", jpeg_of(np.zeros((32, 32, 3), np.uint8)))
    compared = accuracy_record(discordant=as_text([image]))
    diagnostics = [end_to_end("pipeline", 110), end_to_end("device", 100), pipeline(20), *peaks()]
    pairs = [(compared, [0.1] * 5), *((one.record, one.rounds) for one in diagnostics)]
    path = saved_run(
        tmp_path_factory.mktemp("mixed"), time="2026-05-01T12:00:00+00:00", commit="c", records_and_rounds=pairs
    )
    return read(path)


@pytest.fixture
def answer(tmp_path, monkeypatch, capfd):
    """Runs a command in a folder of its own and checks what it says; returns its status and its lines."""
    monkeypatch.chdir(tmp_path)

    def run(statuses, *arguments, data=False):
        status = command.main(list(map(str, arguments)))
        said = capfd.readouterr()
        assert status in statuses, f"{arguments}: status {status}: {said.err[-3000:]}"
        lines, complaints = (text.split("\n")[:-1] for text in (said.out, said.err))
        for one in complaints if data else [*lines, *complaints]:
            assert one.isprintable(), f"{arguments}: {one!r}"
            assert len(one) <= MAX_LINE_CHARACTERS, f"{arguments}: {len(one)} characters: {one[:200]}"
        if status == BAD_USAGE:
            assert not lines, f"{arguments}: {lines[:3]}"
            assert complaints, arguments
        if data and lines:
            json.loads(said.out)
        return status, lines

    return run


def write(path, run):
    path.write_text(json.dumps(run))  # with NaN and Infinity where there are some, as Python's json writes and reads


def each(name, count, sources):
    """Changed copies of some runs, each with its generator."""
    for number in range(count):
        rng = seeded(name, number)
        yield rng, mutated(rng.choice(sources), rng)


def forged(lines):
    """Lines that look like the gate's outcome, beyond the first."""
    return [one for one in lines[1:] if one.lstrip().startswith("GATE ")]


def test_gate(answer, tmp_path, mixed):
    sources = [*map(read, (*PLAIN, *PROFILED)), mixed]
    for rng, run in each("gate", 500, sources):
        base = rng.choice(sources)
        write(tmp_path / "new.json", run)
        (tmp_path / "storage").mkdir(exist_ok=True)
        for number in range(3):
            earlier = mutated(base, rng) if rng.random() < 0.5 else base
            write(tmp_path / "storage" / f"000{number}_x.json", earlier)
        where = ("--against", "storage/0000_x.json") if rng.random() < 0.5 else ("--storage", "storage")
        status, lines = answer({FINE, RED, BAD_USAGE}, "gate", "new.json", *where)
        if status != BAD_USAGE:
            assert lines[0].startswith("GATE FAILED" if status == RED else "GATE PASSED")
            assert not forged(lines)


def test_history(answer, tmp_path, mixed):
    sources = [*map(read, (*PLAIN, *PROFILED)), mixed]
    (tmp_path / "runs").mkdir()
    for number in range(1, 5):
        write(tmp_path / "runs" / f"000{number}_x.json", read(AA / f"{number:02}.json"))
    for number, (_, run) in enumerate(each("history", 160, sources)):
        write(tmp_path / "runs" / "0009_x.json", run)
        answer({FINE}, "history", "runs")
        if number % 5 == 0:
            answer({FINE}, "history", "runs", "--json", data=True)
        if number % 40 == 0:
            answer({FINE}, "history", "runs", "-o", "drawn.svg")
            ElementTree.parse(tmp_path / "drawn.svg")


def test_explain(answer, tmp_path, mixed):
    sources = [*map(read, PROFILED), mixed]
    for rng, run in each("explain", 400, sources):
        write(tmp_path / "run.json", run)
        data = rng.random() < 0.3
        more = ["second.json"] if rng.random() < 0.3 else []
        write(tmp_path / "second.json", rng.choice(sources))
        answer({FINE, BAD_USAGE}, "explain", "run.json", *more, *(["--json"] if data else []), data=data)


FIGURE = re.compile(r"<svg.*?</svg>", re.DOTALL)


def test_report(answer, tmp_path, mixed):
    sources = [*map(read, (*PLAIN[:2], *PROFILED)), *[mixed] * 4]
    pages = 0
    for rng, run in each("report", 60, sources):
        write(tmp_path / "run.json", run)
        more = ["second.json"] if rng.random() < 0.3 else []
        write(tmp_path / "second.json", rng.choice(sources))
        status, _ = answer({FINE, BAD_USAGE}, "report", "run.json", *more, "-o", "page.html", "--markdown", "page.md")
        if status != FINE:
            continue
        pages += 1
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        text = page.replace("\n", "")
        assert text.isprintable(), sorted({c for c in text if not c.isprintable()})
        assert "<script>alert" not in page
        for figure in FIGURE.findall(page):
            ElementTree.fromstring(figure)
        assert (tmp_path / "page.md").read_text(encoding="utf-8").replace("\n", "").isprintable()
    assert pages >= 15


def journal_of(run, rng):
    """A journal that would become the run."""
    cases = []
    for benchmark in run.get("benchmarks") if isinstance(run.get("benchmarks"), list) else []:
        stats = benchmark.get("stats") if isinstance(benchmark, dict) else None
        if isinstance(stats, dict):
            case = asdict(finished(accuracy_record(), [0.1], "group"))
            case["benchmark"] |= {k: v for k, v in benchmark.items() if k in case["benchmark"]}
            cases.append({"kind": "case", **case, "rounds": stats.get("data")})
    first = {"kind": "header", "schemas": SCHEMA_VERSIONS, **asdict(header())}
    return b"".join(map(line, mutated([first, *cases], rng) if rng.random() < 0.5 else [first, *cases]))


def test_recover(answer, tmp_path, mixed):
    sources = [*map(read, (*PLAIN[:2], *PROFILED)), mixed]
    for number, (rng, run) in enumerate(each("recover", 50, sources)):
        folder = tmp_path / f"storage{number}" / "journal"
        folder.mkdir(parents=True)
        content = journal_of(run, rng)
        content = damaged(content, rng) if content and rng.random() < 0.3 else content
        (folder / "20260501T120000000000Z-1-00000000.jsonl").write_bytes(content)
        answer({FINE, RED}, "recover", "--storage", folder.parent)
        answer({FINE}, "history", folder.parent)
        for saved in folder.parent.glob("*/*.json"):
            assert len(saved.read_bytes()) < 10 * len(content) + 10_000


@pytest.mark.parametrize("arguments", [("gate",), ("explain",), ("report",)])
def test_damaged_bytes(answer, tmp_path, arguments):
    contents = [path.read_bytes() for path in (PLAIN[1], *PROFILED)]
    for number in range(60):
        rng = seeded(*arguments, number)
        (tmp_path / "run.json").write_bytes(damaged(rng.choice(contents), rng))
        output = ["-o", "page.html"] if arguments == ("report",) else []
        answer({FINE, RED, BAD_USAGE} if arguments == ("gate",) else {FINE, BAD_USAGE}, *arguments, "run.json", *output)


def test_names_of_files_and_links(answer, tmp_path):
    hostile = tmp_path / "a\x1b[2J\nGATE PASSED.json"
    hostile.write_bytes(PLAIN[1].read_bytes())
    loop, long = tmp_path / "loop.json", "x" * 5000
    loop.symlink_to(loop)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "again").symlink_to(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe.json")
    for name in (loop, long, tmp_path / "pipe.json", tmp_path / "folder", "\udcff", "missing.json"):
        for arguments in (("gate", name), ("explain", name), ("report", name), ("gate", PLAIN[1], "--against", name)):
            answer({BAD_USAGE}, *arguments)
    for name in (loop, long, tmp_path / "pipe.json"):
        answer({BAD_USAGE}, "history", name)
        answer({BAD_USAGE}, "recover", "--storage", name)
        answer({BAD_USAGE}, "gate", PLAIN[1], "--storage", name)
    for name in (loop, long, tmp_path / "folder"):
        answer({BAD_USAGE}, "report", PLAIN[1], "-o", name)
    answer({FINE}, "history", "folder")
    assert answer({FINE}, "history", ".")[1]
    assert not forged(answer({FINE}, "gate", PLAIN[1], "--storage", ".")[1])
    answer({FINE}, "report", hostile, "-o", "page.html")
