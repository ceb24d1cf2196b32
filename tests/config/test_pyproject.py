"""mpbench.config.pyproject: options that a project sets for good, and each way to get them wrong."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbench.config.options import OPTIONS
from mpbench.config.pyproject import options_of_project
from mpbench.config.settings import read_settings
from mpbench.errors import UsageProblem

SETTABLE = {option.name: option for option in OPTIONS if not option.not_in_pyproject}


def read(folder, content):
    (folder / "pyproject.toml").write_text(content, encoding="utf-8")
    return options_of_project(folder)


def test_values_are_as_they_would_be_typed(tmp_path):
    found = read(
        tmp_path,
        """
        [tool.mpbench]
        models = ["vgg16", "my.module:factory"]
        precisions = "float32,mixed_bfloat16"
        batch-size = 8
        tolerance = 2.5
        max-time = 30
        energy = false
        jit = true
        lock = "fail"
        control = true
        why = false
        gate-confirm = 3

        [tool.mpbench.gate]
        slower = 4
        """,
    )
    assert found == {
        "mp_models": "vgg16,my.module:factory",
        "mp_precisions": "float32,mixed_bfloat16",
        "mp_batch_size": "8",
        "mp_tolerance": "2.5",
        "mp_max_time": "30",
        "mp_energy": "off",
        "mp_jit": "on",
        "mp_lock": "fail",
        "mp_control": True,
        "mp_why": False,
        "mp_gate_confirm": "3",
    }
    settings = read_settings(found | {"mp_gate": True}, has_tf32=lambda: False)
    assert (settings.models, settings.energy, settings.xla) == (("vgg16", "my.module:factory"), False, True)


@pytest.mark.parametrize(
    "content", ["[project]\nname = 'x'", "[tool.other]\nmodels = 3", "[tool.mpbench]", "[not TOML"]
)
def test_a_file_that_sets_nothing(tmp_path, content):
    assert options_of_project(tmp_path) == {}
    assert read(tmp_path, content) == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("batch_size = 8", ": unknown key 'batch_size' (did you mean batch-size?): valid are models, precisions, "),
        ("mp-jit = 'on'", ": unknown key 'mp-jit' (did you mean jit?): valid are "),
        ("slower = 3", ": 'slower' is a rule of the gate: put it in [tool.mpbench.gate]"),
        ("cases = {}", ": 'cases' is a rule of the gate: put it in [tool.mpbench.gate]"),
        ("gate = true", ": gate = true: must be [tool.mpbench.gate], the table of its rules; use --mp-gate on "),
        ("gate-missing = 'fail'", ": 'gate-missing' is for the command line: use `missing` in [tool.mpbench.gate]"),
        ("batch-size = 0", " batch-size: '0': must be a whole number of images, 1 or more"),
        ("batch-size = 2.5", " batch-size = 2.5: must be a whole number of images, 1 or more"),
        ("batch-size = true", " batch-size = true: must be a whole number of images, 1 or more"),
        ("control = 1", " control = 1: must be true or false"),
        ("control = 'on'", " control = 'on': must be true or false"),
        ("device = true", " device = true: must be one of auto, gpu, cpu"),
        ("energy = 'maybe'", " energy: unknown 'maybe': valid are on, off"),
        ("models = ['vgg17']", " models: unknown model 'vgg17' (did you mean vgg"),
        ("models = [3]", " models = [3]: must be names of models, separated by commas, or a list"),
        ("models = []", " models = []: must be names of models"),
        ("data = 3", " data = 3: must be generated, download, or the path of a zip or a folder"),
        ("[tool.mpbench.models]\nx = 3", " models = {'x': 3}: must be names of models"),
    ],
)
def test_a_mistake_in_the_table_is_named(tmp_path, content, words):
    with pytest.raises(UsageProblem) as caught:
        read(tmp_path, f"[tool.mpbench]\n{content}")
    assert str(caught.value).startswith(f"{tmp_path / 'pyproject.toml'}: [tool.mpbench]{words}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[tool.mpbench.gates]\nslower = 3", "unknown table [tool.mpbench.gates]: valid is [tool.mpbench.gate]"),
        ('[tool.mpbench."a\\nb"]\nslower = 3', "unknown table [tool.mpbench.a?b]: valid is [tool.mpbench.gate]"),
        ("[tool.mpbench.gate]\nmax-time = 3", "[tool.mpbench.gate]: 'max-time' is an option, not a rule of the gate: "),
        ("[tool]\nmpbench = 3", "[tool.mpbench] = 3: must be a table"),
        ("[[tool.mpbench]]\nx = 1", "[tool.mpbench] = [{'x': 1}]: must be a table"),
        ("[tool.mpbench\nx = 3", "not TOML: "),
    ],
)
def test_a_table_in_the_wrong_place_is_named(tmp_path, content, words):
    with pytest.raises(UsageProblem) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'pyproject.toml'}: {words}")
    assert str(caught.value).isprintable()


def test_what_is_not_utf_8(tmp_path):
    (tmp_path / "pyproject.toml").write_bytes(b"[tool.mpbench]\ndata = '\xff'")
    with pytest.raises(UsageProblem, match=r"pyproject.toml: not TOML: "):
        options_of_project(tmp_path)


SCALARS = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("ab1,=.é\n\x1b")


@given(st.sampled_from(sorted(SETTABLE)), SCALARS | st.lists(SCALARS))
def test_any_value_is_what_could_be_typed_or_refused_in_one_line(tmp_path_factory, name, value):
    folder = tmp_path_factory.getbasetemp() / "project"  # of its own: pytest looks for one in all folders above
    folder.mkdir(exist_ok=True)
    option, line = SETTABLE[name], ""
    try:
        found = read(folder, f"[tool.mpbench]\n{name} = {json.dumps(value)}")
    except UsageProblem as problem:
        line = str(problem)
    start = f"{folder / 'pyproject.toml'}: [tool.mpbench] {name}"
    assert line.startswith(start) if line else option.value(found[option.dest]) is not None
    assert line.isprintable()
