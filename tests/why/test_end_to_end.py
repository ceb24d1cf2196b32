"""why.measuring.end_to_end with real steps: what is planted is named, and nothing is left over from a pause."""

import time
from contextlib import nullcontext

import keras
import numpy as np
import pytest

from mpbench.config.precisions import PRECISIONS
from mpbench.data.loader import Loader
from mpbench.engine.plan import StepSpec
from mpbench.engine.stopping import Plan
from mpbench.errors import CaseFailure
from mpbench.records.diagnostics import EndToEndRecord, InputRecord
from mpbench.system.device import Device
from mpbench.why.measuring.diagnostic import measure_diagnostics
from mpbench.why.measuring.end_to_end import _settle, end_to_end_steps, input_pipeline
from mpbench.why.reading.input_verdict import InputTimes, InputVerdict

pytestmark = pytest.mark.tensorflow

CPU = Device("cpu", "/CPU:0")
BATCH = 4


class Grey:
    """Images each of one level, their own number; so many seconds each."""

    cache = "none"
    at_once = 1

    def __init__(self, size_px, seconds=0.0, count=250):
        self.labels = np.zeros(count, np.int64)
        self.size_px = size_px
        self.seconds = seconds
        self.fetched = 0

    def fetch(self, indices, out):
        if self.seconds:
            time.sleep(self.seconds)
        self.fetched += len(indices)
        out[:] = np.asarray(indices)[:, None, None, None]


def spec(model="classifier", size_px=16, phase="training", precision="float32"):
    return StepSpec(f"tiny_models:{model}", PRECISIONS[precision], phase, BATCH, size_px, None, CPU)


def steps_of(step_spec, loader):
    return end_to_end_steps(step_spec, loader, "quick", lambda text: None)


def measured(step_spec, loader):
    to_build = [
        (["device", "pipeline"], steps_of(step_spec, loader)),
        (["input"], nullcontext({"input": input_pipeline(loader, CPU, "quick")})),
    ]
    outcomes = measure_diagnostics(to_build, Plan(1.0, 0.05), CPU, "", lambda text: None)
    for outcome in outcomes.values():
        if isinstance(outcome, Exception):
            raise outcome
    return outcomes


def times(outcomes):
    return InputTimes(*(outcomes[name].median_seconds for name in ("device", "input", "pipeline")), BATCH)


def test_a_slow_loader_is_named():
    with Loader(Grey(16, seconds=0.02), BATCH, workers=2, paused=True, label="levels") as loader:
        outcomes = measured(spec(), loader)
    one = times(outcomes)
    assert one.verdict is InputVerdict.INPUT_BOUND
    assert one.end_to_end > 0.02  # two images each by two threads: no batch can be had in less
    record = outcomes["pipeline"].record
    assert isinstance(record, EndToEndRecord)
    assert (record.input, record.workers, record.cache, record.data) == ("pipeline", 2, "none", "levels")
    assert (record.model, record.precision, record.phase) == ("tiny_models:classifier", "float32", "training")
    assert outcomes["device"].record.input == "device"
    alone = outcomes["input"].record
    assert isinstance(alone, InputRecord)
    assert (alone.images, alone.batch_size, alone.image_size, alone.model) == (250, BATCH, 16, "")


def test_a_heavy_step_is_named():
    with Loader(Grey(96), BATCH, workers=2, paused=True) as loader:
        one = times(measured(spec("edges", 96), loader))
    assert one.verdict is InputVerdict.COMPUTE_BOUND


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_an_end_to_end_step_computes_what_the_model_does_of_the_same_images(precision):
    inference = spec(phase="inference", precision=precision)
    with Loader(Grey(16), BATCH, workers=3, paused=True) as loader, steps_of(inference, loader) as diagnostics:
        diagnostic = diagnostics["pipeline"]
        diagnostic.run(9)
        diagnostic.after()
        step = diagnostic.skipped_steps.__self__
        pixels = np.broadcast_to(np.arange(36, 40)[:, None, None, None], (BATCH, 16, 16, 3))
        expected = step.model.predict((pixels / 128 - 1).astype(np.float32), verbose=0)
        np.testing.assert_allclose(np.asarray(step._last), expected, rtol=1e-3)
        diagnostic.check()


def test_both_share_one_step_which_is_given_back_in_the_end():
    with Loader(Grey(16), BATCH, paused=True) as loader, steps_of(spec(), loader) as diagnostics:
        step = diagnostics["pipeline"].skipped_steps.__self__
        assert diagnostics["device"].skipped_steps.__self__ is step
        before = step.steps
        diagnostics["device"].run(2)
        diagnostics["pipeline"].run(3)
        assert step.steps == before + 5
        diagnostics["pipeline"].check()
    assert not hasattr(step, "model")
    keras.backend.clear_session()


def test_nothing_is_fetched_while_others_are_timed():
    source = Grey(16)
    with Loader(source, BATCH, workers=3) as loader, steps_of(spec(), loader) as diagnostics:
        for _ in range(3):
            before = source.fetched
            diagnostics["device"].run(20)
            time.sleep(0.02)
            assert source.fetched == before
            diagnostics["pipeline"].before()
            diagnostics["pipeline"].run(2)
            diagnostics["pipeline"].after()
            assert source.fetched > before


@pytest.mark.parametrize(
    ("states", "full_is_settled", "expected"),
    [
        ([2, 2], True, 1),  # as far ahead as it may be: the step is the slower one
        ([1, 0, 0, 0], True, 3),  # two batches were begun before the pause: their images came for nothing
        ([2, 2, 2, 1, 0, 0], False, 5),  # the pipeline alone: what lies ready is no rate
        ([1] * 20, True, 8),  # neither: as fast as each other
    ],
)
def test_a_round_begins_as_if_there_had_been_no_pause(states, full_is_settled, expected):
    class Told:
        ahead = 2
        resumed = 0

        def resume(self):
            self.resumed += 1

        @property
        def ready(self):
            return states[len(taken)]

    taken, loader = [], Told()
    _settle(loader, lambda: taken.append(1), full_is_settled)
    assert (len(taken), loader.resumed) == (expected, 1)


def test_a_loader_that_has_ended_fails_the_case():
    loader = Loader(Grey(16), BATCH)
    with steps_of(spec(), loader) as diagnostics:
        loader.close()
        with pytest.raises(CaseFailure, match="has been closed"):
            diagnostics["pipeline"].run(3)


def test_an_image_that_has_changed_fails_the_case(tmp_path):
    from image_files import GOOD, data_set

    from mpbench.data.loader import Files

    members = data_set(tmp_path, [[GOOD] * 6]).images
    with Loader(Files(members, 16), BATCH, paused=True) as loader:
        diagnostic = input_pipeline(loader, CPU, "quick")
        for image in members:
            image.path.write_bytes(b"x")
        with pytest.raises(CaseFailure, match=r"input pipeline: 0\.00\d\.jpg: not an image"):
            diagnostic.run(9)
