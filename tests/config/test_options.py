"""mpbench.config.options, values and page: the table of options, single values, and the document that comes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT

from mpbench.config.options import CHIEF_ONLY, OPTIONS, fill_in
from mpbench.config.page import options_page
from mpbench.config.values import names, number, on_or_off, one_of, whole_number
from mpbench.errors import UsageProblem

WITH_VALUE = [option for option in OPTIONS if not option.is_flag]


def test_the_document_is_the_tables():
    written = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert written == options_page(), "python -m mpbench.config.page > docs/options.md"


def test_what_several_workers_leave_to_their_chief():
    assert set(CHIEF_ONLY) == {"mp_gate", "mp_gate_missing", "mp_gate_confirm", "mp_report", "mp_summary"}


def test_the_profiles_defaults_are_in_the_help():
    defaults = {option.name: option.default_in_words for option in OPTIONS}
    assert defaults["batch-size"] == "paper: 64; quick: 2, accuracy 32"
    assert defaults["tolerance"] == "paper: 1; quick: 5"
    assert defaults["weights"] == "paper: imagenet; quick: random"
    assert defaults["profile"] == "paper on a GPU, quick on a CPU, quick for accuracy"


@pytest.mark.parametrize("option", WITH_VALUE, ids=lambda option: option.name)
@given(text=st.text() | st.text("0123456789.,=-ex") | st.sampled_from(["nan", "-0", "1_0", "9" * 5000]))
def test_any_text_is_a_value_or_refused_in_one_line(option, text):
    line = ""
    try:
        value = option.value(text)
    except UsageProblem as problem:
        line = str(problem)
    assert line.startswith(f"{option.typed}: ") if line else value is not None
    assert line.isprintable()


@given(st.integers(1), st.integers(max_value=0))
def test_whole_numbers(valid, invalid):
    kind = whole_number("steps")
    assert kind.parse("--x", str(valid)) == valid
    with pytest.raises(UsageProblem, match=f"^--x: '{invalid}': must be a whole number of steps, 1 or more$"):
        kind.parse("--x", str(invalid))
    assert whole_number("steps", least=invalid).parse("--x", str(invalid)) == invalid
    with pytest.raises(UsageProblem, match=r"must be a whole number of steps, 1 to 5$"):
        whole_number("steps", most=5).parse("--x", str(valid + 5))


@given(st.floats(), st.sampled_from([1.0, 100.0, float("inf")]))
def test_numbers(value, below):
    kind = number(below=below, divisor=100)
    if 0 < value < below:
        assert kind.parse("--x", repr(value)) == value / 100
    else:
        with pytest.raises(UsageProblem, match=r"^--x: .*: must be a number (above 0|between 0 and 1(00)?)$"):
            kind.parse("--x", repr(value))


@given(st.lists(st.from_regex(r"[a-z]\w*", fullmatch=True), min_size=1))
def test_names(given_names):
    kind = names("names", lambda where, name: name)
    if len(set(given_names)) == len(given_names):
        assert kind.parse("--x", " , ".join(given_names)) == tuple(given_names)
    else:
        with pytest.raises(UsageProblem, match=r"twice: name each once$"):
            kind.parse("--x", ",".join(given_names))
    with pytest.raises(UsageProblem, match="has an empty name"):
        kind.parse("--x", ",".join([*given_names, ""]))


@given(st.text())
def test_words(text):
    if text in ("a", "b"):
        assert one_of("a", "b").parse("--x", text) == text
    else:
        with pytest.raises(UsageProblem, match=r"^--x: unknown .*: valid are a, b$"):
            one_of("a", "b").parse("--x", text)
    assert (on_or_off().parse("--x", "on"), on_or_off().parse("--x", "off")) == (True, False)


def filled(of_project, **typed):
    values = {option.dest: typed.get(option.setting) for option in OPTIONS}
    fill_in(values, {f"mp_{name}": value for name, value in of_project.items()})
    return {name.removeprefix("mp_"): value for name, value in values.items()}


def test_typed_goes_before_the_projects_and_that_before_the_default():
    project = {"jit": "off", "max_time": "5", "control": True, "why": True}
    values = filled(project, jit="on", why=False)
    assert (values["jit"], values["max_time"], values["lock"]) == ("on", "5", "wait")
    assert (values["control"], values["why"], values["resume"]) == (True, False, False)


@pytest.mark.parametrize(
    ("project", "typed", "left"),
    [
        ({"batch_size": "8", "image_size": "96"}, {"sweep": "batch=2,4"}, {"image_size": "96", "sweep": "batch=2,4"}),
        ({"sweep": "image=96,128"}, {"image_size": "75"}, {"image_size": "75"}),
        ({"sweep": "image=96,128"}, {"batch_size": "8"}, {"batch_size": "8", "sweep": "image=96,128"}),
        ({"batch_size": "8", "sweep": "batch=2"}, {}, {"batch_size": "8", "sweep": "batch=2"}),
    ],
)
def test_what_cannot_be_had_together_with_what_was_typed_is_left_out(project, typed, left):
    values = filled(project, **typed)
    assert {name: values[name] for name in ("batch_size", "image_size", "sweep") if values[name]} == left


def test_processes_that_confirm_wait_for_the_gate():
    assert filled({"gate_confirm": "3"})["gate_confirm"] is None
    assert filled({"gate_confirm": "3"}, gate=True)["gate_confirm"] == "3"
