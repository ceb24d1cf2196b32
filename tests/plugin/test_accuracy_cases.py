"""The accuracy cases as users meet them: real pytest runs with tiny real Keras models."""

import io
import json
import re
import shutil
import signal
import subprocess
import sys

import keras  # noqa: F401
import pytest
from child_runs import BARE
from paths import ROOT
from PIL import Image

from mpbench.accuracy import features
from mpbench.data.generated import CLASSES, picture
from mpbench.records.accuracy import ACCURACY
from mpbench.report.accuracy import photographs
from mpbench.system import machine

pytestmark = pytest.mark.tensorflow

# Keras is imported above because pytester unloads what a run in this process imports, and TensorFlow, loaded a second
# time, aborts; what a test below replaces parts of would be another module then.
MODEL = "tiny_models:edges"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for the module: the pictures are drawn once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def project(pytester, monkeypatch, cache):
    """A copy of conftest.py and the accuracy module beside the factories of tiny models."""
    for source in ("conftest.py", "tests/support/tiny_models.py"):
        shutil.copy(ROOT / source, pytester.path)
    # By another name: some runs are in this process, which may have imported the real one.
    shutil.copy(ROOT / "tests" / "test_accuracy.py", pytester.path / "test_alike.py")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_ADDOPTS", BARE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(machine, "others_cpu_seconds", lambda: None)  # what else the machine does decides no test
    return pytester


