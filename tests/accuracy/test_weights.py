"""accuracy.weights and accuracy.base: which file is meant, and every way in which it may not fit."""

import keras
import numpy as np
import pytest

from mpbench.accuracy.base import pooled_base
from mpbench.accuracy.weights import Weights, find_weights
from mpbench.config.precisions import PRECISIONS
from mpbench.errors import UsageProblem

pytestmark = pytest.mark.tensorflow

SIZE_PX = 32
FLOAT32 = PRECISIONS["float32"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Files of other weights than the random ones that a base starts from."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("VGG16", "MobileNetV2"):
        base = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(SIZE_PX, SIZE_PX, 3))
        base.save_weights(folder / f"{name.lower()}_notop.weights.h5")
    return folder


def load(path, model="vgg16", precision=FLOAT32):
    return pooled_base(model, SIZE_PX, precision, Weights("file", path))


def test_a_file_is_read_in_every_precision(saved):
    weights = find_weights(str(saved), "vgg16")
    assert weights.label == "vgg16_notop.weights.h5"
    loaded = pooled_base("vgg16", SIZE_PX, FLOAT32, weights).get_weights()
    started = pooled_base("vgg16", SIZE_PX, FLOAT32, Weights("random")).get_weights()
    assert not np.array_equal(loaded[0], started[0])
    for name in ("mixed_float16", "float16"):
        other = pooled_base("vgg16", SIZE_PX, PRECISIONS[name], weights).get_weights()
        for a, b in zip(loaded, other, strict=True):
            np.testing.assert_array_equal(a.astype(b.dtype), b)


def test_keras_older_format_is_read(saved, tmp_path):
    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(SIZE_PX, SIZE_PX, 3))
    from keras.src.legacy.saving import legacy_h5_format

    path = tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    import h5py

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, base)
    np.testing.assert_array_equal(load(path).get_weights()[0], base.get_weights()[0])


def test_a_folder_is_searched_by_the_models_names(tmp_path):
    names = [
        "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
        "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        "readme.txt",
    ]
    for name in names:
        (tmp_path / name).touch()

    def found(model):
        return find_weights(str(tmp_path), model).path.name

    assert [found("vgg16"), found("resnet50"), found("resnet50_v2"), found("mobilenet_v3_large")] == names[1:5]
    with pytest.raises(UsageProblem, match="has none for xception: valid is one file whose name begins with"):
        found("xception")
    (tmp_path / "ResNet50-mine-notop.weights.h5").touch()
    with pytest.raises(UsageProblem, match=r"has ResNet50-mine-notop.weights.h5, resnet50_weights.* for resnet50"):
        found("resnet50")


def test_what_is_no_weight_file(tmp_path):
    with pytest.raises(UsageProblem, match="'imagnet' does not exist: valid are imagenet, random, a file and a folder"):
        find_weights("imagnet", "vgg16")
    (tmp_path / "vgg16.ckpt").touch()
    with pytest.raises(UsageProblem, match=r"valid is a Keras weight file, \*.weights.h5 or \*.h5"):
        find_weights(str(tmp_path / "vgg16.ckpt"), "vgg16")
    assert find_weights("imagnet", "package:factory") == Weights("factory")


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", None])
def test_a_file_that_does_not_fit_is_one_line(saved, tmp_path, content):
    path = tmp_path / "vgg16.weights.h5"
    path.write_bytes((saved / "mobilenetv2_notop.weights.h5").read_bytes() if content is None else content)
    with pytest.raises(UsageProblem, match="no weights of VGG16 without its top: ") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_one_line(saved, tmp_path):
    path = tmp_path / "vgg16.weights.h5"
    whole = (saved / "vgg16_notop.weights.h5").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageProblem, match="no weights of VGG16 without its top: "):
        load(path)


def test_nan_in_a_weight_is_named(tmp_path):
    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(SIZE_PX, SIZE_PX, 3))
    kernel, bias = base.get_layer("block3_conv2").get_weights()
    kernel[0, 0, 0, 0] = np.nan
    base.get_layer("block3_conv2").set_weights([kernel, bias])
    base.save_weights(tmp_path / "vgg16.weights.h5")
    with pytest.raises(UsageProblem, match=r"vgg16.weights.h5: .*block3_conv2/kernel of vgg16 is not finite"):
        load(tmp_path / "vgg16.weights.h5")


def test_imagenet_without_a_network_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("keras.src.applications.vgg16.WEIGHTS_PATH_NO_TOP", "http://127.0.0.1:9/none.h5")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path), raising=False)
    with pytest.raises(UsageProblem, match=r"imagenet: those of vgg16 .* cannot be fetched .*: give --mp-weights FILE"):
        pooled_base("vgg16", SIZE_PX, FLOAT32, Weights("imagenet"))


def test_the_identity_follows_the_content(tmp_path):
    path = tmp_path / "vgg16.h5"
    path.write_bytes(b"one")
    one = Weights("file", path).identity()
    path.write_bytes(b"two")
    assert Weights("file", path).identity() != one
    assert Weights("random").identity() != Weights("imagenet").identity()
