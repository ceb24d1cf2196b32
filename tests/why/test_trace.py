import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces import Made, levels, unpacked

from mpbench.why.reading.trace import UnreadableTrace, read_trace, shared_ps

pieces = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 30), st.sampled_from("abc")).map(lambda p: (p[0], p[0] + p[1], p[2]))
)


def busy_ps(trace):
    return sum(work.ps for work in trace.work)


@given(pieces)
def test_shared_time_adds_up_to_the_time_in_which_anything_ran(given_pieces):
    covered = {at for start, end, _ in given_pieces for at in range(start, end)}
    assert sum(shared_ps(given_pieces).values()) == len(covered)


@given(pieces)
def test_no_one_gets_more_than_its_own_time(given_pieces):
    for name, ps in shared_ps(given_pieces).items():
        assert 0 <= ps <= sum(end - start for start, end, of in given_pieces if of == name) + len(given_pieces) ** 2


def test_two_that_run_at_once_get_half_each():
    assert shared_ps([(0, 10, "a"), (4, 10, "b")]) == {"a": 7, "b": 3}


def test_streams_that_overlap_count_once(tmp_path):
    made = Made()
    plane = made.gpu([("k1", "m/a/Mul:Mul", 0, 100)])
    made.line(plane, "Stream #2(MemcpyH2D)", [("MemcpyH2D", 50, 100, {"tf_op": "m/x:_Recv"})])
    made.line(plane, "TensorFlow Ops", [("repeats", 0, 150, {"tf_op": "m/a/Mul:Mul"})])
    trace = read_trace(made.file(tmp_path))
    assert busy_ps(trace) == trace.span_ps == 150_000
    assert {work.kernel: work.ps for work in trace.work} == {"k1": 75_000, "MemcpyH2D": 75_000}


def test_each_gpu_counts(tmp_path):
    made = Made()
    for number in range(2):
        made.gpu([("k", "m/a/Mul:Mul", 0, 100 + 50 * number)], number)
    made.plane("/device:GPU:2")
    trace = read_trace(made.file(tmp_path))
    assert (trace.devices, busy_ps(trace), trace.span_ps) == (2, 250_000, 150_000)


def test_names_are_resolved(tmp_path):
    trace = read_trace(unpacked("h200-vgg16", tmp_path))
    assert trace.on_device
    assert trace.device_name == "NVIDIA H200"
    assert trace.tensor_cores is True
    assert levels(tmp_path / "h200-vgg16.xplane.pb")["host_tracer_level"] == 2
    kinds = {work.op.rpartition(":")[2] for work in trace.work}
    assert {"BiasAddGrad", "MaxPoolGrad", "_FusedConv2D"} <= kinds
    assert not any(work.op == "" for work in trace.work)  # each memset belongs to the kernel that follows
    assert busy_ps(trace) == 25_936_180_000  # the union of all intervals, added up by other means
    assert sum(work.count for work in trace.work) == 1018


def test_what_has_no_name_belongs_to_the_next_on_its_stream(tmp_path):
    made = Made()
    kernels = [
        ("Memset", "", 0, 10),
        ("conv", "m/a/Conv2D:Conv2D", 10, 10),
        ("Memset", "", 20, 5),
        ("Memset", "", 30, 5),
    ]
    plane = made.gpu([*kernels, ("pool", "m/b/MaxPool:MaxPool", 40, 10), ("Memset", "", 60, 7)])
    made.line(plane, "Stream #2", [("other", 70, 10, {"tf_op": "m/c/Mul:Mul"})])
    found = {(work.kernel, work.op): work.ps for work in read_trace(made.file(tmp_path)).work}
    assert found == {
        ("Memset", "m/a/Conv2D:Conv2D"): 10_000,
        ("conv", "m/a/Conv2D:Conv2D"): 10_000,
        ("Memset", "m/b/MaxPool:MaxPool"): 10_000,
        ("pool", "m/b/MaxPool:MaxPool"): 10_000,
        ("Memset", ""): 7_000,
        ("other", "m/c/Mul:Mul"): 10_000,
    }


@pytest.mark.parametrize(("major", "expected"), [(6, False), (7, True), (9, True)])
def test_whether_there_are_tensor_cores(tmp_path, major, expected):
    made = Made()
    made.gpu([("k", "", 0, 1)], compute_cap_major=major, compute_cap_minor=0)
    assert read_trace(made.file(tmp_path)).tensor_cores is expected