@pytest.fixture
def photos(tmp_path):
    """A folder of 60 drawn pictures as a user's own data set."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for kind in CLASSES:
        for i in range(30):
            (folder / f"{kind}.{i}.jpg").write_bytes(picture(kind, i, 7))
    return folder


def run(project, *args, models=MODEL, in_process=True):
    """In this process, where TensorFlow is loaded already, unless a process of its own is what matters."""
    start = project.runpytest_inprocess if in_process else project.runpytest_subprocess
    return start("test_alike.py", "--mp-device=cpu", "--mp-image-size=48", f"--mp-models={models}", *args)


def saved(project):
    return json.loads((project.path / "run.json").read_text())["benchmarks"]


def tables(result):
    return result.outlines[next(i for i, line in enumerate(result.outlines) if line.startswith("Table 2")) : -1]


def test_two_runs_give_the_same_tables(project):
    entries = []
    for _ in range(2):
        result = run(project, "--benchmark-json=run.json", in_process=False)
        result.assert_outcomes(passed=2)
        result.stdout.fnmatch_lines(
            [
                "* s] tiny_models:edges, float32: features of 1000 of 1000 images, * images/s",
                "Table 2, validation accuracy in %: generated pictures, 800 to train on, 200 to judge on, *on a CPU",
                "Table 3, McNemar: validation images by who was right",
                "*: tiny_models:edges, mixed_float16 against float32: *",
                "Drawn pictures or random weights: *",
            ]
        )
        (bench,) = saved(project)
        entries.append((ACCURACY.read(bench["extra_info"]), tables(result)))
        assert len(bench["stats"]["data"]) == bench["stats"]["rounds"] == 5
    assert entries[0] == entries[1]
    assert entries[0][0].accuracy > 0.7


def test_every_precision_starts_from_the_factorys_first_weights(project):
    args = ("-k", "mcnemar", "--benchmark-json=run.json", "--mp-require-equivalence", "--mp-margin=30")
    result = run(project, *args, models="tiny_models:other_weights_each_time")
    result.assert_outcomes(passed=1, deselected=1)
    (bench,) = saved(project)
    record = ACCURACY.read(bench["extra_info"])
    assert record.baseline_only + record.precision_only <= 10  # two networks of their own disagree on dozens


def test_a_real_difference_fails_and_is_recorded(project):
    model = "tiny_models:edges_lost_in_float16"
    result = run(project, "-k", "mcnemar", "--benchmark-json=run.json", models=model)
    result.assert_outcomes(failed=1, deselected=1)
    (bench,) = saved(project)
    record = ACCURACY.read(bench["extra_info"])
    assert record.differs or record.unlearned == ["mixed_float16"]
    assert record.baseline_accuracy > 0.7
    shown = photographs(record)
    assert len(shown) == 4
    assert all(re.fullmatch(r"(cat|dog)\.\d+\.jpg, a (cat|dog): .* was right, .* was wrong", p.caption) for p in shown)
    assert all(Image.open(io.BytesIO(p.jpeg)).size == (96, 96) for p in shown)
    result.stdout.re_match_lines([rf"(DIFFERENT|VOID): {model}, mixed_float16 against float32: .*"])


def test_what_overflows_fails_by_name_and_leaves_no_record(project):
    result = run(project, "-k", "mcnemar", "--benchmark-json=run.json", models=f"tiny_models:overflowing_base,{MODEL}")
    result.assert_outcomes(failed=1, passed=1, deselected=1)
    result.stdout.fnmatch_lines(["*tiny_models:overflowing_base, mixed_float16: conv2d* is not finite (NaN or inf*"])
    (bench,) = saved(project)
    assert ACCURACY.read(bench["extra_info"]).model == MODEL


def test_a_users_folder_with_damaged_images(project, photos):
    (photos / "cat.3.jpg").write_bytes(b"")
    content = (photos / "dog.5.jpg").read_bytes()
    (photos / "dog.5.jpg").write_bytes(content[: len(content) // 2])
    Image.open(photos / "dog.6.jpg").convert("CMYK").save(photos / "dog.6.jpg")
    args = ("-k", "mcnemar", f"--mp-data={photos}", "--mp-batch-size=4", "--benchmark-json=run.json", "--mp-alpha=1e-9")
    result = run(project, *args)
    result.stdout.fnmatch_lines(
        [
            "* s] photos: 2 images cannot be decoded and are left out:",
            "*cat.3.jpg: empty file*",
            "*dog.5.jpg: *truncated*",
            "Table 2, validation accuracy in %: photos, * 2 not decodable, *",
        ]
    )
    (bench,) = saved(project)
    record = ACCURACY.read(bench["extra_info"])
    assert (record.training_images + record.validation_images, record.skipped_images) == (58, 2)


def test_too_little_to_learn_from_is_void(project, photos):
    # With alpha this small nothing can be shown to beat the majority class.
    args = ("-k", "mcnemar", f"--mp-data={photos}", "--mp-batch-size=4", "--mp-alpha=1e-9", "--benchmark-disable")
    result = run(project, *args)
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["VOID: tiny_models:edges, mixed_float16 against float32: float32 * do not beat the *"])


def test_a_rare_class_is_counted_before_anything_else(project, photos):
    (photos / "misc").mkdir()
    for kind in CLASSES:
        (photos / kind).mkdir()
        for i in range(30):
            shutil.move(photos / f"{kind}.{i}.jpg", photos / kind)
    shutil.copy(photos / "cat" / "cat.0.jpg", photos / "misc" / "logo.jpg")
    result = run(project, f"--mp-data={photos}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --mp-data: photos: class misc has 1 images: valid are 10 or more of each class"]
    )


def test_three_classes_in_folders(project, photos, tmp_path):
    folder = tmp_path / "three"
    for path in photos.iterdir():
        (folder / path.name[:3]).mkdir(parents=True, exist_ok=True)
        shutil.move(path, folder / path.name[:3] / path.name)
    (folder / "wall").mkdir()
    for i in range(20):
        Image.new("RGB", (64, 64), (10 * i, 200, 90)).save(folder / "wall" / f"{i}.png")
    run(project, "-k", "mcnemar", f"--mp-data={folder}", "--mp-batch-size=4", "--benchmark-json=run.json")
    (bench,) = saved(project)
    record = ACCURACY.read(bench["extra_info"])
    assert (record.classes, record.training_images, record.validation_images) == (3, 64, 16)
    assert record.majority_share == 6 / 16


@pytest.mark.filterwarnings("ignore:Not saving anything")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--mp-models=tiny_models:raises"],
            "ERROR: --mp-models: 'tiny_models:raises' failed for shape (48, 48, 3): *",
        ),
        (
            ["--mp-models=tiny_models:two_outputs"],
            "ERROR: --mp-models: 'tiny_models:two_outputs' returned a model with*",
        ),
        (
            ["--mp-require-equivalence"],
            "ERROR: --mp-require-equivalence: not even identical answers to 200 images can*",
        ),
        (["--mp-data=nowhere"], "ERROR: --mp-data: nowhere: No such file or directory: use a zip or a folder*"),
        (["--mp-data=conftest.py"], "ERROR: --mp-data: conftest.py: is not a zip*"),
        (["--mp-weights=nowhere", "--mp-models=vgg16"], "ERROR: --mp-weights: 'nowhere' does not exist: valid are*"),
        (["--mp-models=inception_v3"], "ERROR: --mp-image-size: 48 is too small for inception_v3: must be 75 or more"),
        (
            ["--mp-models=tiny_models:classifier"],
            "ERROR: --mp-models: tiny_models:classifier does not end in a feature*",
        ),
        (["--mp-precisions=float32"], "ERROR: *test_mcnemar: --mp-precisions: float32: valid for accuracy are the *"),
        (["--mp-alpha=2"], "ERROR: --mp-alpha: '2': must be a number between 0 and 1"),
        (["--benchmark-json=missing/run.json"], "ERROR: --benchmark-json: missing/run.json: valid is a file in*"),
        (["-p", "no:benchmark"], "ERROR: -p no:benchmark: mpbench reports through pytest-benchmark and needs it"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_trained(project, args, message):
    options = ("--mp-device=cpu", "--mp-image-size=48", f"--mp-models={MODEL}")
    result = project.runpytest_inprocess("test_alike.py", *options, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert "features of" not in result.stdout.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_ctrl_c_keeps_what_is_finished(project, interruptible):
    command = [sys.executable, "-m", "pytest", "test_alike.py", "--mp-device=cpu", "--mp-image-size=48"]
    command += [f"--mp-models={MODEL},tiny_models:feature_map", "--benchmark-json=run.json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=project.path)
    output = ""
    for line in process.stdout:
        output += line
        if "tiny_models:feature_map, float32: head trained" in line:
            process.send_signal(signal.SIGINT)
    assert process.wait(60) == pytest.ExitCode.INTERRUPTED
    assert "INTERNALERROR" not in output
    assert "Table 2, validation accuracy" in output
    (bench,) = saved(project)
    assert ACCURACY.read(bench["extra_info"]).model == MODEL


def test_speed_comes_before_accuracy_whatever_the_order(project):
    shutil.copy(ROOT / "bench" / "test_training.py", project.path)
    result = project.runpytest_inprocess(
        "test_alike.py", "test_training.py", f"--mp-models={MODEL}", "--collect-only", "-q"
    )
    files = [line.partition("::")[0] for line in result.outlines[:4]]
    assert files == ["test_training.py"] * 2 + ["test_alike.py"] * 2


def test_out_of_memory_is_one_line_and_not_tried_again(monkeypatch, cache):
    from mpbench.accuracy.experiment import Experiment
    from mpbench.config.settings import read_settings
    from mpbench.errors import CaseFailure
    from mpbench.system.device import Device

    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    tries = []

    def exhausted(*args):
        tries.append(args)
        raise MemoryError

    monkeypatch.setattr(features, "pooled_features", exhausted)
    settings = read_settings({"mp_models": MODEL, "mp_image_size": "48"}, has_tf32=lambda: False)
    experiment = Experiment(settings, lambda: Device("cpu", "/CPU:0"), lambda line: None)
    for _ in range(2):
        with pytest.raises(
            CaseFailure, match=r"out of memory on the cpu at batch 32, 48 px, .* in float32 .*--mp-batch"
        ):
            experiment.compare(MODEL, "mixed_float16")
    assert len(tries) == 1
