"""mpbench.config.settings: every wrong option gives one line that names it, what was given and what is valid."""

from dataclasses import fields

import pytest

from mpbench.config.options import OPTIONS
from mpbench.config.precisions import CONTROL
from mpbench.config.settings import Settings, check_image_size, read_settings
from mpbench.errors import UsageProblem


def settings_of(has_tf32=lambda: False, **typed):
    return read_settings({f"mp_{name}": value for name, value in typed.items()}, has_tf32)


def test_every_option_is_a_setting():
    assert {field.name for field in fields(Settings)} == {option.setting for option in OPTIONS} | {"given_precisions"}


def test_defaults():
    settings = settings_of()
    assert settings.models == ("vgg16", "inception_v3", "resnet152_v2")
    assert settings.arms == ("float32", "mixed_float16")
    assert settings.xla is None
    assert settings.resolved_profile("gpu").tolerance == 0.01
    assert settings.resolved_profile("cpu").tolerance == 0.05
    assert settings.resolved_profile("gpu").batch_size == 64
    assert settings.resolved_profile("gpu").image_size_px == 224
    assert settings.resolved_profile("cpu").name == "quick"


@pytest.mark.parametrize(
    ("given", "precisions", "baseline"),
    [
        (dict(), ("float32", "tf32", "mixed_float16"), "tf32"),
        (dict(device="gpu"), ("float32", "tf32", "mixed_float16"), "tf32"),
        (dict(device="cpu"), ("float32", "mixed_float16"), "float32"),
        (dict(jit="off"), ("tf32", "mixed_float16"), "tf32"),
        (dict(jit="both"), ("tf32", "mixed_float16"), "tf32"),
        (dict(replicas="2"), ("tf32", "mixed_float16"), "tf32"),
        (dict(baseline="float32"), ("float32", "tf32", "mixed_float16"), "float32"),
        (dict(precisions="float32,mixed_float16"), ("float32", "mixed_float16"), "float32"),
        (dict(precisions="tf32,mixed_bfloat16"), ("tf32", "mixed_bfloat16"), "tf32"),
    ],
)
def test_what_is_measured_where_the_gpu_computes_float32_in_tf32(given, precisions, baseline):
    settings = settings_of(lambda: True, **given)
    assert (settings.precisions, settings.baseline) == (precisions, baseline)


def test_accuracy_is_judged_against_strict_float32_unless_somebody_names_precisions():
    settings = settings_of(lambda: True)
    assert (settings.accuracy_baseline, settings.compared) == ("float32", ("mixed_float16",))
    settings = settings_of(lambda: True, baseline="mixed_float16")
    assert (settings.accuracy_baseline, settings.compared) == ("mixed_float16", ("float32",))
    settings = settings_of(lambda: True, precisions="tf32,mixed_bfloat16")
    assert (settings.accuracy_baseline, settings.compared) == ("tf32", ("mixed_bfloat16",))


def test_the_gpu_is_asked_only_where_it_matters():
    def ask():
        raise AssertionError

    for given in (dict(device="cpu"), dict(precisions="float32,mixed_float16")):
        settings_of(ask, **given)


def test_overrides_keep_the_rest_of_the_profile():
    settings = settings_of(profile="paper", batch_size="8", max_time="2.5")
    profile = settings.resolved_profile("cpu")
    assert (profile.name, profile.batch_size, profile.image_size_px, profile.max_seconds) == ("paper", 8, 224, 2.5)


