"""A batch or a dataset that a factory gives beside its model: steps take it as Keras's fit does, or it is one line."""

from types import SimpleNamespace

import numpy as np
import pytest

from mpbench.config.precisions import PRECISIONS
from mpbench.config.profiles import LARGEST_BATCH, Profile
from mpbench.config.sweep import parse_sweep
from mpbench.engine.factories import check_factories, check_factory, check_options
from mpbench.engine.plan import GroupPlan, Member, StepSpec
from mpbench.engine.step import Step
from mpbench.errors import CaseFailure, UsageProblem
from mpbench.records.measured import Measured
from mpbench.system.device import Device

pytestmark = pytest.mark.tensorflow

CPU = Device("cpu", "/CPU:0")

LABELS = {
    "transformer": "own batch: x int32 5x12, y int32 5x12",
    "segmenter": "own dataset: x uint8 6x16x16x3, y uint8 6x16x16",
    "gan_with_dataset": "own dataset: x float32 3x16x16x3",
    "siamese_list": "own batch: x float32 4x16x16x3 and float32 4x16x16x3, y int64 4x1",
    "siamese_dict": "own batch: x float32 4x16x16x3 and float32 4x16x16x3, y int64 4x1",
    "triplets": "own batch: x float32 4x16x16x3, y float32 4x16x16x3, sample_weight float32 4x16x16x3",
    "weighted": "own batch: x float32 9x7, y float32 9x3, sample_weight float32 9",
    "two_outputs_in_a_pydataset": "own dataset: x float32 4x16x16x3, y int64 4 and float32 4x1",
    "classes_without_a_loss": "own batch: x int64 8x6, y int64 8",
}
"""What each factory's training steps are given."""

WITHOUT_INFERENCE = ("gan_with_dataset", "triplets")


def spec(model, precision="float32", phase="training", jit=None, batch_size=2):
    return StepSpec(f"users_models:{model}", PRECISIONS[precision], phase, batch_size, 16, jit, CPU)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize("model", LABELS)
def test_training_takes_the_factorys_batch(model, precision):
    step = Step(spec(model, precision))
    step.run(3)
    step.check()
    assert step.batch.label == LABELS[model]
    assert step.spec.batch_size == step.batch.samples == step.batch.tensors["x"][0].shape[0]
    assert step.steps > step.skipped_steps()


@pytest.mark.parametrize("model", [model for model in LABELS if model not in WITHOUT_INFERENCE])
def test_inference_takes_x_alone(model):
    step = Step(spec(model, "mixed_float16", "inference"))
    step.run(2)
    step.check()
    assert step.batch.label == LABELS[model].partition(", y")[0]
    answers = step.model.predict_on_batch(step.batch.x)
    np.testing.assert_array_equal(
        *(np.asarray(one["kind"] if "two" in model else one) for one in (step._last, answers))
    )


@pytest.mark.parametrize("model", ["transformer", "segmenter", "siamese_dict", "two_outputs_in_a_pydataset"])
def test_xla_compiles_such_a_step(model):
    step = Step(spec(model, "mixed_float16", jit=True))
    step.run(2)
    step.check()
    assert step._call.function_def.attr["_XlaMustCompile"].b


