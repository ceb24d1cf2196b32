import pytest

from mpbench.records.profile import BACKWARD, CHECKS, FORWARD, INPUT, LOSS_SCALING, UNATTRIBUTED, UPDATE
from mpbench.why.reading.attribution import (
    DATA,
    FORKS,
    LOSS,
    MODEL,
    NOWHERE,
    OPTIMIZER_PLACE,
    SCALING,
    Attribution,
    KnownLayer,
)


def known(*paths, root="net"):
    return [KnownLayer((root, *path.split("/")), path, "Dense") for path in paths]


def place(attribution, op):
    found = attribution.place(op)
    return found.layer, found.part


INCEPTION = [
    "inception_v3_1/conv2d_1/convolution:Conv2D",
    "inception_v3_1/batch_normalization_1/moments/mean:Mean",
    "inception_v3_1/batch_normalization_1_2/moments/mean:Mean",
    "inception_v3_1/batch_normalization_2_1/moments/mean:Mean",
    "inception_v3_1/Cast:Cast",
    "gradient_tape/inception_v3_1/conv2d_1/convolution/Conv2DBackpropFilter:Conv2DBackpropFilter",
    "gradient_tape/inception_v3_1/Cast/Cast:Cast",
    "cond/then/_0/cond/adam/Mul_19:Mul",
    "IsFinite_3:IsFinite",
]
"""As TensorFlow numbers scopes that Keras opens twice."""


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("inception_v3_1/conv2d_1/convolution:Conv2D", ("conv2d", FORWARD)),
        ("inception_v3_1/batch_normalization_1/moments/mean:Mean", ("batch_normalization", FORWARD)),
        ("inception_v3_1/batch_normalization_1_2/moments/mean:Mean", ("batch_normalization_1", FORWARD)),
        ("inception_v3_1/batch_normalization_2_1/batchnorm/mul_1:Mul", ("batch_normalization_2", FORWARD)),
        ("gradient_tape/inception_v3_1/mixed9_0_1/Slice_1:Slice", ("mixed9_0", BACKWARD)),
        ("gradient_tape/inception_v3_1/conv2d_1/convolution/Cast/Cast:Cast", ("conv2d", CHECKS)),
        ("gradient_tape/inception_v3_1/dense_1/Cast/Cast/Cast:Cast", ("dense", CHECKS)),
        ("gradient_tape/inception_v3_1/batch_normalization_1/Cast_1/Cast:Cast", ("batch_normalization", BACKWARD)),
        ("inception_v3_1/Cast:Cast", (MODEL, FORWARD)),
        ("gradient_tape/inception_v3_1/Cast/Cast:Cast", (MODEL, BACKWARD)),
        ("cond/then/_0/cond/adam/Mul_19:Mul", (OPTIMIZER_PLACE, UPDATE)),
        ("cond/cond/adam_7/Sub_50:Sub", (OPTIMIZER_PLACE, UPDATE)),
        ("adam/Sub_50:Sub", (OPTIMIZER_PLACE, UPDATE)),
        ("cond/then/_0/cond/truediv_2:RealDiv", (SCALING, LOSS_SCALING)),
        ("cond/then/_0/cond/cond/else/_137/cond/cond/Add:AddV2", (SCALING, LOSS_SCALING)),
        ("mul:Mul", (SCALING, LOSS_SCALING)),
        ("cond/then/_0/cond/Equal/_6:_HostRecv", (SCALING, LOSS_SCALING)),
        ("All_192/_4:_HostRecv", (SCALING, CHECKS)),
        (
            "ArithmeticOptimizer/ArithmeticOptimizer/ReorderCastLikeAndValuePreserving_float_IsFinite_7:IsFinite",
            (SCALING, CHECKS),
        ),
        ("packed:Pack", (SCALING, CHECKS)),
        ("AddN_12:AddN", (FORKS, BACKWARD)),
        ("compile_loss/sparse_categorical_crossentropy/Sum:Sum", (LOSS, FORWARD)),
        ("gradient_tape/compile_loss/sparse_categorical_crossentropy/Tile:Tile", (LOSS, BACKWARD)),
        ("div_no_nan:DivNoNan", (LOSS, FORWARD)),
        ("compile_loss_sparse_categorical_crossentropy_cast_x/_2:_Recv", (DATA, INPUT)),
        ("IteratorGetNext:IteratorGetNext", (DATA, INPUT)),
        ("inception_v3_1/conv2d_1/Relu-0-0-TransposeNCHWToNHWC-LayoutOptimizer:Transpose", ("conv2d", FORWARD)),
        ("replica_1/inception_v3_1/conv2d_1/convolution:Conv2D", ("conv2d", FORWARD)),
        ("replica_1/gradient_tape/inception_v3_1/conv2d_1/convolution/Cast/Cast:Cast", ("conv2d", CHECKS)),
        ("CollectiveReduceV2_3:CollectiveReduceV2", (FORKS, BACKWARD)),
        ("", (NOWHERE, UNATTRIBUTED)),
        ("something_else/entirely:Foo", (NOWHERE, UNATTRIBUTED)),
    ],
)
def test_without_the_models_layers(op, expected):
    assert place(Attribution([*INCEPTION, op]), op) == expected


def test_without_loss_scaling_a_product_at_the_top_is_the_losss():
    assert place(Attribution(["m_1/dense_1/MatMul:MatMul"]), "mul:Mul") == (LOSS, FORWARD)


