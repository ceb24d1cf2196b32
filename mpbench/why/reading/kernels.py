"""What a profile's events are, told from their names: classes of a GPU's kernels, and a host's operations.

Pure: no profiler, no TensorFlow. A name proves what it says and nothing else, so each list below errs on the side of
`other`, and the share of tensor cores is a lower bound.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

TENSOR_CORES = "convolution and matmul on tensor cores"
OTHER_PRODUCTS = "other convolution and matmul"
OPTIMIZER = "optimizer"
NORMALISATION = "normalisation"
REDUCTIONS = "reductions and pooling"
ELEMENTWISE = "elementwise"
COPIES = "copies, casts and layout"
OTHER = "other"

NS_PER_S = 1e9

_OPTIMIZER_PATH = re.compile(
    r"(?:^|/)(?:adam|adamw|adamax|nadam|sgd|rmsprop|adagrad|adadelta|adafactor|ftrl|lion|lamb|muon"
    r"|loss_scale_optimizer)(?:_\d+)?/",
    re.IGNORECASE,
)
"""Keras names the operations of an update after the optimizer: `cond/then/_0/cond/adam/Mul_19`."""

_OPTIMIZER_KERNEL = re.compile(r"Apply(?:Adam|Momentum|GradientDescent|RMSProp|Ada\w+|Ftrl)")

_NORMALISATION_PATH = re.compile(
    r"(?:^|/)(?:\w*_)?(?:bn|batch_?norm|(?:batch|layer|group|unit|rms)_normalization)(?:_\w+)?/", re.IGNORECASE
)
"""Paths of layers: `conv2_block1_1_bn/batchnorm/mul`, `batch_normalization_3/FusedBatchNormV3`."""

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

_PRODUCTS = re.compile(
    r"gemm|gemv|gemvx|cutlass|splitk|matmul|conv(?!ert)|winograd|fft2d|_fft|wgrad|dgrad|fprop|implicit_|xmma"
    r"|(?:^|_)dot(?:_|\d|$)",
    re.IGNORECASE,
)
_COPIES = re.compile(
    r"^mem(?:cpy|set)|^cast|_cast|convert|copy|transpose|nchwtonhwc|nhwctonchw|swapdimension|shuffleintensor|pad_?input"
    r"|(?:^|_)(?:pad|concat|slice|tile|gather|scatter|split|pack)(?:_|\d|$)",
    re.IGNORECASE,
)
_NORMALISATION = re.compile(r"batch_?norm|layer_?norm|(?:^|\W|_)bn_|groupnorm|norm_(?:fw|bw)", re.IGNORECASE)
_REDUCTIONS = re.compile(r"reduc(?!ed_divisor)|softmax|pool|argm(?:ax|in)|biasgrad|biasnhwcgrad|_scan", re.IGNORECASE)
_ELEMENTWISE = re.compile(r"eigen|elementwise|fusion|biasnhwc|biasadd|relu|(?:^|_)(?:add|mul|sub|div)", re.IGNORECASE)

_BY_TYPE = (
    (OTHER_PRODUCTS, re.compile(r"Conv\d|MatMul|Einsum|DepthwiseConv")),
    (NORMALISATION, re.compile(r"BatchNorm|LayerNorm")),
    (
        COPIES,
        re.compile(r"^(Cast|Identity|Transpose|Pad|PadV2|Concat\w*|Slice|StridedSlice|Tile|Pack|Gather\w*|Split)$"),
    ),
    (REDUCTIONS, re.compile(r"^(Sum|Mean|Max|Min|Prod|All|Any|ArgMax)$|Pool|BiasAddGrad|Softmax|L2Loss")),
    (
        ELEMENTWISE,
        re.compile(
            r"^(Add|AddV2|AddN|Sub|Mul|Div|RealDiv|DivNoNan|Neg|Square|SquaredDifference|Sqrt|Rsqrt|Pow|Exp|Log|Tanh"
            r"|Sigmoid|Relu\w*|Elu\w*|Selu\w*|Gelu\w*|LeakyRelu\w*|Maximum|Minimum|Select\w*|BiasAdd|IsFinite|Fill"
            r"|Greater\w*|Less\w*|Equal|Logical\w+|Abs|Sign|Round|Floor|ZerosLike|OnesLike|\w+Grad)$"
        ),
    ),
)

_PRIMITIVE = re.compile(r"(\w+?)_GPU_DT_\w+_kernel")
"""TensorFlow's generated kernels are named after their operation: `Cast_GPU_DT_FLOAT_DT_HALF_kernel`."""

_HOST_OPERATION = re.compile(r"(?P<path>[^:]+):(?P<type>_?[A-Z]\w*)")
"""As TensorFlow's executor names an operation's run; a function's own begins with `__`."""

_ONEDNN_PREFIX = re.compile(r"^_Mkl(?:Native)?")


@dataclass(frozen=True)
class Span:
    """One event of a profile.

    Attributes:
        name: of the kernel, the copy or the operation.
        start_ns, duration_ns: on the clock of its line.
        op: the TensorFlow operation that it was launched for, `path:Type`; empty where nothing says.
        compiled: whether XLA made it.
    """

    name: str
    start_ns: float
    duration_ns: float
    op: str = ""
    compiled: bool = False


def on_tensor_cores(kernel: str) -> bool:
    """Whether a kernel's name says that it multiplies on tensor cores.

    Kernels that are generated on the spot, such as XLA's `gemm_fusion_dot` and cuDNN's `cudnn_generated_...`, do not
    say whether they do, and count as not.
    """
    return bool(_TENSOR_CORES.search(kernel)) and not _ORDINARY_CORES.search(kernel)


