"""The gate's thresholds: read from TOML, and refused by the name of the key."""

import re

import pytest

from mpbench.errors import UsageProblem
from mpbench.gate.lines import gate_lines
from mpbench.gate.rules import Rules, read_rules
from mpbench.gate.verdict import Figure, Kind, Verdict

WHOLE = """
slower = 2.5
faster = "10 %"
last = 7
missing = "fail"
[cases."vgg16-*"]
slower = 8
[cases.inference]
faster = 20.25
"""


def test_a_file_of_its_own(tmp_path):
    path = tmp_path / "gate.toml"
    path.write_text(WHOLE)
    rules = read_rules(path)
    assert (rules.slower, rules.faster, rules.last, rules.missing_fails) == (0.025, 0.1, 7, True)
    assert rules.thresholds("bench/test_inference.py::test_inference[vgg16-float32]") == (0.08, 0.1)
    assert rules.thresholds("bench/test_inference.py::test_inference[mine-float32]") == (0.025, 0.2025)
    assert rules.thresholds("bench/test_training.py::test_training[mine-float32]") == (0.025, 0.1)


def test_pyproject(tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_text("[tool.other]\nslower = 1\n[tool.mpbench.gate]\nslower = 4")
    assert read_rules(path).slower == 0.04
    path.write_text("[project]\nname = 'x'")
    assert read_rules(path) == Rules()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("slowr = 3", "unknown key 'slowr' .did you mean slower.?.: valid are slower, faster, last, missing, cases"),
        ("slower = 0", "slower = 0: must be a percentage between 0 and 100"),
        ("slower = true", "slower = True: must be a percentage"),
        ("slower = [3]", r"slower = \[3\]: must be a percentage"),
        ("faster = 'much'", "faster = 'much': must be a percentage"),
        ("slower = nan", "slower = nan: must be a percentage"),
        ("last = 0", "last = 0: must be a whole number of runs"),
        ("last = 2.5", "last = 2.5: must be a whole number of runs"),
        ("missing = 'maybe'", "missing = 'maybe': must be one of report, fail"),
        ("cases = 3", "cases = 3: must be a table of patterns"),
        ("[cases]\nvgg16 = 3", "cases.'vgg16' = 3: must be a table of slower, faster"),
        (
            "[cases.vgg16]\nslow = 3",
            "cases.'vgg16': unknown key 'slow' .did you mean slower.?.: valid are slower, faster",
        ),
        ("slower 3", "not TOML"),
        ("\xff", "not TOML"),
    ],
)
def test_what_is_malformed_is_named(tmp_path, content, words):
    path = tmp_path / "gate.toml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageProblem, match=words) as caught:
        read_rules(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "[tool.mpbench]\nslower = 3",
            "pyproject.toml: [tool.mpbench]: 'slower' is a rule of the gate: put it in [tool.",
        ),
        (
            "[tool.mpbench.gates]\nslower = 3",
            "pyproject.toml: unknown table [tool.mpbench.gates]: valid is [tool.mpbench",
        ),
        (
            "[tool.mpbench.gate]\nmax-time = 3",
            "pyproject.toml: [tool.mpbench.gate]: 'max-time' is an option, not a rule",
        ),
    ],
)
def test_rules_in_the_wrong_table_are_not_passed_over(tmp_path, content, words):
    path = tmp_path / "pyproject.toml"
    path.write_text(content)
    with pytest.raises(UsageProblem, match=re.escape(words)):
        read_rules(path)


def test_a_pattern_that_fits_no_case_is_named():
    rules = Rules(cases=(("vgg61", 0.08, None), ("vgg16-*16]", 0.08, None), ("NEVER", 0.08, None), ("gone", 0.1, None)))
    verdicts = [
        Verdict("bench/test_training.py::test_training[vgg16-mixed_float16]", Figure.SPEEDUP, Kind.SAME),
        Verdict("bench/test_training.py::test_gone", Figure.TIME, Kind.NOT_SELECTED),
    ]
    told = [line for line in gate_lines(verdicts, rules) if "fits no case" in line]
    assert told == [
        "  the rules' cases.'vgg61' fits no case: must be a part of a full name, or a glob",
        "  the rules' cases.'NEVER' fits no case: must be a part of a full name, or a glob",
    ]
    assert not [line for line in gate_lines(verdicts, Rules()) if "fits no case" in line]


def test_a_missing_file(tmp_path):
    with pytest.raises(UsageProblem, match=r"nowhere.toml: No such file or directory: must be a TOML file"):
        read_rules(tmp_path / "nowhere.toml")