@pytest.mark.parametrize("model", ["transformer", "segmenter", "siamese_list", "siamese_dict", "weighted"])
def test_a_step_is_what_fit_does_with_the_same_data(model):
    import tensorflow as tf

    from mpbench.engine.factories import load_factory
    from mpbench.engine.models import compile_model, dtype_policy
    from mpbench.engine.own_data import split

    one = spec(model, "mixed_float16")
    step = Step(one)
    step.run(3)
    with tf.device("/CPU:0"):
        with dtype_policy("mixed_float16"):
            theirs, data = split(load_factory(one.model)((16, 16, 3)))
            theirs(data[0] if isinstance(data, tuple) else next(iter(data))[0])
        compile_model(theirs, one.precision, False, one.image_shape)
        if isinstance(data, tuple):
            theirs.fit(*data[:2], 9, epochs=step.steps, shuffle=False, verbose=0, sample_weight=(*data, None)[2])
        else:
            theirs.fit(data.take(1), epochs=step.steps, shuffle=False, verbose=0)
    for ours, of_fit in zip(step.model.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(ours, of_fit, rtol=0, atol=2e-6)  # a step moves them by up to 1e-3


def test_a_step_of_its_own_gets_what_fit_would_give_it():
    """Images alone, and not in a tuple; three parts as they are."""
    assert Step(spec("gan_with_dataset")).batch.y is None
    assert len(Step(spec("triplets")).batch.tensors) == 3


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("empty_dataset", "the dataset of its factory is empty: it must give one batch or more"),
        ("empty_pydataset", "the dataset of its factory is empty: it must give one batch or more"),
        ("empty_batch", "the batch of its factory is empty: x float32 0x7"),
        ("not_batched", "x float64 7, y float64 without a dimension: all must have the same first dimension, the "),
        ("not_batched", "(is its dataset batched?)"),
        ("of_different_sizes", "x float32 4x7, y float32 5x3: all must have the same first dimension, the samples"),
        ("four_parts", "is a list of 4: valid is x, (x, y) or (x, y, sample_weight)"),
        ("no_arrays", "holds a value of type int: valid is x, (x, y) or"),
        ("ragged", "holds a RaggedTensor that is not dense: ValueError: "),
        ("no_data", "the data of its factory are of type int: valid is x, (x, y) or"),
        ("weights_alone", "has a sample_weight and no y"),
        ("fails_while_it_reads", "gives no batch: OSError: no such file: tokens.bin (users_models.py, line "),
        (
            "other_features",
            "does not take the batch of its factory, x float32 4x9, y float32 4x3: ValueError: Input 0 ",
        ),
        ("other_features", "expected shape=(None, 7), found shape=(4, 9)"),
        ("other_names", "x float32 4x7 and float32 4x7: KeyError: 'right' (users_models.py, line "),
        ("three_returned", "returned a tuple: valid is a Keras 3 model for input (16, 16, 3), or (model, "),
    ],
)
def test_data_that_cannot_be_taken_are_one_line_before_anything_is_measured(model, words, capfd):
    with pytest.raises(UsageProblem) as caught:
        check_factory(f"users_models:{model}", 16)
    assert str(caught.value).startswith(f"--mp-models: 'users_models:{model}'")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Warning" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("x_alone", "is x float32 4x7, and its loss takes targets: valid is (x, y) or (x, y, sample_weight)"),
        ("targets_that_do_not_fit", "with the batch of its factory, x float32 4x7, y float32 4x5: ValueError: Dimen"),
        ("two_outputs_without_a_loss", "no loss is known for 2 outputs: let the factory compile its model"),
        ("feature_map_with_images", "no loss is known for the output shape (2, 14, 14, 8): let the factory compile"),
    ],
)
def test_data_that_cannot_be_trained_with_are_one_line_and_may_do_for_inference(model, words):
    with pytest.raises(CaseFailure) as caught:
        Step(spec(model))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    Step(spec(model, phase="inference")).check()


def test_which_data_are_taken_is_said_once():
    notes = []
    models = ["users_models:transformer", "users_models:segmenter", "vgg16", "tiny_models:classifier"]
    assert check_factories(models, [16, 32], notes.append) == {models[0]: [5, 5], models[1]: [6, 6]}
    assert [note for note in notes if "checking" not in note] == [
        f"{models[0]}: its steps take the batch of its factory: x int32 5x12, y int32 5x12",
        *(
            f"{models[1]}: its steps take the first batch of its dataset, 6 samples, over and over: "
            f"x uint8 6x{size}x{size}x3, y uint8 6x{size}x{size}"
            for size in (16, 32)
        ),
    ]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"batch_size": 8}, "--mp-batch-size: 8 {}: leave it out, or use 5"),
        ({"sweep": parse_sweep("batch=4,max")}, "--mp-sweep: batch=4 {}: leave it out, or sweep the image size"),
        ({"replicas": 2}, "--mp-replicas: 2 {}: leave it out, or use 1"),
        ({"batch_size": 5}, None),
        ({"sweep": parse_sweep("image=16,32")}, None),
    ],
)
def test_options_that_such_a_batch_leaves_no_meaning_are_refused(given, line):
    settings = SimpleNamespace(**{"batch_size": None, "sweep": (), "replicas": 1, **given})
    if line is None:
        check_options({"m:f": [5, 5]}, settings)
    else:
        with pytest.raises(UsageProblem) as caught:
            check_options({"m:f": [5, 5]}, settings)
        assert str(caught.value) == line.format("given together with m:f, whose factory gives its own batch of 5")
    check_options({}, settings)