def kernel_class(kernel: str, op: str = "") -> str:
    """The class of a GPU's kernel or copy: what the kernel's name says, else what its operation's does.

    Args:
        kernel: its name, mangled or not.
        op: `path:Type` of the TensorFlow operation, or empty.
    """
    path, _, kind = op.rpartition(":")
    if on_tensor_cores(kernel):
        return TENSOR_CORES
    if _OPTIMIZER_PATH.search(path) or _OPTIMIZER_KERNEL.search(kernel):
        return OPTIMIZER
    generated = _PRIMITIVE.search(kernel)
    kind = generated[1] if generated else kind
    of_kernel = kernel.replace("void ", "").partition("(")[0]
    if _PRODUCTS.search(of_kernel):
        return OTHER_PRODUCTS
    if _COPIES.search(kernel):
        return COPIES
    if _NORMALISATION_PATH.search(f"{path}/") or _NORMALISATION.search(kernel):
        return NORMALISATION
    if _REDUCTIONS.search(of_kernel):
        return REDUCTIONS
    for name, pattern in _BY_TYPE:
        if pattern.search(kind):
            return name
    return ELEMENTWISE if _ELEMENTWISE.search(of_kernel) else OTHER


def kernel_seconds(streams: Iterable[Sequence[Span]], steps: int) -> dict[str, float]:
    """Device seconds per step of each class that there is, largest first; as `busy_ns` has them."""
    return _per_step(busy_ns([(span, kernel_class(span.name, span.op)) for span in spans] for spans in streams), steps)


def tensor_core_share(streams: Iterable[Sequence[Span]]) -> float | None:
    """Of the device's time the share of kernels whose names say that they run on tensor cores; None without any time.

    A lower bound; see `on_tensor_cores`.
    """
    busy = busy_ns([(span, str(on_tensor_cores(span.name))) for span in spans] for spans in streams)
    whole = math.fsum(busy.values())
    return busy.get(str(True), 0.0) / whole if whole else None


def operation_type(span: Span) -> str | None:
    """What the tables call an operation on the host; None for an event that is none.

    oneDNN's operations are called as TensorFlow's own of the same kind; those that XLA compiled are `XLA` and the name
    of the instruction without its number.
    """
    if span.compiled:
        return f"XLA {re.sub(r'[.]?[0-9]+$', '', span.name)}"
    match = _HOST_OPERATION.fullmatch(span.name)
    return _ONEDNN_PREFIX.sub("", match["type"]) if match else None


def operation_seconds(threads: Iterable[Sequence[Span]], steps: int) -> dict[str, float]:
    """Host seconds per step of each type of operation, largest first; as `busy_ns` has them."""
    return _per_step(
        busy_ns([(span, kind) for span in spans if (kind := operation_type(span))] for spans in threads), steps
    )


def busy_ns(lines: Iterable[Sequence[tuple[Span, str]]]) -> dict[str, float]:
    """Time in which anything ran, divided among what did.

    Args:
        lines: for each stream or thread its spans, each with the name that its time goes to.

    Returns:
        Nanoseconds of each name. Of a span with others within it on its line, such as a branch, only its own time
        counts; where spans of several lines run at the same time each gets an equal part of it. So the sum is the time
        in which at least one ran, never more.
    """
    pieces = [piece for spans in lines for piece in _own_pieces(spans)]
    edges = sorted([(start, 1, name) for start, _, name in pieces] + [(end, -1, name) for _, end, name in pieces])
    parts: defaultdict[str, list[float]] = defaultdict(list)
    running: Counter[str] = Counter()
    before = 0.0
    for at, change, name in edges:
        if (number := running.total()) and at > before:
            for other, times in running.items():
                parts[other].append((at - before) * times / number)
        before = at
        running[name] += change
        if not running[name]:
            del running[name]
    return {name: math.fsum(of_name) for name, of_name in parts.items()}


def _own_pieces(spans: Sequence[tuple[Span, str]]) -> list[tuple[float, float, str]]:
    """Start, end and name of each stretch of one line in which a span is the innermost."""
    pieces: list[tuple[float, float, str]] = []
    around: list[tuple[float, str]] = []
    at = -math.inf

    def go_on(to: float) -> None:
        nonlocal at
        while around and around[-1][0] <= to:
            end, name = around.pop()
            pieces.append((at, end, name))
            at = end
        if around:
            pieces.append((at, to, around[-1][1]))
        at = to

    for span, name in sorted(spans, key=lambda pair: (pair[0].start_ns, -pair[0].duration_ns)):
        go_on(span.start_ns)
        around.append((span.start_ns + span.duration_ns, name))
    if around:
        go_on(max(end for end, _ in around))
    return [piece for piece in pieces if piece[1] > piece[0]]


def largest(seconds: Mapping[str, float], number: int) -> dict[str, float]:
    """The largest entries, and the sum of all others as OTHER; largest first."""
    by_size = sorted(seconds.items(), key=lambda pair: -pair[1])
    kept = dict(by_size[:number])
    if rest := [value for _, value in by_size[number:]]:
        kept[OTHER] = math.fsum([kept.get(OTHER, 0.0), *rest])
    return dict(sorted(kept.items(), key=lambda pair: -pair[1]))


def _per_step(total_ns: Mapping[str, float], steps: int) -> dict[str, float]:
    by_size = sorted(total_ns.items(), key=lambda pair: -pair[1])
    return {name: ns / NS_PER_S / steps for name, ns in by_size}
