"""mpbench.why.reading.kernels: names as cuBLAS, cuDNN, CUTLASS, XLA and TensorFlow give them, and time divided."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbench.why.reading import kernels
from mpbench.why.reading.kernels import (
    COPIES,
    ELEMENTWISE,
    NORMALISATION,
    OPTIMIZER,
    OTHER,
    OTHER_PRODUCTS,
    REDUCTIONS,
    TENSOR_CORES,
    Span,
    busy_ns,
    kernel_class,
    kernel_seconds,
    largest,
    on_tensor_cores,
    operation_seconds,
    operation_type,
    tensor_core_share,
)

XMMA = "_nhwckrsc_nhwc_tilesize128x128x32_stage3_warpsize2x2x1_g1_"
MANGLED = "_ZN13cutlass_cudnn6KernelINS_4conv6kernel23ImplicitGemmConvolutionINS1_11threadblock11MmaTensorOpINS7_ILi64"

KERNELS = [
    # Volta to Blackwell, by the libraries' own names.
    (TENSOR_CORES, "volta_fp16_s884gemm_fp16_128x128_ldg8_f2f_nn"),
    (TENSOR_CORES, "volta_h884cudnn_256x64_ldg8_relu_exp_small_nhwc_tn_v1"),
    (TENSOR_CORES, "turing_fp16_s1688cudnn_fp16_128x128_ldg8_relu_f2f_exp_small_nhwc_tn_v1"),
    (TENSOR_CORES, "ampere_fp16_s16816gemm_fp16_128x64_ldg8_f2f_stages_32x6_nn"),
    (TENSOR_CORES, "void cutlass_cudnn::Kernel<cutlass_tensorop_f16_s16816fprop_optimized_f16_256x128_32x3>(Params)"),
    (TENSOR_CORES, "void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_64x64_32x6_nn_align4>(Params)"),
    (TENSOR_CORES, f"{MANGLED}ELi64ELi32EEE"),
    (
        TENSOR_CORES,
        "void xmma_cudnn::gemm::kernel<xmma_cudnn::implicit_gemm::dgrad<xmma_cudnn::Ampere_hmma_fp32_traits>>",
    ),
    (TENSOR_CORES, f"sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_f32{XMMA}tensor16x8x16_execute_kernel__5x_cudnn"),
    (TENSOR_CORES, f"sm80_xmma_wgrad_implicit_gemm_indexed_tf32f32_tf32f32_f32{XMMA}tensor16x8x8_kernel_cudnn"),
    (TENSOR_CORES, "sm90_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off"),
    (TENSOR_CORES, "nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_TNN"),
    (TENSOR_CORES, "nvjet_sm100_hsh_64x8_64x16_1x1_h_bz_splitK_NNT"),
    # The same libraries on ordinary cores.
    (OTHER_PRODUCTS, "volta_sgemm_128x64_nt"),
    (OTHER_PRODUCTS, "ampere_sgemm_32x128_tn"),
    (OTHER_PRODUCTS, "void cutlass::Kernel2<cutlass_80_simt_sgemm_128x64_8x5_nn_align1>(Params)"),
    (OTHER_PRODUCTS, f"sm80_xmma_fprop_implicit_gemm_indexed_f32f32_f32f32_f32{XMMA}ffma_aligna4_alignc4_execute"),
    (
        OTHER_PRODUCTS,
        "void cudnn::cnn::wgrad_alg1_engine_NHWC<__half, float, 128, 6, 8, 3, 3, 5, false, true>(int, int)",
    ),
    (OTHER_PRODUCTS, "void cudnn::winograd_nonfused::winogradForwardOutput4x4<float, float>(Params)"),
    (OTHER_PRODUCTS, "void implicit_convolve_sgemm<float, float, 128, 6, 7, 3, 3, 5, 1, false, false, true>(int, int)"),
    (OTHER_PRODUCTS, "maxwell_scudnn_winograd_128x128_ldg1_ldg4_relu_tile148m_nt_v1"),
    (OTHER_PRODUCTS, "void splitKreduce_kernel<32, 16, int, float, __half, float>(cublasSplitKParams<float>)"),
    (OTHER_PRODUCTS, "void tensorflow::DepthwiseConv2dGPUKernelNHWC<float, 3, 3, 1>(tensorflow::DepthwiseArgs)"),
    (OTHER_PRODUCTS, "gemm_fusion_dot_12"),  # Triton's: nothing says which cores
    (NORMALISATION, "void cudnn::bn_fw_tr_1C11_kernel_NCHW<__half, float, 512, true, 1>(cudnnTensorStruct, __half)"),
    (NORMALISATION, "void cudnn::batchnorm_bwtr_nhwc_semiPersist<__half, float, float, 512, true>(cudnnTensorStruct)"),
    (REDUCTIONS, "void cudnn::ops::pooling_bw_kernel_max<__half, float>(cudnnTensorStruct, cudnn::reduced_divisor)"),
    (
        REDUCTIONS,
        "void tensorflow::functor::RowReduceKernel<float const*, float*, cub::Sum>(float const*, float*, int)",
    ),
    (REDUCTIONS, "input_reduce_fusion_3"),
    (REDUCTIONS, "void tensorflow::BiasGradNCHW_SharedAtomics<float>(float const*, float*, int, int, int)::BiasGrad"),
    (OPTIMIZER, "void tensorflow::functor::ApplyAdamKernel<float>(int, float*, float*, float*, float const*, bool)"),
    (COPIES, "MemcpyD2D"),
    (COPIES, "Memset"),
    (COPIES, "Cast_GPU_DT_FLOAT_DT_HALF_kernel"),
    (COPIES, "void cudnn::ops::nchwToNhwcKernel<__half, __half, float, false, true>(cudnn::ops::nchw2nhwc_params_t)"),
    (COPIES, "void cudnn::ops::convertTensor_kernel<float, float, float, (cudnnKernelDataType_t)2>(float)"),
    (COPIES, "void tensorflow::functor::SwapDimension1And2InTensor3UsingTiles<float, 256, 32, 32, false>(float)"),
    (COPIES, "wrapped_convert"),
    (ELEMENTWISE, "Relu_GPU_DT_HALF_DT_HALF_kernel"),
    (ELEMENTWISE, "AddV2_GPU_DT_FLOAT_DT_FLOAT_kernel"),
    (ELEMENTWISE, "loop_multiply_fusion_12"),
    (ELEMENTWISE, "void Eigen::internal::EigenMetaKernel<Eigen::TensorEvaluator<Eigen::TensorAssignOp<half>>>(long)"),
    (OTHER, "some_mystery_kernel"),
    (OTHER, ""),
]


@pytest.mark.parametrize(("expected", "name"), KERNELS)
def test_kernels_by_their_names(expected, name):
    assert kernel_class(name) == expected
    assert on_tensor_cores(name) == (expected == TENSOR_CORES)


@pytest.mark.parametrize(
    ("expected", "kernel", "op"),
    [
        (OPTIMIZER, "Mul_GPU_DT_FLOAT_DT_FLOAT_kernel", "cond/then/_0/cond/adam/Mul_19:Mul"),
        (OPTIMIZER, "Cast_GPU_DT_FLOAT_DT_HALF_kernel", "adam/Cast_3:Cast"),
        (ELEMENTWISE, "Mul_GPU_DT_FLOAT_DT_FLOAT_kernel", "adamant_1/Mul_19:Mul"),
        (NORMALISATION, "SquaredDifference_GPU_DT_FLOAT_DT_FLOAT_kernel", "m/conv2_block1_1_bn/m/SquaredDifference:S"),
        (NORMALISATION, "void Eigen::internal::EigenMetaKernel<>", "m/batch_normalization_3/moments/mean:Mean"),
        (COPIES, "Cast_GPU_DT_FLOAT_DT_HALF_kernel", "m/batch_normalization_3/Cast:Cast"),
        (REDUCTIONS, "void Eigen::internal::EigenMetaKernel<>", "m/top/Mean:Mean"),
        (COPIES, "void Eigen::internal::EigenMetaKernel<>", "m/top/Cast:Cast"),
        (OTHER_PRODUCTS, "cudnn_generated_fort_native_sdpa", "m/conv/Conv2D:Conv2D"),
        (TENSOR_CORES, "ampere_fp16_s16816gemm_fp16_128x64", "adam/MatMul:MatMul"),
        (ELEMENTWISE, "void f<>()", "gradient_tape/m/relu/ReluGrad:ReluGrad"),
    ],
)
def test_the_operation_tells_what_the_kernel_does_not(expected, kernel, op):
    assert kernel_class(kernel, op) == expected


def test_device_time_per_step_and_the_share_of_tensor_cores():
    streams = [
        [
            Span("nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_TNN", 0, 6e6),
            Span("Cast_GPU_DT_FLOAT_DT_HALF_kernel", 6e6, 1e6),
            Span("ampere_sgemm_32x128_tn", 8e6, 3e6),
        ],
        [Span("MemcpyH2D", 20e6, 2e6)],
    ]
    seconds = kernel_seconds(streams, 2)
    assert list(seconds.values()) == [3e-3, 1.5e-3, 1.5e-3]
    assert seconds == {TENSOR_CORES: 3e-3, OTHER_PRODUCTS: 1.5e-3, COPIES: 1.5e-3}
    assert tensor_core_share(streams) == 0.5
    assert tensor_core_share([[]]) is None
    assert tensor_core_share([[Span("ampere_sgemm_32x128_tn", 0, 1)]]) == 0


@pytest.mark.parametrize(
    ("name", "compiled", "expected"),
    [
        ("m/conv2d_1/convolution:Conv2D", False, "Conv2D"),
        ("m/conv2d_1/convolution:_MklNativeConv2D", False, "Conv2D"),
        ("m/conv2d_1/convolution:_FusedConv2D", False, "_FusedConv2D"),
        ("cond:If", False, "If"),
        ("__inference_step_242:__inference_step_242", False, None),
        ("EagerLocalExecute: __inference_step_242", False, None),
        ("ExecutorState::Process", False, None),
        ("TFE_Py_ExecuteCancelable", False, None),
        ("broadcast_multiply_fusion.3", True, "XLA broadcast_multiply_fusion"),
        ("MatMul.6", True, "XLA MatMul"),
        ("wrapped_convert", True, "XLA wrapped_convert"),
    ],
)
def test_what_is_an_operation_on_the_host(name, compiled, expected):
    assert operation_type(Span(name, 0, 1, compiled=compiled)) == expected


def test_what_runs_within_another_or_beside_it_is_counted_once():
    threads = [
        [Span("a:If", 0, 10e6), Span("not an operation", 1e6, 8e6), Span("b:Mul", 2e6, 3e6), Span("c:Add", 5e6, 1e6)],
        [Span("d:Conv2D", 8e6, 4e6)],
    ]
    # If: 0-2 and 6-8 alone, 8-10 beside Conv2D, which goes on alone until 12.
    assert operation_seconds(threads, 2) == pytest.approx(
        {"If": 2.5e-3, "Mul": 1.5e-3, "Add": 0.5e-3, "Conv2D": 1.5e-3}
    )


times = st.integers(0, 60)


@given(st.lists(st.lists(st.tuples(times, times, st.sampled_from("xyz")), max_size=6), max_size=3))
def test_the_sum_is_the_time_in_which_anything_ran(lines):
    spans = [[(Span("", start, duration), name) for start, duration, name in line] for line in lines]
    covered = {at for line in lines for start, duration, _ in line for at in range(start, start + duration)}
    busy = busy_ns(spans)
    assert math.isclose(math.fsum(busy.values()), len(covered), abs_tol=1e-9)
    assert all(value >= 0 for value in busy.values())


def test_the_rest_is_summed_up():
    assert largest({"a": 4.0, "b": 2.0, "c": 1.0, "d": 0.5}, 2) == {"a": 4.0, "b": 2.0, kernels.OTHER: 1.5}
    assert largest({"a": 4.0}, 2) == {"a": 4.0}
    assert largest({"a": 4.0, OTHER: 2.0, "c": 1.0}, 2) == {"a": 4.0, OTHER: 3.0}
    assert list(largest({"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.5}, 1)) == [OTHER, "a"]
