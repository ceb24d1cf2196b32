"""mpbench.engine.models: names without Keras, Table 1 of the thesis, heads, losses and users' factories."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbench.config.model_names import APPLICATIONS, DEFAULT_MODELS, canonical_name, min_image_size_px
from mpbench.config.precisions import PRECISIONS
from mpbench.engine.factories import check_factory, load_factory
from mpbench.engine.models import CLASSES, build_model, compile_model
from mpbench.errors import CaseFailure, UsageProblem

pytestmark = pytest.mark.tensorflow

SHAPE = (16, 16, 3)


@given(st.sampled_from(sorted(APPLICATIONS)), st.booleans())
def test_any_spelling_of_an_architecture_is_understood(name, squeeze):
    spelled = APPLICATIONS[name].swapcase() if squeeze else name.replace("_", "-")
    assert canonical_name(spelled) == canonical_name(APPLICATIONS[name]) == name


def test_every_name_is_an_architecture_of_the_installed_keras():
    import keras

    for name in APPLICATIONS.values():
        assert callable(getattr(keras.applications, name))


@pytest.mark.parametrize("name", ["inception_v3", "xception", "vgg16"])
def test_the_minimum_size_is_keras_own(name):
    import keras

    application = getattr(keras.applications, APPLICATIONS[name])
    size = min_image_size_px(name)
    application(weights=None, include_top=False, input_shape=(size, size, 3))
    with pytest.raises(ValueError, match="at least"):
        application(weights=None, include_top=False, input_shape=(size - 1, size - 1, 3))


def test_names_are_checked_without_importing_tensorflow():
    code = "import sys; from mpbench.config.model_names import canonical_name as c; c('VGG16'); "
    code += "sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def depth(model, counts):
    """Layers on the longest path from input to output, of those that count."""
    longest = {}
    for config in model.get_config()["layers"]:
        before = [longest[name] for name in _inbound(config["inbound_nodes"])]
        longest[config["name"]] = max(before, default=0) + counts(model.get_layer(config["name"]))
    return max(longest.values())


def _inbound(value):
    if isinstance(value, dict):
        if "keras_history" in value:
            return [value["keras_history"][0]]
        value = list(value.values())
    return [name for part in value for name in _inbound(part)] if isinstance(value, (list, tuple)) else []


@pytest.mark.parametrize(
    ("name", "layers", "millions", "counted"),
    [
        ("vgg16", 16, 138, ("Conv2D", "Dense")),
        # The thesis took Keras's "depth" here, which counts every layer on the path, not only those with weights.
        ("inception_v3", 159, 24, None),
        ("resnet152_v2", 152, 60, ("Conv2D", "Dense")),
    ],
)
def test_table_1(name, layers, millions, counted):
    import keras

    model = getattr(keras.applications, APPLICATIONS[name])(weights=None)
    assert depth(model, lambda layer: counted is None or type(layer).__name__ in counted) == layers
    assert round(model.count_params() / 1e6) == millions
    assert name in DEFAULT_MODELS


@pytest.mark.parametrize("precision", PRECISIONS.values(), ids=str)
def test_the_head_is_the_thesis_and_its_softmax_float32(precision):
    import keras

    model = build_model("tiny_models:feature_map", 16, precision)
    assert [type(layer).__name__ for layer in model.layers[-4:]] == [
        "GlobalAveragePooling2D",
        "Dense",
        "Dense",
        "Activation",
    ]
    assert model.layers[-3].units == 1024
    assert model.output_shape == (None, CLASSES)
    assert model.layers[-1].compute_dtype == "float32"
    assert model.layers[-2].compute_dtype == precision.compute_dtype
    assert keras.config.dtype_policy().name == "float32"


def test_every_precision_starts_from_the_same_weights():
    import numpy as np

    one, other = (build_model("tiny_models:classifier", 16, PRECISIONS[p]) for p in ("float32", "mixed_float16"))
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_only_mixed_float16_gets_loss_scaling_and_pure_float16_a_larger_epsilon():
    import keras

    scaled = {}
    for precision in PRECISIONS.values():
        model = build_model("tiny_models:classifier", 16, precision)
        compile_model(model, precision, False, SHAPE)
        scaled[precision.name] = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        assert inner.epsilon == (1e-4 if precision.name == "float16" else 1e-7)
    assert [name for name, is_scaled in scaled.items() if is_scaled] == ["mixed_float16"]


def test_a_compiled_model_keeps_its_optimizer():
    import keras

    model = build_model("tiny_models:compiled_regressor", 16, PRECISIONS["float32"])
    compile_model(model, PRECISIONS["float32"], True, SHAPE)
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert model.jit_compile is True


@pytest.mark.parametrize(("name", "logits"), [("classifier", False), ("logits", True), ("feature_map", False)])
def test_logits_are_told_from_probabilities(name, logits):
    model = build_model(f"tiny_models:{name}", 16, PRECISIONS["float32"])
    compile_model(model, PRECISIONS["float32"], False, SHAPE)
    assert model.loss.get_config()["from_logits"] is logits


def test_an_output_without_a_known_loss_is_refused():
    model = build_model("tiny_models:odd_output", 16, PRECISIONS["float32"])
    with pytest.raises(CaseFailure, match="no loss is known"):
        compile_model(model, PRECISIONS["float32"], False, SHAPE)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module:f", "ModuleNotFoundError"),
        ("tiny_models:missing", "AttributeError"),
        ("tiny_models:not_callable", "int: valid is a callable"),
        ("tiny_models:no_model", "returned a str"),
        ("tiny_models:raises", "RuntimeError: out of ideas"),
        ("tiny_models:two_outputs", "returned a model with 2 outputs: valid is one"),
        ("tiny_models:ignores_the_shape", "does not take (16, 16, 3): ValueError: its input is (8, 8, 1)"),
        ("users_models:grey", "does not take (16, 16, 3): ValueError: its input is (16, 16, 1)"),
        ("users_models:two_inputs", "ValueError: it has 2 inputs, [(16, 16, 3), (16, 16, 3)]"),
        ("users_models:fails_in_a_layer", "does not take (16, 16, 3): ValueError: Dimensions must be equal"),
    ],
)
def test_a_factory_that_gives_no_model_is_one_clear_line(name, words):
    with pytest.raises(UsageProblem) as caught:
        check_factory(name, 16)
    assert words in str(caught.value)
    assert f"--mp-models: {name!r}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["classifier", "compiled_regressor", "Subclassed"])
def test_a_good_factory_passes(name):
    check_factory(f"tiny_models:{name}", 16)


@pytest.mark.parametrize("name", ["list_of_one", "dict_of_one", "uint8_pixels", "masks_of_any_size", "gan"])
def test_what_users_return_passes(name):
    check_factory(f"users_models:{name}", 16)


@pytest.mark.parametrize(
    ("precision", "what"),
    [("float32", "compute in float32"), ("mixed_bfloat16", "compute in bfloat16"), ("float16", "keep its weights in")],
)
def test_a_factory_that_sets_a_policy_of_its_own_fits_no_other(precision, what):
    build_model("users_models:sets_the_policy", 16, PRECISIONS["mixed_float16"])
    with pytest.raises(CaseFailure, match=f"does not {what}"):
        build_model("users_models:sets_the_policy", 16, PRECISIONS[precision])


def test_a_factory_is_found_by_its_name():
    assert load_factory("tiny_models:classifier").__name__ == "classifier"
