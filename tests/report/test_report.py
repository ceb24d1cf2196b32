"""mpbench.report: what the answers say, which sections there are, and the command as users meet it."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from case_records import accuracy_record, numerics_record
from diagnostic_records import end_to_end, peaks, profiled_pair, run_of
from saved_runs import FACTS, cases, fullname, saved_run

from mpbench.__main__ import main
from mpbench.records.measured import Measured
from mpbench.records.numerics import SavedRemedy, as_details
from mpbench.records.runs import SavedRun, read_run
from mpbench.report import sections
from mpbench.report.answers import MAX_LINES, answers
from mpbench.report.content import Command, Drawing, Failure, Note, Photograph, Sentence, SessionStatus, Table
from mpbench.report.sections import report

TIME = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
HOSTILE = '</title><script>alert("1")</script>'


def run(*pairs, accuracy=(), time=TIME, **changes):
    """A run of pairs of a SpeedRecord and its rounds."""
    saved = {fullname(r): Measured(r, tuple(rounds), fullname(r)) for r, rounds in pairs}
    saved |= {fullname(r): Measured(r, (0.1,), fullname(r)) for r in accuracy}
    facts = {"node": "bench-1", "cores": "16", "cpu": "Xeon", **FACTS}
    return replace(SavedRun(Path("run.json"), time, "a" * 40, False, "main", facts, saved), **changes)


def section(found, name):
    (of_name,) = [one for one in found.sections if one.name == name]
    return of_name.blocks


def text_of(blocks):
    """All text of some blocks."""
    return "\n".join(
        " ".join(str(value) for value in vars(block).values()) for block in blocks if not isinstance(block, Photograph)
    )


def test_the_first_answer_says_where_it_pays_and_by_how_much():
    pairs = [*cases(303, 196), *cases(492, 271, "resnet152_v2"), *cases(97, 100, "vgg16", "inference")]
    first, training, inference, memory, accuracy = answers(run(*pairs))
    assert first == (
        "It pays in part: mixed precision (mixed_float16) on NVIDIA V100 pays in training "
        "(1.55 to 1.82 times as fast as float32); "
        "does not pay in inference (0.970 times as fast as float32)."
    )
    assert training == (
        "Training, times as fast [95 % interval], faster: vgg16 1.55 [1.53, 1.56], resnet152_v2 1.82 [1.80, 1.83]."
    )
    assert inference.endswith("slower: vgg16 0.970 [0.960, 0.980].")
    assert memory == "In training, of float32's: vgg16 memory x 1.00; resnet152_v2 memory x 1.00."
    assert accuracy == "What it costs in accuracy was not measured in this run."


def test_a_second_precision_gets_a_sentence_of_its_own():
    more = [(replace(r, precision="mixed_bfloat16"), rounds) for r, rounds in cases(303, 200)[1:]]
    lines = answers(run(*cases(303, 196), *more))
    assert len(lines) == 5
    assert lines[0].startswith("Switch it on: mixed precision (mixed_float16)")
    assert lines[3].startswith("Mixed precision (mixed_bfloat16) on NVIDIA V100 pays in training (1.51 times")


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (
            [*cases(303, 196), *cases(195, 195, "inception_v3")],
            "pays in training for vgg16 only (1.000 to 1.55 times as fast as float32)",
        ),
        (cases(195, 195), "makes nothing in training faster that this run could tell (1.000 times as fast as float32)"),
        (cases(200, 400, device="cpu", device_name="CPU"), "on a CPU does not pay in training (0.50 times as fast"),
    ],
)
def test_nothing_is_claimed_that_no_interval_shows(pairs, words):
    assert words in answers(run(*pairs))[0]


def looked_at(verdict, sentence="why", **changes):
    """A run of a fast pair whose numerics have that verdict."""
    remedy = SavedRemedy("dense in float32", "SAFE", True, "nothing is lost")
    details = as_details([], [], [remedy] if verdict != "SAFE" else [])
    numerics = numerics_record(verdict=verdict, sentence=sentence, details=details, **changes)
    found = run(*cases(303, 196))
    return replace(found, cases=found.cases | {"n": Measured(numerics, (1.0,), "n")})


@pytest.mark.parametrize(
    ("verdict", "first", "line"),
    [
        ("SAFE", "Switch it on: ", "Numerics: SAFE in 1 step, the tightest vgg16 training: why."),
        ("WATCH", "Switch it on, and watch what is named below: ", "Numerics: WATCH, vgg16 training: why; dense in"),
        ("BREAKS", "It pays, but it is not safe as it is: ", "Numerics: BREAKS, vgg16 training: why; dense in float32"),
    ],
)
def test_what_pays_and_is_not_safe_is_not_switched_on(verdict, first, line):
    lines = answers(looked_at(verdict))
    assert lines[0].startswith(first)
    assert any(one.startswith(line) for one in lines)


def test_strict_float32_beside_tf32_is_not_what_is_asked_for():
    base, mixed = cases(33, 16)
    tf32 = (replace(base[0], precision="tf32"), base[1])
    slower = {"precision": "float32", "baseline": "tf32", "speedup": 0.32, "speedup_low": 0.31, "speedup_high": 0.33}
    strict = (replace(base[0], **slower), [3 * s for s in base[1]])
    lines = answers(run(strict, tf32, (replace(mixed[0], baseline="tf32"), mixed[1])))
    assert lines[0].startswith("Switch it on: mixed precision (mixed_float16) on NVIDIA V100 pays in training")
    assert not any("0.32" in line for line in lines)


def test_numerics_of_another_precision_say_nothing_of_this_one():
    assert answers(looked_at("BREAKS", precision="float16"))[0].startswith("Switch it on: ")


def test_the_verdict_is_never_longer_than_it_may_be():
    others = [(replace(r, precision=f"p{number}"), rounds) for number in range(9) for r, rounds in cases(303, 200)[1:]]
    records = [accuracy_record(f"m{number}") for number in range(9)]
    assert len(answers(run(*cases(303, 196), *others, accuracy=records))) <= MAX_LINES


def test_slower_and_unclear_together_are_no_harmless_news():
    first = answers(run(*cases(195, 195), *cases(100, 200, "resnet152_v2")))[0]
    assert "pays for none in training, and slows resnet152_v2 down (0.50 to 1.000 times" in first


def test_what_a_session_lacks_is_said_at_the_top():
    status = SessionStatus([Failure("bench/test_training.py::test[x]", "out of memory")] * 11, interrupted=True)
    notes = report([run(*cases(303, 196))], status).notes
    assert [note.word for note in notes] == ["FAILED"] * 11 + ["INTERRUPTED"]
    assert notes[0].text == "bench/test_training.py::test[x]: out of memory"
    assert notes[10].text == "and 1 more"


def test_a_noise_floor_that_is_none_is_said_at_the_top():
    ratio = {"control": True, "baseline": "float32", "speedup": 1.03, "speedup_low": 1.02, "speedup_high": 1.04}
    control = [(replace(r, **ratio), rounds) for r, rounds in cases(303, 303)[:1]]
    notes = report([run(*cases(303, 196, noisy=True, warmup_settled=False), *control)]).notes
    assert [note.word for note in notes] == ["NOISY", "WARM-UP", "NOISE FLOOR"]
    assert "(vgg16, training: 1.030)" in notes[-1].text


def test_noise_and_throttling_stand_beside_the_figures_that_they_touch():
    noisy = answers(run(*cases(303, 196, noisy=True)))[1]
    assert noisy.endswith("vgg16 1.55 [1.53, 1.56] NOISY.")
    throttled = cases(303, 196, throttled=True, throttled_blocks=",".join(map(str, range(20))))
    assert answers(run(*throttled))[1].endswith("[1.53, 1.56] THROTTLED.")


def test_accuracy_is_an_answer_too():
    lines = answers(run(accuracy=[accuracy_record(), accuracy_record("resnet152_v2", (4938, 10, 12, 40))]))
    assert lines[0] == "Whether mixed precision is faster was not measured in this run, only what it costs in accuracy."
    assert [line.split(":")[:2] for line in lines[1:]] == [["Accuracy", " EQUIVALENT"]] * 2


def test_a_run_without_a_baseline_has_no_answer():
    assert answers(run(cases(303, 196)[0]))[0].startswith("Whether mixed precision pays cannot be told from this run")


def test_a_full_run_has_every_section_and_what_is_missing_says_how_to_measure_it():
    found = report([run(*cases(303, 196))])
    assert found.title == "Mixed precision on NVIDIA V100, 2026-05-01"
    names = [one.name for one in found.sections]
    assert names == ["speedup", "tables", "rounds", "accuracy", "resources", "causes", "history", "environment"]
    commands = {one.name: [b.text for b in one.blocks if isinstance(b, Command)] for one in found.sections}
    assert commands["accuracy"] == ["pytest tests/test_accuracy.py --benchmark-autosave"]
    assert commands["causes"] == ["make why"]
    assert commands["speedup"] == []
    assert all(one.blocks for one in found.sections)
    assert found.notes == []


def test_a_section_without_blocks_is_left_out(monkeypatch):
    own = ("safe", "Is it safe?", lambda run, earlier: [Sentence("Yes.")] if run.speed else [])
    monkeypatch.setattr(sections, "SECTIONS", [own])
    (section,) = report([run(*cases(303, 196))]).sections
    assert (section.name, section.title, section.blocks) == ("safe", "Is it safe?", [Sentence("Yes.")])
    assert report([run(accuracy=[accuracy_record()])]).sections == []


def test_a_cpu_is_said_to_be_one_at_the_top():
    found = report([run(*cases(200, 400, device="cpu", device_name="CPU", memory_kind="host_rss"))])
    assert [note.word for note in found.notes] == ["CPU"]
    assert "Memory per case is known only on a GPU" in text_of(section(found, "resources"))


def test_the_terminals_notes_and_tables_are_there():
    power = {"joules_per_step": 64.0, "joules_spread": 0.01, "power_limited_share": 0.5, "sm_clock_mhz": 1300.0}
    swept = [(replace(r, variant="batch=8", point="batch=8"), rounds) for r, rounds in cases(30, 20)]
    named = [(replace(r, model="m"), rounds) for r, rounds in swept]
    pairs = [*cases(303, 196, noisy=True, throttled_blocks="1,3", skipped_steps=2, **power), *named]
    found = report([run(*pairs)])
    words = {block.word for block in section(found, "speedup") if isinstance(block, Note)}
    assert words == {"NOISY", "THROTTLED", "POWER LIMIT", "SKIPPED"}
    assert any(isinstance(b, Table) and b.title.startswith("Sweep") for b in section(found, "speedup"))
    assert any(isinstance(b, Table) and b.title.startswith("Energy") for b in section(found, "resources"))
    rounds = next(b for b in section(found, "environment") if isinstance(b, Table) and b.title == "Rounds")
    assert [row[-1] for row in rounds.rows[:4]] == ["", "throttled", "", "throttled"]


def test_modes_have_rows_of_their_own():
    off = [(replace(r, mode="jit=off", jit=False), rounds) for r, rounds in cases(303, 196)]
    ratio = {"reference": "jit=off", "reference_ratio": 1.5, "reference_low": 1.4, "reference_high": 1.6}
    on = [(replace(r, model="n", mode="jit=on", **ratio), rounds) for r, rounds in cases(200, 100)]
    tables = [b for b in section(report([run(*off, *on)]), "speedup") if isinstance(b, Table)]
    (xla,) = [one for one in tables if one.title.startswith("XLA's speedup")]
    assert ("n jit=on", "float32", "1.500 [1.400, 1.600]") in xla.rows


def test_causes_are_told_where_they_were_measured():
    found = report([run_of(*peaks(), cases=profiled_pair())])
    first, *blocks = section(found, "causes")
    assert first.columns == ("step", "finding")
    assert first.rows[0] == ("vgg16, training", "Device-bound: the GPU works in 24.0 of 25.0 ms (96 %).")
    assert len(first.rows) <= 6
    assert [block.title.partition(":")[0] for block in blocks if isinstance(block, Drawing)] == [
        "Where the time of a step goes",
        "Layers under the measured roofs",
    ]
    assert found.answers[0].startswith("Switch it on: mixed precision (mixed_float16) on ")


def test_the_input_alone_tells_a_cause():
    found = report([run_of(end_to_end("device", 25), end_to_end("pipeline", 88))])
    assert "float32 is input-bound: an end-to-end step takes 88 ms" in text_of(section(found, "causes"))
    assert found.answers[0].startswith("Whether mixed precision pays was not measured in this run")


def test_settings_that_share_a_step_are_told_apart():
    cases = [*profiled_pair(), *profiled_pair(batch_size=32)]
    first, *_ = section(report([run_of(cases=cases)]), "causes")
    assert {row[0] for row in first.rows} == {
        f"vgg16, training, NVIDIA V100, batch {batch}, 224x224 px, XLA on" for batch in (32, 64)
    }


def test_why_a_case_has_no_profile_is_told():
    none = replace(profiled_pair()[1][0], step_profile="", no_step_profile="CUPTI is missing")
    blocks = section(report([run_of(cases=[profiled_pair()[0], (none, [0.025] * 12)])]), "causes")
    assert Note("NO PROFILE", "vgg16, training: mixed_float16 has no profile: CUPTI is missing.") in blocks


def test_two_runs_are_compared_and_several_are_a_history():
    runs = [run(*cases(303 + i, 196), time=TIME + timedelta(days=i)) for i in range(12)]
    blocks = section(report(runs[:2]), "history")
    (beside,) = [b for b in blocks if isinstance(b, Table) and b.title.startswith("Run of 2026-05-01")]
    assert [cell.text for cell in beside.rows[0][1:3]] == ["303.000", "304.000"]
    assert any(isinstance(b, Table) and b.title == "Verdicts" for b in blocks)
    several = section(report(runs), "history")
    assert not any(isinstance(b, Table) and b.title.startswith("Run of") for b in several)
    assert any(isinstance(b, Drawing) for b in several)
    assert report(runs[::-1]).title == report(runs[-1:]).title


def test_what_differs_between_two_runs_is_named():
    then, now = run(*cases(303, 196)), run(*cases(303, 196, batch_size=32), time=TIME + timedelta(days=1))
    (beside,) = [b for b in section(report([then, now]), "history") if getattr(b, "title", "").startswith("Run of")]
    assert beside.rows[0][-1] == "batch_size 64 -> 32"


def test_the_command_is_what_was_typed_where_the_run_says_so():
    typed = report([run(*cases(303, 196), command="pytest bench/ --mp-control")])
    commands = [b.text for b in section(typed, "environment") if isinstance(b, Command)]
    assert commands == ["pytest bench/ --mp-control"]
    made = [b.text for b in section(report([run(*cases(303, 196))]), "environment") if isinstance(b, Command)]
    assert made == []


@pytest.fixture
def saved(tmp_path):
    pairs = [*cases(303, 196), *cases(138, 100, phase="inference"), (accuracy_record(), [0.1] * 5)]
    return saved_run(tmp_path / "runs", time="2026-05-01T12:00:00+00:00", commit="c0ffee1", records_and_rounds=pairs)


def test_the_command_writes_what_is_asked_for(saved, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(saved)]) == 0
    assert capsys.readouterr().out == "report.html: written\n"
    page = (tmp_path / "report.html").read_text()
    assert "mixed precision (mixed_float16) on NVIDIA V100 pays in training" in page
    args = ["--markdown", "r.md", "--latex", "r.tex", "--png", "figures"]
    assert main(["report", str(saved), str(saved), *args]) == 0
    assert "1.546" in (tmp_path / "r.md").read_text()
    assert "\\toprule" in (tmp_path / "r.tex").read_text()
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".png", ".pdf", ".svg"}


def test_no_tensorflow_is_imported(saved, tmp_path):
    code = (
        "import sys; from mpbench.__main__ import main; "
        f"main(['report', {str(saved)!r}, '-o', {str(tmp_path / 'r.html')!r}]); "
        "print(sorted({'tensorflow', 'keras', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"


def test_what_draws_is_loaded_by_the_report_alone(saved, tmp_path):
    code = f"""