def test_keras_2_numbers_no_scopes():
    ops = [
        "model/conv2d/Conv2D:Conv2D",
        "model/conv2d_1/BiasAdd:BiasAdd",
        "gradient_tape/model/conv2d/Conv2D/Conv2DBackpropFilter:Conv2DBackpropFilter",
        "Adam/Adam/update_3/ResourceApplyAdam:ResourceApplyAdam",
    ]
    attribution = Attribution(ops)
    assert [place(attribution, op) for op in ops] == [
        ("conv2d", FORWARD),
        ("conv2d_1", FORWARD),
        ("conv2d", BACKWARD),
        (OPTIMIZER_PLACE, UPDATE),
    ]


def test_a_users_optimizer_is_told_by_what_it_does():
    ops = ["net/dense/MatMul:MatMul", "gradient_tape/net/dense/MatMul/MatMul:MatMul"]
    ops += ["my_descent/ResourceApplyGradientDescent:ResourceApplyGradientDescent", "my_descent/Mul:Mul"]
    assert place(Attribution(ops), "my_descent/Mul:Mul") == (OPTIMIZER_PLACE, UPDATE)


OWN_NAMES = known("adam", "cond", "gradient_tape", "gradient_tape/mul", "inner", "inner/conv.1", "while")


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("net_1/adam_1/MatMul:MatMul", ("adam", FORWARD)),
        ("gradient_tape/net_1/adam_1/MatMul/MatMul:MatMul", ("adam", BACKWARD)),
        ("adam/Mul_3:Mul", (OPTIMIZER_PLACE, UPDATE)),
        ("cond/then/_0/cond/adam/Mul_3:Mul", (OPTIMIZER_PLACE, UPDATE)),
        ("net_1/cond_1/MatMul:MatMul", ("cond", FORWARD)),
        ("net_1/cond_3/MatMul:MatMul", ("cond", FORWARD)),  # called a second time
        ("net_1/gradient_tape_1/add:AddV2", ("gradient_tape", FORWARD)),
        ("net_1/gradient_tape_1/mul_1/MatMul:MatMul", ("gradient_tape/mul", FORWARD)),
        ("net_1/gradient_tape_1/mul_2:Mul", ("gradient_tape", FORWARD)),  # an operation of that name
        ("gradient_tape/net_1/gradient_tape_1/mul_2/Mul:Mul", ("gradient_tape", BACKWARD)),
        ("net_1/inner_1/conv.1_1/BiasAdd:BiasAdd", ("inner/conv.1", FORWARD)),
        ("net_1/while_1/MatMul:MatMul", ("while", FORWARD)),
        ("net_1/GlobalPool:Mean", (MODEL, FORWARD)),
    ],
)
def test_names_of_a_users_own(op, expected):
    attribution = Attribution([op, "net_1/adam_1/MatMul:MatMul"], OWN_NAMES, ["adam", "loss_scale_optimizer"])
    assert place(attribution, op) == expected


def test_a_model_may_be_called_as_the_optimizer_or_a_condition():
    for name in ("adam", "cond"):
        ops = [f"{name}_1/dense_1/MatMul:MatMul", "cond/then/_0/cond/adam/Mul:Mul"]
        attribution = Attribution(ops, known("dense", root=name), ["adam"])
        assert [place(attribution, op) for op in ops] == [("dense", FORWARD), (OPTIMIZER_PLACE, UPDATE)]


def test_loops_repeat_the_layers_path():
    layers = known("lstm", "lstm/lstm_cell")
    body = "net_1/lstm_1/while/body/_1/net_1/lstm_1/while/"
    back = (
        "gradient_tape/net_1/lstm_1/while/net_1/lstm_1/while_grad/body/_94/gradient_tape/net_1/lstm_1/while/gradients/"
    )
    ops = [
        f"{body}lstm_cell_1/MatMul:MatMul",
        f"{body}add:AddV2",
        f"{back}net_1/lstm_1/while/lstm_cell_1/MatMul_grad/MatMul_1:MatMul",
    ]
    attribution = Attribution(ops, layers)
    expected = [("lstm/lstm_cell", FORWARD), ("lstm", FORWARD), ("lstm/lstm_cell", BACKWARD)]
    assert [place(attribution, op) for op in ops] == expected
    derived = Attribution(ops)
    assert [place(derived, op) for op in ops] == [("lstm", FORWARD), ("lstm", FORWARD), ("lstm", BACKWARD)]


def test_layers_whose_names_are_taken():
    layers = known("conv", "conv_1", "conv_2")
    ops = ["net_1/conv_1/Relu:Relu", "net_1/conv_1_2/Relu:Relu", "net_1/conv_2_1/Relu:Relu"]
    attribution = Attribution(ops, layers)
    assert [attribution.place(op).layer for op in ops] == ["conv", "conv_1", "conv_2"]


def test_a_step_that_calls_the_layers_one_by_one():
    ops = ["encoder_1/dense_1/MatMul:MatMul", "gradient_tape/encoder_1/dense_1/MatMul/MatMul:MatMul", "adam/Mul:Mul"]
    attribution = Attribution(ops, known("encoder", "encoder/dense", "adam"), ["adam"])
    expected = [("encoder/dense", FORWARD), ("encoder/dense", BACKWARD)]
    assert [place(attribution, op) for op in ops[:2]] == expected


def test_scopes_between_a_model_and_its_layer():
    attribution = Attribution(["net/mine/dense/MatMul:MatMul"], known("dense"))
    assert attribution.place("net/mine/dense/MatMul:MatMul").layer == "dense"
