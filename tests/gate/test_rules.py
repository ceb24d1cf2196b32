"""The gate's thresholds: read from TOML, and refused by the name of the key."""

import pytest

from mpbench.errors import UsageProblem
from mpbench.gate.rules import Rules, read_rules

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
        ("slowr = 3", "unknown key 'slowr': valid are slower, faster, last, missing, cases"),
        ("slower = 0", "slower = 0: valid is a percentage between 0 and 100"),
        ("slower = true", "slower = True: valid is a percentage"),
        ("slower = [3]", r"slower = \[3\]: valid is a percentage"),
        ("faster = 'much'", "faster = 'much': valid is a percentage"),
        ("slower = nan", "slower = nan: valid is a percentage"),
        ("last = 0", "last = 0: valid is a whole number of runs"),
        ("last = 2.5", "last = 2.5: valid is a whole number of runs"),
        ("missing = 'maybe'", "missing = 'maybe': valid are 'report', 'fail'"),
        ("cases = 3", "cases = 3: valid is a table of patterns"),
        ("[cases]\nvgg16 = 3", "cases.'vgg16' = 3: valid is a table of slower, faster"),
        ("[cases.vgg16]\nslow = 3", "cases.'vgg16': unknown key 'slow': valid are slower, faster"),
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


def test_a_missing_file(tmp_path):
    with pytest.raises(UsageProblem, match=r"nowhere.toml: No such file or directory: valid is a TOML file"):
        read_rules(tmp_path / "nowhere.toml")
