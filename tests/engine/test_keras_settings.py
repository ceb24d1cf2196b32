"""mpbench.engine.keras_settings: what is set for the whole process reaches no arm unseen."""

import os
import subprocess
import sys

import keras
import pytest
import tensorflow as tf

from mpbench.engine.factories import check_factory
from mpbench.engine.keras_settings import VARIABLES, check_process_settings
from mpbench.errors import UsageProblem

pytestmark = pytest.mark.tensorflow


@pytest.fixture(autouse=True)
def _as_before():
    yield
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision": False})


def test_the_defaults_pass():
    check_process_settings("somebody")


@pytest.mark.parametrize(
    ("name", "value"), [("floatx", "float16"), ("epsilon", 1e-4), ("image_data_format", "channels_first")]
)
def test_another_setting_of_keras_is_refused_by_name(name, value):
    getattr(keras.config, f"set_{name}")(value)
    with pytest.raises(UsageProblem, match=f"^somebody: {name} is {value}: valid is "):
        check_process_settings("somebody")


def test_graphs_that_tensorflow_rewrites_are_refused():
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision": True})
    with pytest.raises(UsageProblem, match="auto_mixed_precision is on"):
        check_process_settings("somebody")


@pytest.mark.parametrize("variable", VARIABLES)
def test_variables_that_make_float32_less_are_refused(variable, monkeypatch):
    monkeypatch.setenv(variable, "0")
    check_process_settings("somebody")
    monkeypatch.setenv(variable, "1")
    with pytest.raises(UsageProblem, match=f"^{variable}: '1': leave it out"):
        check_process_settings("somebody")


def test_a_factory_that_changes_them_is_named():
    with pytest.raises(UsageProblem, match=r"^--mp-models: 'users_models:sets_floatx': floatx is float16: "):
        check_factory("users_models:sets_floatx", 16)


def test_keras_json_is_read_before_anything_is_built(tmp_path):
    settings = '{"floatx": "float16", "epsilon": 1e-07, "backend": "tensorflow", "image_data_format": "channels_last"}'
    (tmp_path / "keras.json").write_text(settings)
    code = "from mpbench.engine.device import activate\nactivate('cpu', False)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "UsageProblem: keras.json, or what ran before: floatx is float16: valid is float32" in run.stderr


def test_a_model_of_keras_2_is_called_so(monkeypatch):
    legacy = type("Functional", (), {"__module__": "tf_keras.src.engine.functional"})
    monkeypatch.setattr("mpbench.engine.factories.load_factory", lambda name: lambda shape: legacy())
    with pytest.raises(UsageProblem, match="returned a Functional of tf_keras: valid is a Keras 3 model"):
        check_factory("somebodys:net", 16)
