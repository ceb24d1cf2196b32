"""why.measuring.session: which cases there are, which of them are measured together, what their groups are called."""

import pytest
from option_defaults import DEFAULTS

from mpbench.config.settings import check_settings
from mpbench.engine.run import Run
from mpbench.errors import CaseFailure, UsageProblem
from mpbench.why.measuring import probe
from mpbench.why.measuring.session import ALL_LAYERS, PARAMETERS, ProbeCase, ProbeRun, cases_of_kind

pytestmark = pytest.mark.tensorflow

SETTINGS = check_settings(**DEFAULTS | dict(models="vgg16", device="cpu"))


def case(kind, *values, source="bench/test_it.py::test_it"):
    params = tuple(zip(PARAMETERS[kind], values, strict=True))
    return ProbeCase(f"{source}[{'-'.join(values)}]", source, kind, params)


def cases(kind, **more):
    return cases_of_kind(kind, ["vgg16"], SETTINGS, {}, **more)


def test_every_kind_has_cases_with_a_value_for_each_of_its_parameters():
    for kind, names in PARAMETERS.items():
        found = cases(kind)
        assert found
        assert {len(values) for values in found} == {len(names)}
        assert len(set(found)) == len(found)


def test_only_mixed_policies_cast_weights():
    settings = check_settings(**DEFAULTS | dict(precisions="float32,mixed_bfloat16,float16"))
    casting = {values[1] for values in cases_of_kind("parts", ["vgg16"], settings, {}) if values[2] == "casts"}
    assert casting == {"mixed_bfloat16"}


def test_one_case_stands_for_all_layers_until_they_are_known():
    assert {values[1] for values in cases("layers")} == {ALL_LAYERS}
    known = cases_of_kind("layers", ["vgg16", "vgg19"], SETTINGS, {"vgg16": ["conv", "pool"]})
    assert {values[:2] for values in known} == {("vgg16", "conv"), ("vgg16", "pool"), ("vgg19", ALL_LAYERS)}


@pytest.mark.parametrize(
    ("kind", "together", "apart"),
    [
        ("parts", [("vgg16", "float32", "step"), ("vgg16", "mixed_float16", "casts")], ("vgg19", "float32", "step")),
        (
            "layers",
            [("vgg16", "conv", "training", "float32"), ("vgg16", "conv", "training", "mixed_float16")],
            ("vgg16", "conv", "inference", "float32"),
        ),
        ("peaks", [("matmul", "float32"), ("matmul", "mixed_float16")], ("copy", "float32")),
        (
            "feed",
            [("vgg16", "training", "float32", "fed"), ("vgg16", "training", "mixed_float16", "device")],
            ("vgg16", "inference", "float32", "fed"),
        ),
        ("profile", [("vgg16", "training", "float32")], ("vgg16", "training", "mixed_float16")),
    ],
)
def test_a_group_is_what_is_interleaved(kind, together, apart):
    members = [case(kind, *values) for values in together]
    assert len({member.group for member in members}) == 1
    assert len({member.arm for member in members}) == len(members)
    assert case(kind, *apart).group != members[0].group
    assert case(kind, *together[0], source="bench/test_other.py::test_it").group != members[0].group


def test_labels():
    assert case("parts", "vgg16", "float32", "step").label == "vgg16 parts"
    assert case("layers", "vgg16", "conv", "training", "float32").label == "vgg16 conv training layer"
    assert case("peaks", "copy", "float32").label == "peak copy"
    assert case("input").label == "input"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (dict(sweep="batch=1,2"), "--mp-sweep: parts cases are measured at one size"),
        (dict(jit="both"), "--mp-jit: both: parts cases are measured in one way: valid is on, off or auto"),
        (dict(replicas="2"), "--mp-replicas: 2: parts cases are measured in one way: valid is 1"),
    ],
)
def test_sweeps_and_several_ways_are_refused(given, told):
    run = ProbeRun(Run(check_settings(**DEFAULTS | given), print))
    run.select([case("parts", "vgg16", "float32", "step")])
    with pytest.raises(UsageProblem, match=told):
        run.prepare()


def test_what_ends_a_groups_measurement_ends_all_of_its_cases(monkeypatch):
    session = Run(SETTINGS, lambda line: None)
    run = ProbeRun(session)
    members = [case("peaks", "copy", precision) for precision in ("float32", "mixed_float16")]
    run.select(members)

    def interrupted(*args, **kwargs):
        raise TimeoutError("too slow")

    monkeypatch.setattr(probe, "measure_probes", interrupted)
    with pytest.raises(TimeoutError):
        run.result(members[0])
    with pytest.raises(CaseFailure, match="measuring its group ended with TimeoutError: too slow"):
        run.result(members[1])
