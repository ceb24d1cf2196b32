"""What class of work a kernel or operation is, told from its names.

What belongs here: the names of kernels, of TensorFlow's operations and of XLA's instructions, and nothing about layers.
A name proves what it says and nothing else, so the share of tensor cores is a lower bound.
"""

from __future__ import annotations

import functools
import re

from mpbench.records.profile import COPIES, ELEMENTWISE, OTHER_PRODUCTS, REDUCTIONS, TENSOR_CORES, UNCLASSIFIED
from mpbench.why.reading.hlo import Instruction, is_product_type

_TENSOR_CORES = re.compile(
    # Instruction and tile of CUTLASS, cuBLAS and cuDNN: volta_fp16_s884gemm, turing_h1688cudnn, ampere_s16816gemm.
    r"(?:884|1688|16816|16832|168128|161616)(?:gemm|cudnn|fprop|dgrad|wgrad|conv)"
    # cutlass_tensorop_f16_s16816fprop, cutlass3x_sm90_tensorop_s64x128x16gemm; CUTLASS's own mangled templates.
    r"|tensorop"
    # xmma_cudnn::Ampere_hmma_fp32_traits, and the integer and binary ones.
    r"|[hib]mma(?![a-z])"
    # sm80_xmma_fprop_implicit_gemm_f16f16..._tensor16x8x16; where it says ffma instead they are ordinary cores.
    r"|_tensor\d+x\d+x\d+"
    # Hopper: sm90_xmma_gemm_..._warpgroupsize1x1x1, nvjet_hsh_128x256_64x4; Blackwell: utcmma, nvjet too.
    r"|warpgroup|w?gmma(?![a-z])|utcmma|(?:^|\W)nvjet_",
    re.IGNORECASE,
)
_ORDINARY_CORES = re.compile(r"ffma|simt|(?:^|_)[sd]gemm", re.IGNORECASE)
_GENERATED_PRODUCT = re.compile(
    r"gemm_fusion|^triton_|_dot(?:_|\d|$)|cudnn_generated|fort_native|^fusion", re.IGNORECASE
)
"""Made on the spot by XLA or cuDNN, for the tensor cores where its values are of 16 bits or fewer."""

_PRODUCTS = re.compile(
    r"gemm|gemv|cutlass|splitk|matmul|conv(?!ert)|winograd|fft2d|_fft|wgrad|dgrad|fprop|implicit_|xmma|nvjet"
    r"|persist_rnn|rnn_block|elemwise_[lgr]|(?:^|_)dot(?:_|\d|$)|fmha|flash_",
    re.IGNORECASE,
)
_COPIES = re.compile(
    r"^mem(?:cpy|set)|^cast|_cast|convert|copy|transpose|nchwtonhwc|nhwctonchw|swapdimension|shuffleintensor"
    r"|pad_?input|addpadding|scalepackedtensor|init_device_workspace|(?:^|_)(?:pad|concat|slice|tile|gather|scatter"
    r"|split|pack)(?:_|\d|$)",
    re.IGNORECASE,
)
_REDUCTIONS = re.compile(r"reduc(?!ed_divisor)|softmax|pool|argm(?:ax|in)|biasgrad|biasnhwcgrad|_scan", re.IGNORECASE)
_ELEMENTWISE = re.compile(
    r"eigen|elementwise|fusion|biasnhwc|biasadd|relu|bn_fw|bn_bw|batchnorm|dropout|random"
    r"|(?:^|_)(?:add|mul|sub|div|fill|select)",
    re.IGNORECASE,
)

_COPY_TYPE = re.compile(
    r"Cast|Identity|IdentityN|Transpose|ConjugateTranspose|(Mirror)?Pad(V2|Grad)?|Concat(V2)?|Slice|StridedSlice(Grad)?"
    r"|Tile|Pack|Unpack|Gather\w*|ResourceGather|Scatter\w*|TensorScatter\w*|Split(V)?|Reverse\w*|BroadcastTo"
    r"|TensorList\w+|DepthToSpace|SpaceToDepth|SpaceToBatch\w*|BatchToSpace\w*|Resize\w+|_?Send|_?Recv|_Host(Send|Recv)"
    r"|DeepCopy|Reshape|Squeeze|ExpandDims|ReadVariableOp|MklToTf|_MklToTf|_MklLayoutConvert|Bitcast|DynamicStitch"
    r"|(Ref)?(Switch|Merge|Enter|Exit|NextIteration)|LoopCond|Shape(N)?|VariableShape|Size|Rank|OneHot|StackPushV2|StackPopV2|copy|transpose|memcpy"
)
_REDUCTION_TYPE = re.compile(
    r"(Sum|Mean|Max|Min|Prod|All|Any|ArgMax|ArgMin|L2Loss|Cumsum|Cumprod|BiasAddGrad|TopK\w*|Sort|EuclideanNorm)"
    r"|\w*(Pool|Softmax|SoftmaxCrossEntropy)\w*|UnsortedSegment\w+|(Segment|SparseSegment)\w+|reduce\w*|select-and-scatter"
)
_ELEMENTWISE_TYPE = re.compile(
    r"Add|AddV2|AddN|Sub|Mul|Div|RealDiv|FloorDiv|DivNoNan|Neg|Square|SquaredDifference|Sqrt|Rsqrt|Pow|Exp|Expm1|Log"
    r"|Log1p|Tanh|Erfc?|Sigmoid|Relu\w*|Elu\w*|Selu\w*|Gelu\w*|LeakyRelu\w*|Soft(plus|sign)\w*|Maximum|Minimum|Select\w*"
    r"|Where|BiasAdd|IsFinite|IsNan|IsInf|Fill|Greater\w*|Less\w*|Equal|NotEqual|Logical\w+|Abs|Sign|Round|Floor|Ceil"
    r"|FloorMod|ZerosLike|OnesLike|ClipByValue|Reciprocal|Cos|Sin|Stateless\w*|Random\w*|AssignAdd\w*|AssignSub\w*"
    r"|Assign\w*|ResourceApply\w*|_UnaryOpsComposition|_Fused\w*|BatchNorm\w*|FusedBatchNorm\w*|LayerNorm\w*|\w+Grad"
    r"|Inv|Xdivy|Xlogy|Range|If"
)