def test_cases_that_take_images_refuse_it():
    from mpbench.accuracy.experiment import Experiment
    from mpbench.accuracy.weights import Weights

    settings = SimpleNamespace(recipe=SimpleNamespace(image_size_px=16))
    experiment = Experiment(settings, lambda: CPU, lambda line: None)
    with pytest.raises(
        UsageProblem, match="segmenter' gives its own data: accuracy cases take images, leave it out or"
    ):
        experiment._check_base("users_models:segmenter", Weights("factory"))


@pytest.mark.parametrize("given", [{"batch_size": LARGEST_BATCH}, {"takes_batches": True}])
def test_a_step_takes_no_other_batch(given):
    with pytest.raises(CaseFailure, match="its factory gives its own batch of 5: it takes no other"):
        Step(spec("transformer", batch_size=given.pop("batch_size", 2)), **given)


def measured(model, precisions=("float32", "mixed_float16"), profile=None):
    from tiny_plans import measure_group

    members = {
        name: Member(spec(model, name), baseline=None if name == "float32" else "float32") for name in precisions
    }
    limits = Profile("quick", batch_size=2, image_size_px=16, max_seconds=0.3)
    return measure_group(GroupPlan("own", "", members, limits), lambda line: None, profile=profile)


def test_the_record_says_which_data_and_how_many_samples():
    for outcome in measured("segmenter").values():
        record = outcome.record
        assert record.data == LABELS["segmenter"]
        assert record.batch_size == 6
        assert record.images_per_second == pytest.approx(6 / outcome.median_seconds)


def test_a_factory_that_gives_another_batch_each_time_is_refused():
    outcomes = measured("another_batch_each_time")
    assert isinstance(outcomes["float32"], Measured)
    assert "its factory gives another batch each time: all precisions need the same one" in str(
        outcomes["mixed_float16"]
    )


@pytest.mark.parametrize("model", ["transformer", "gan_with_dataset"])
def test_a_profile_knows_its_layers_and_optimizers(model):
    from mpbench.records.profile import read_profile
    from mpbench.why.measuring.profile import profiler
    from mpbench.why.reading.attribution import OPTIMIZER_PLACE

    (outcome,) = measured(model, ["float32"], profiler(CPU, 2, on_cpu=True)).values()
    assert outcome.record.no_step_profile == ""
    rows = {row.name: row for row in read_profile(outcome.record.step_profile).rows}
    assert rows[OPTIMIZER_PLACE].bytes >= 28 * outcome.record.parameters  # Adam's, of all its optimizers
    assert sum(row.flops for row in rows.values()) > 0


def test_what_is_told_apart():
    from mpbench.engine.own_data import Batch, own_batch

    one, other = (own_batch((np.zeros((2, 3)), np.full(2, value))) for value in (0, 1))
    assert one.digest == own_batch((np.zeros((2, 3)), np.full(2, 0))).digest != other.digest
    assert own_batch(np.zeros((2, 3), np.float16)).digest == own_batch(np.zeros((2, 3))).digest  # as fit gives both
    assert own_batch(np.zeros((2, 3), np.int32)).digest != own_batch(np.zeros((2, 3))).digest
    texts = [own_batch(np.array([[text], ["b"]])).digest for text in ("a", "a", "c")]
    assert texts[0] == texts[1] != texts[2]
    assert Batch(one.x).label == ""
    many = [own_batch({f"{i:03}": np.zeros((2, i)) for i in range(1, last)}).label for last in (90, 91)]
    assert many[0][:300] == many[1][:300]
    assert many[0] != many[1]


@pytest.mark.parametrize("model", ["transformer", "weighted", "siamese_dict", "gan_with_dataset"])
def test_numerics_take_the_same_batch(model):
    from mpbench.numerics.trial import trial_of

    trial = trial_of(spec(model))
    assert trial.data == LABELS[model]
    assert trial.samples == Step(spec(model)).batch.samples
    assert trial.of(PRECISIONS["mixed_float16"], remedies=False).judgement.verdict.value == "SAFE"
