import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces import Made, unpacked

from mpbench.records.profile import (
    BACKWARD,
    CHECKS,
    COPIES,
    ELEMENTWISE,
    FORWARD,
    NORMALISATION,
    OPTIMIZER,
    OTHER_PRODUCTS,
    REDUCTIONS,
    TENSOR_CORES,
    UNATTRIBUTED,
    UPDATE,
)
from mpbench.why.reading.attributed import deduced_steps, in_ns, profile_record
from mpbench.why.reading.attribution import FORKS, KnownLayer
from mpbench.why.reading.kernels import kernel_class, on_tensor_cores
from mpbench.why.reading.trace import read_trace


def by(record, place):
    totals = {}
    for row in record.rows:
        for (part, kind), ns in row.ns.items():
            key = {"layer": row.name, "pass": part, "class": kind}[place]
            totals[key] = totals.get(key, 0) + ns
    return {key: ns / 1e6 for key, ns in totals.items()}


@pytest.fixture(scope="module")
def record_of(tmp_path_factory):
    def record(name, steps):
        trace = read_trace(unpacked(name, tmp_path_factory.mktemp("traces")))
        assert deduced_steps(trace) in (steps, None)
        return profile_record(trace, steps, "a test")

    return record


def test_vgg16_on_an_h200(record_of):
    record = record_of("h200-vgg16", 1)
    assert record.busy_ns == 25_936_180
    assert record.busy_seconds == pytest.approx(0.02593618)
    kinds, parts, layers = by(record, "class"), by(record, "pass"), by(record, "layer")
    # Sums of the kernels' durations by their operations' names, added up by other means.
    assert kinds[OPTIMIZER] == pytest.approx(1.2876, rel=0.005)
    assert kinds[REDUCTIONS] == pytest.approx(7.0173 + 5.9122 - 0.24 + 0.9055, rel=0.01)
    assert kinds[TENSOR_CORES] == pytest.approx(8.5, rel=0.02)
    assert parts[UPDATE] == kinds[OPTIMIZER]
    assert parts[BACKWARD] > 4 * parts[FORWARD]
    assert parts.get(UNATTRIBUTED, 0.0) <= 0.03 * record.busy_ns / 1e6
    assert {f"block{b}_conv1" for b in range(1, 6)} | {f"block{b}_pool" for b in range(1, 6)} <= set(layers)
    types = {(one.type, one.kind): one.ns / 1e6 for one in record.operations}
    assert types["BiasAddGrad", REDUCTIONS] == pytest.approx(7.0173, rel=0.001)


def test_a_part_of_inception_v3_on_an_h200(record_of):
    record = record_of("h200-inception_v3-part", 1)
    assert record.busy_ns == 20_918_324
    kinds, layers = by(record, "class"), by(record, "layer")
    assert kinds[NORMALISATION] == pytest.approx(13.7646, rel=0.005)
    assert kinds[OPTIMIZER] == pytest.approx(0.7275, rel=0.005)
    assert layers[FORKS] == pytest.approx(0.1717, rel=0.02)  # and the memset before one
    assert by(record, "pass").get(UNATTRIBUTED, 0.0) <= 0.03 * record.busy_ns / 1e6
    normalising = {name for name in layers if name.startswith("batch_normalization")}
    assert sum(layers[name] for name in normalising) == pytest.approx(kinds[NORMALISATION], abs=1e-6)
    assert {
        "batch_normalization",
        "batch_normalization_1",
        "batch_normalization_2",
        "batch_normalization_12",
    } <= normalising


def test_a_cpu(record_of):
    record = record_of("cpu-convnet", 2)
    layers = by(record, "layer")
    expected = {"conv2d", "conv2d_1", "batch_normalization", "batch_normalization_1", "max_pooling2d", "dense"}
    assert expected <= set(layers)
    assert by(record, "class")[OTHER_PRODUCTS] > 0.2 * record.busy_ns / 1e6
    assert TENSOR_CORES not in by(record, "class")
    assert by(record, "pass").get(UNATTRIBUTED, 0.0) <= 0.03 * record.busy_ns / 1e6
    assert not any(row.fused_ns for row in record.rows)


def test_xla_on_a_cpu(record_of):
    record = record_of("cpu-convnet-xla", 2)
    layers, parts = by(record, "layer"), by(record, "pass")
    expected = {"conv2d", "conv2d_1", "batch_normalization", "batch_normalization_1", "max_pooling2d", "dense"}
    assert expected <= set(layers)
    assert parts.get(UNATTRIBUTED, 0.0) <= 0.03 * record.busy_ns / 1e6
    assert {FORWARD, BACKWARD, UPDATE, CHECKS} <= set(parts)
    assert any(row.fused_ns for row in record.rows)  # XLA fuses casts and normalisation with what is around them
    assert all(0 <= row.fused_ns <= row.total_ns for row in record.rows)


@given(st.dictionaries(st.integers(), st.integers(0, 10**13), min_size=1))
def test_nanoseconds_add_up_to_the_rounded_sum(ps):
    ns = in_ns(ps)
    assert sum(ns.values()) == (sum(ps.values()) + 500) // 1000
    assert all(abs(1000 * ns[key] - ps[key]) <= 1000 for key in ps)