def test_control_is_a_further_arm_in_the_baselines_precision():
    settings = settings_of(control=True)
    assert settings.arms == ("float32", "mixed_float16", CONTROL)
    assert settings.arm_precision(CONTROL) == "float32"
    assert settings.arm_precision("mixed_float16") == "mixed_float16"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(models="vgg17"), ["--mp-models", "'vgg17'", "resnet152_v2"]),
        (dict(models="vgg16,"), ["--mp-models", "empty name"]),
        (dict(models="vgg16,VGG16"), ["--mp-models", "twice"]),
        (dict(models=":factory"), ["--mp-models", "package.module:callable"]),
        (dict(models="no-module:x"), ["--mp-models", "package.module:callable"]),
        (dict(precisions="fp16"), ["--mp-precisions", "'fp16'", "mixed_float16"]),
        (dict(precisions="float32,float32"), ["--mp-precisions", "twice"]),
        (dict(baseline="double"), ["--mp-baseline", "'double'", "float32"]),
        (dict(baseline="tf32"), ["--mp-baseline", "tf32", "float32, mixed_float16"]),
        (dict(device="tpu"), ["--mp-device", "'tpu'", "auto, gpu, cpu"]),
        (dict(profile="slow"), ["--mp-profile", "'slow'", "paper, quick"]),
        (dict(batch_size="0"), ["--mp-batch-size", "'0'", "1 or more"]),
        (dict(batch_size="-3"), ["--mp-batch-size", "'-3'"]),
        (dict(batch_size="two"), ["--mp-batch-size", "'two'", "whole number of images"]),
        (dict(image_size="1.5"), ["--mp-image-size", "'1.5'", "pixels"]),
        (dict(jit="maybe"), ["--mp-jit", "'maybe'", "auto, on, off, both"]),
        (dict(replicas="0"), ["--mp-replicas", "'0'", "whole number of replicas, 1 or more"]),
        (dict(replicas="2", sweep="batch=4,max"), ["--mp-sweep", "batch=max", "--mp-replicas=2", "numbers"]),
        (dict(jit="both", replicas="2"), ["--mp-jit", "both", "--mp-replicas=2", "use off or auto"]),
        (dict(tolerance="0"), ["--mp-tolerance", "'0'", "above 0"]),
        (dict(tolerance="nan"), ["--mp-tolerance", "'nan'"]),
        (dict(max_time="inf"), ["--mp-max-time", "'inf'"]),
        (dict(control=True, precisions="mixed_float16"), ["--mp-control", "float32"]),
        (dict(require_gpu=True, device="cpu"), ["--mp-require-gpu", "--mp-device=cpu"]),
        (dict(data=" "), ["--mp-data", "generated, download, or the path"]),
        (dict(weights=""), ["--mp-weights", "imagenet, random, a file or a folder"]),
        (dict(preprocessing="keras"), ["--mp-preprocessing", "'keras'", "model, thesis"]),
        (dict(alpha="0"), ["--mp-alpha", "'0'", "between 0 and 1"]),
        (dict(alpha="5%"), ["--mp-alpha", "'5%'"]),
        (dict(alpha="1"), ["--mp-alpha", "'1'"]),
        (dict(margin="-1"), ["--mp-margin", "'-1'", "percentage points between 0 and 100"]),
        (dict(margin="nan"), ["--mp-margin", "'nan'"]),
        (dict(batch_size="8", sweep="batch=2,max"), ["--mp-batch-size", "--mp-sweep=batch=2,max", "use one of them"]),
        (dict(gate_confirm="1"), ["--mp-gate-confirm: 1: use it together with --mp-gate"]),
        (dict(gate_missing="fail"), ["--mp-gate-missing: fail: use it together with --mp-gate"]),
        (dict(gate_confirm="-1", gate=True), ["--mp-gate-confirm", "'-1'", "0 to 999"]),
        (dict(gate_missing="maybe", gate=True), ["--mp-gate-missing", "'maybe'", "report, fail"]),
        (dict(lock="no"), ["--mp-lock: unknown 'no': valid are wait, fail, off"]),
        (dict(summary=""), ["--mp-summary", "must be a file"]),
    ],
)
def test_a_wrong_option_is_one_clear_line(given, words):
    with pytest.raises(UsageProblem) as caught:
        settings_of(**given)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_image_size_is_checked_per_model():
    check_image_size(["vgg16", "my.module:factory"], 32)
    with pytest.raises(UsageProblem, match="xception: must be 71"):
        check_image_size(["vgg16", "xception"], 70)


def test_the_recipe_is_the_thesis_protocol_only_where_asked_for():
    quick = settings_of()
    assert (quick.recipe_name, quick.recipe.weights, quick.recipe.standardise) == ("quick", "random", True)
    paper = settings_of(profile="paper").recipe
    assert (paper.images, paper.batch_size, paper.image_size_px, paper.epochs) == (None, 64, 224, 8)
    assert (paper.learning_rate, paper.standardise, paper.weights) == (1e-4, False, "imagenet")


def test_overrides_reach_the_recipe():
    settings = settings_of(batch_size="5", image_size="96", weights="~/w", alpha="0.01", margin="0.5")
    assert (settings.recipe.batch_size, settings.recipe.image_size_px, settings.recipe.weights) == (5, 96, "~/w")
    assert (settings.alpha, settings.margin) == (0.01, 0.005)
    assert settings_of(preprocessing="thesis").preprocessing == "thesis"


def test_accuracy_compares_every_precision_with_the_baseline():
    settings = settings_of(precisions="tf32,float32,float16", control=True)
    assert settings.compared == ("tf32", "float16")
    for precisions in ("float32", "mixed_float16"):
        with pytest.raises(UsageProblem, match="valid for accuracy are the baseline float32 and at least one other"):
            _ = settings_of(precisions=precisions).compared