_MOVING_WORDS = {
    "copy",
    "transpose",
    "convert",
    "bitcast",
    "concatenate",
    "slice",
    "pad",
    "broadcast",
    "gather",
    "scatter",
}
_MOVING_WORDS |= {"dynamic-slice", "dynamic-update-slice", "reshape", "reverse", "iota", "memset", "memcpy"}

_PRIMITIVE = re.compile(r"^(\w+?)_GPU_DT_\w+_kernel")
"""TensorFlow's generated kernels are named after their operation: `Cast_GPU_DT_FLOAT_DT_HALF_kernel`."""

_ONEDNN_PREFIX = re.compile(r"^_Mkl(?:Native)?(?=[A-Z])")

_UPDATE_TYPE = re.compile(r"(?:Resource|Sparse)?Apply[A-Z]\w+|ResourceSparseApply\w+")


def operation_type(op: str) -> str:
    """The type in `path:Type`; oneDNN's are called as TensorFlow's own of the same kind."""
    return _ONEDNN_PREFIX.sub("", op.rpartition(":")[2])


def is_cast(kernel: str, kind: str) -> bool:
    return kind == "Cast" or kernel.startswith("Cast_GPU_")


def updates_weights(kind: str) -> bool:
    """Whether a type of operation is an optimizer's."""
    return bool(_UPDATE_TYPE.fullmatch(kind))


def on_tensor_cores(kernel: str, instruction: Instruction | None = None) -> bool:
    """Whether a kernel multiplies on tensor cores, as far as its name or XLA tells.

    The names of generated kernels do not tell; for XLA's the types of the operands are known.
    """
    if _TENSOR_CORES.search(kernel) and not _ORDINARY_CORES.search(kernel):
        return True
    made_for_them = instruction is not None and instruction.product and instruction.half
    return made_for_them and bool(_GENERATED_PRODUCT.search(kernel)) and not _ORDINARY_CORES.search(kernel)


@functools.lru_cache(maxsize=10_000)
def kernel_class(kernel: str, kind: str, instruction: Instruction | None, on_device: bool) -> str:
    """The class of work, without regard to its layer: what the kernel's name says, else what its operation's does.

    Args:
        kernel: its name, mangled or not; on a CPU nothing that says more than `kind`.
        kind: type of the TensorFlow operation, or empty.
        instruction: of XLA; its kernels have names that say little.
        on_device: whether it ran on a GPU.
    """
    if on_device and on_tensor_cores(kernel, instruction):
        return TENSOR_CORES
    if instruction is not None:
        return OTHER_PRODUCTS if instruction.product else _class_of_type(kind) or _class_of_instruction(kernel)
    if not on_device:
        return OTHER_PRODUCTS if is_product_type(kind) else _class_of_type(kind) or UNCLASSIFIED
    generated = _PRIMITIVE.search(kernel)
    if generated and (known := _class_of_type(generated[1])):
        return known
    name = kernel.replace("void ", "").partition("(")[0]
    for found, pattern in ((COPIES, _COPIES), (OTHER_PRODUCTS, _PRODUCTS), (REDUCTIONS, _REDUCTIONS)):
        # Eigen's names hold all they are made of; there the operation's type says more.
        if pattern.search(name) and not (name.startswith("Eigen::") and kind):
            return found
    known = _class_of_type(kind)
    return known or (OTHER_PRODUCTS if is_product_type(kind) else "") or _last_resort(name)


def _class_of_type(kind: str) -> str:
    """Empty where it is not known."""
    for found, pattern in ((COPIES, _COPY_TYPE), (REDUCTIONS, _REDUCTION_TYPE)):
        if pattern.fullmatch(kind):
            return found
    if is_product_type(kind):
        return ""
    return ELEMENTWISE if _ELEMENTWISE_TYPE.fullmatch(kind) else ""


def _class_of_instruction(name: str) -> str:
    """Of XLA's, made for a product but none itself, or without a name of TensorFlow's: `transpose_copy_fusion.3`."""
    words = set(re.split(r"[_.\d]+", name)) - {"fusion", "wrapped", "loop", "input", ""}
    if words and words <= _MOVING_WORDS:
        return COPIES
    return REDUCTIONS if words & {"reduce", "reduce-window", "select-and-scatter"} else ELEMENTWISE


def _last_resort(name: str) -> str:
    return ELEMENTWISE if _ELEMENTWISE.search(name) else UNCLASSIFIED