def test_what_is_known_of_layers_is_kept(tmp_path):
    made = Made()
    made.gpu(
        [
            ("sm80_xmma_fprop_implicit_gemm_f16f16_tensor16x8x16", "net_1/conv_1/convolution:Conv2D", 0, 50),
            ("nchwToNhwcKernel", "net_1/conv_1/convolution:Conv2D", 50, 10),
            ("Cast_GPU_DT_FLOAT_DT_HALF_kernel", "net_1/conv_1/convolution/Cast:Cast", 60, 5),
            ("Mul_GPU_DT_FLOAT_DT_FLOAT_kernel", "net_1/odd_1/mul:Mul", 65, 20),
        ]
    )
    layers = [
        KnownLayer(("net", "conv"), "conv", "Conv2D", "float16", (30, 30)),
        KnownLayer(("net", "odd"), "odd", "MyNormalization", "float32"),
    ]
    conv, odd = profile_record(read_trace(made.file(tmp_path)), 1, "a test", layers).rows
    assert (conv.type, conv.dtype, conv.channels) == ("Conv2D", "float16", (30, 30))
    assert conv.kernel == "sm80_xmma_fprop_implicit_gemm_f16f16_tensor16x8x16"
    assert conv.ns == {(FORWARD, TENSOR_CORES): 50, (FORWARD, COPIES): 15}
    assert (conv.cast_ns, conv.kernels) == (5, 3)
    assert odd.ns == {(FORWARD, NORMALISATION): 20}


@pytest.mark.parametrize(("often", "loops", "expected"), [(3, 90, 3), (5, 5, 5), (1, 0, 1)])
def test_steps_are_told_from_how_often_kernels_ran(tmp_path, often, loops, expected):
    made = Made()
    kernels = [(f"k{layer}", f"net_1/d{layer}_1/Mul:Mul") for layer in range(8) for _ in range(often)]
    kernels += [(f"w{layer}", f"net_1/l_1/while/body/_1/op{layer}:Mul") for layer in range(30) for _ in range(loops)]
    made.gpu([(kernel, op, 10 * number, 5) for number, (kernel, op) in enumerate(kernels)])
    assert deduced_steps(read_trace(made.file(tmp_path))) == expected


def test_steps_that_are_not_clear(tmp_path):
    made = Made()
    kernels = [(f"k{layer}", f"net_1/d{layer}_1/Mul:Mul") for layer in range(1, 6) for _ in range(layer)]
    made.gpu([(kernel, op, 10 * number, 5) for number, (kernel, op) in enumerate(kernels)])
    assert deduced_steps(read_trace(made.file(tmp_path))) is None


@pytest.mark.parametrize(
    ("kernel", "kind", "expected"),
    [
        (
            "sm90_xmma_dgrad_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize256x64x32_warpgroupsize1x1x1_g",
            "Conv2D",
            TENSOR_CORES,
        ),
        ("nvjet_sm90_hsh_128x256_64x4_2x1_v_bz_coopA_TNT", "MatMul", TENSOR_CORES),
        ("ampere_sgemm_128x64_nn", "MatMul", OTHER_PRODUCTS),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float, __half>(...)", "MatMul", OTHER_PRODUCTS),
        ("void tensorflow::functor::ShuffleInTensor3Simple<Eigen::half, 2, 1, 0, false>(int)", "Conv2D", COPIES),
        (
            "void tensorflow::BiasGradNHWC_SharedAtomics<Eigen::half>(int, Eigen::half const*)",
            "BiasAddGrad",
            REDUCTIONS,
        ),
        ("void cudnn::pooling_bw_kernel_max<__half, float>(...)", "MaxPoolGrad", REDUCTIONS),
        ("void cudnn::engines_precompiled::scalePackedTensor_kernel<__half, float>(long)", "MaxPoolGrad", COPIES),
        ("void Eigen::internal::EigenMetaKernel<Eigen::TensorEvaluator<...scalar_sum_op...>>", "AddN", ELEMENTWISE),
        ("void tensorflow::functor::BlockReduceKernel<float*, float*, 256, cub::Sum>", "Mean", REDUCTIONS),
        ("AddV2_GPU_DT_HALF_DT_HALF_kernel", "AddV2", ELEMENTWISE),
        ("Cast_GPU_DT_FLOAT_DT_HALF_kernel", "Cast", COPIES),
        ("MemcpyH2D", "_Recv", COPIES),
        ("Memset 3", "", COPIES),
    ],
)
def test_classes_of_a_gpus_kernels(kernel, kind, expected):
    assert kernel_class(kernel, kind, None, on_device=True) == expected


def test_kernels_that_xla_makes_are_known_by_what_they_multiply():
    from mpbench.why.reading.hlo import Instruction

    half = Instruction("fusion", (), product=True, half=True, container=False)
    whole = Instruction("fusion", (), product=True, half=False, container=False)
    assert on_tensor_cores("gemm_fusion_dot_1", half)
    assert not on_tensor_cores("gemm_fusion_dot_1", whole)
    assert not on_tensor_cores("ampere_sgemm_32x32", half)
    assert kernel_class("gemm_fusion_dot_1", "MatMul", whole, on_device=True) == OTHER_PRODUCTS