def test_on_a_cpu_only_the_innermost_operation_of_a_thread_counts(tmp_path):
    made = Made()
    plane = made.cpu([[("m/a/Mul:Mul", 0, 100), ("m/a/Add:AddV2", 20, 30)], [("m/b/Mul:_MklMatMul", 100, 100)]])
    made.line(
        plane,
        "python",
        [
            ("TFE_Py_ExecuteCancelable", 0, 1000, {}),
            ("cond:If", 0, 900, {}),
            ("EagerLocalExecute: __inference_f_1", 0, 1000, {}),
            ("__inference_f_1:__inference_f_1", 0, 990, {}),
        ],
    )
    trace = read_trace(made.file(tmp_path))
    assert not trace.on_device
    assert {work.op: work.ps for work in trace.work} == {
        "m/a/Mul:Mul": 70_000,
        "m/a/Add:AddV2": 30_000,
        "m/b/Mul:_MklMatMul": 100_000,
    }


def test_instructions_of_xla_are_found_in_the_programs(tmp_path):
    trace = read_trace(unpacked("cpu-convnet-xla", tmp_path))
    assert trace.compiled
    assert not trace.on_device
    assert all(work.instruction for work in trace.work)
    assert not any(work.instruction.container for work in trace.work)
    named = sum(work.ps for work in trace.work if work.instruction.parts)
    assert named >= 0.99 * busy_ps(trace)
    for work in trace.work:
        assert sum(part.share for part in work.instruction.parts) == pytest.approx(float(bool(work.instruction.parts)))


def test_a_program_that_is_missing_leaves_its_kernels_nameless(tmp_path):
    made = Made()
    plane = made.plane("/device:GPU:0")
    made.line(plane, "Stream #1", [("fusion", 0, 10, {"hlo_op": "fusion.1", "hlo_module": "gone", "program_id": 7})])
    (work,) = read_trace(made.file(tmp_path)).work
    assert work.op == ""
    assert work.instruction is None


def unreadable(path, **options):
    with pytest.raises(UnreadableTrace) as caught:
        read_trace(path, **options)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def test_missing_and_empty_files(tmp_path):
    assert "No such file" in unreadable(tmp_path / "none.xplane.pb")
    (tmp_path / "empty").touch()
    assert unreadable(tmp_path / "empty").endswith("empty")
    assert "directory" in unreadable(tmp_path)


@pytest.mark.parametrize("content", [b"{}", b"\x1f\x8b\x08\x00garbage", b"GIF89a\xff\xff", b"\n" * 100])
def test_foreign_files(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    unreadable(tmp_path / "file")


@pytest.mark.parametrize("share", [0.001, 0.3, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path, share):
    path = unpacked("h200-vgg16", tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    unreadable(path)


def test_lost_events_are_no_profile(tmp_path):
    made = Made()
    made.gpu([("k", "m/a/Mul:Mul", 0, 10)])
    made.space.warnings.append(
        "Detected GPU events dropped on host: Profiler has collected 5 driver events and 3 device events. "
        "2 events dropped because total device(GPU) events reaches max;"
    )
    text = unreadable(made.file(tmp_path))
    assert "lost events" in text
    assert "reaches max" in text


def test_a_gpu_without_kernels_has_no_cupti(tmp_path):
    made = Made()
    made.cpu([[("m/a/Mul:Mul", 0, 10)]])
    made.space.errors.append("Insufficient privilege to run libcupti (you need root permission).")
    path = made.file(tmp_path)
    text = unreadable(path, expect_gpu=True)
    assert "no kernel of a GPU" in text
    assert "Insufficient privilege" in text
    assert not read_trace(path).on_device  # where none is expected, the host's operations are what there is


def test_a_trace_of_something_else(tmp_path):
    made = Made()
    made.line(made.plane("/device:TPU:0"), "XLA Ops", [("fusion", 0, 10, {})])
    assert "/device:TPU:0" in unreadable(made.file(tmp_path))


def test_reading_needs_no_tensorflow(tmp_path):
    path = unpacked("h200-vgg16", tmp_path)
    code = (
        "import sys; from pathlib import Path; from mpbench.why.reading.page import trace_answer; "
        f"print(trace_answer(Path({str(path)!r}))[0][0]); sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "NVIDIA H200" in done.stdout


def test_kernels_inside_a_cuda_graph_are_nobodys(tmp_path):
    made = Made()
    made.gpu(
        [
            ("Memset 3", "", 0, 100),
            ("conv", "net_1/conv_1/Conv2D:Conv2D", 200, 1000),
            ("graph_kernel", "", 2000, 700),
            ("other", "net_1/dense_1/MatMul:MatMul", 3000, 500),
        ]
    )
    ps = {(work.kernel, work.op): work.ps for work in read_trace(made.file(tmp_path)).work}
    assert ps["Memset 3", "net_1/conv_1/Conv2D:Conv2D"] == 100_000
    assert ps["graph_kernel", ""] == 700_000