import importlib, pkgutil, sys
from pathlib import Path
import mpbench.plugin
for module in pkgutil.iter_modules(mpbench.plugin.__path__, "mpbench.plugin."):
    importlib.import_module(module.name)
from mpbench.__main__ import main
from mpbench.records.numerics import SavedRemedy, as_details
from mpbench.records.runs import read_run
from mpbench.report.accuracy import accuracy_lines
from mpbench.report.content import SessionStatus
from mpbench.report.speed_tables import speed_lines
from mpbench.report.summary import summary
from mpbench.why.reading.command import session_lines
run = read_run(Path({str(saved)!r}))
compared = [case.record for case in run.accuracy.values()]
assert speed_lines(list(run.speed.values())) and accuracy_lines(compared) and session_lines(run) == []
assert summary(list(run.speed.values()), compared, None, SessionStatus())
for command in ("gate", "explain", "history"):
    main([command, {str(saved)!r} if command != "history" else {str(saved.parent)!r}])
print(sorted({{"matplotlib", "jinja2"}} & set(sys.modules)))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["missing.json"], r"report: .*missing\.json: No such file or directory"),
        (["damaged.json"], r"report: .*damaged\.json: truncated or not JSON: .*"),
        (["foreign.json"], r"report: .*foreign\.json: benchmarks: none is a case of mpbench"),
        (["RUN", "-o", "RUN"], r"-o: .* is one of the runs: name another file"),
        (["RUN", "-o", "nix/r.html"], r"-o: nix/r\.html: must be a file in a folder that exists"),
        (["RUN", "-o", "."], r"-o: \.: must be a file in a folder that exists"),
        (["RUN", "-o", "a", "--latex", "a"], r"-o, --latex: the same file: must be different ones"),
        (["RUN", "--png", "damaged.json"], r"--png: damaged\.json: must be a folder; a missing one is made"),
        (["RUN", "--speed"], r"mpbench: unrecognized arguments: --speed: -h shows what is valid"),
        ([], r"report: the following arguments are required: RUN\.json: -h shows what is valid"),
    ],
)
def test_wrong_uses_are_one_line(saved, tmp_path, capsys, monkeypatch, args, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.json").write_text('{"benchmarks": [')
    (tmp_path / "foreign.json").write_text('{"benchmarks": [{"fullname": "x", "extra_info": {}}]}')
    assert main(["report", *(str(saved) if arg == "RUN" else arg for arg in args)]) == 4
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert re.fullmatch(line, printed.strip()), printed


def test_a_damaged_field_is_named_with_its_file(saved, capsys):
    content = json.loads(saved.read_text())
    content["benchmarks"][0]["extra_info"]["batch_size"] = "64"
    saved.write_text(json.dumps(content))
    assert main(["report", str(saved)]) == 4
    assert re.search(r'0001_.*\.json: bench/test_training.*: batch_size: "64": valid is int', capsys.readouterr().err)


def test_hostile_names_are_text(tmp_path, capsys):
    pairs = [(replace(r, model=HOSTILE, device_name=HOSTILE, variant=HOSTILE), rounds) for r, rounds in cases(303, 196)]
    one = saved_run(
        tmp_path / "runs",
        time=TIME,
        commit="c0ffee1",
        records_and_rounds=pairs,
        machine={"gpu": HOSTILE, "node": HOSTILE, "cpu": HOSTILE, HOSTILE: HOSTILE},
        mpbench={"command": HOSTILE},
    )
    assert read_run(one).command == HOSTILE
    assert main(["report", str(one), "-o", str(tmp_path / "r.html"), "--markdown", str(tmp_path / "r.md")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert page.count("<script") == 1
    assert page.count("</title>") - page.count("<title") == 0
    assert "alert(&#34;1&#34;)" in page
    assert "<script" not in re.sub(r"```.*?```|`[^`]*`", "", (tmp_path / "r.md").read_text(), flags=re.DOTALL)
