"""mpbench.data.division: a data set's division and samples depend on its names and the seed alone."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbench.data.data_set import LabelledImage
from mpbench.data.division import MIN_IMAGES_PER_CLASS, sample, split


@st.composite
def labelled(draw, least=2):
    counts = draw(st.lists(st.integers(least, 40), min_size=1, max_size=4))
    return [
        LabelledImage(f"{label}/{i}.jpg", Path("x"), label) for label, count in enumerate(counts) for i in range(count)
    ]


def per_class(images, label):
    return sum(image.label == label for image in images)


@given(labelled(), st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_split_is_a_stratified_partition_by_names_alone(images, seed, rng):
    training, validation = split(images, seed)
    assert sorted([*training, *validation], key=lambda image: image.name) == sorted(
        images, key=lambda image: image.name
    )
    for label in {image.label for image in images}:
        count = per_class(images, label)
        assert per_class(validation, label) == max(1, round(0.2 * count))
        assert per_class(training, label) >= 1
    for part in (training, validation):
        assert [image.name for image in part] == sorted(image.name for image in part)
    shuffled = list(images)
    rng.shuffle(shuffled)
    assert split(shuffled, seed) == (training, validation)


@given(labelled(least=1), st.integers(0, 200), st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_sample_keeps_proportions(images, count, seed, rng):
    chosen = sample(images, count, seed)
    assert len(chosen) == min(count, len(images))
    assert set(chosen) <= set(images)
    assert len(set(chosen)) == len(chosen)
    labels = {image.label for image in images}
    for label in labels:
        shares = [min(count, len(images)) * per_class(images, other) / len(images) for other in labels]
        share = min(count, len(images)) * per_class(images, label) / len(images)
        if min(shares) >= MIN_IMAGES_PER_CLASS:
            assert abs(per_class(chosen, label) - share) < 1
        if count >= MIN_IMAGES_PER_CLASS * len(labels):
            assert per_class(chosen, label) >= min(MIN_IMAGES_PER_CLASS, per_class(images, label))
    shuffled = list(images)
    rng.shuffle(shuffled)
    assert sample(shuffled, count, seed) == chosen


@pytest.mark.parametrize(("sizes", "count"), [((23, 22, 10), 32), ((10, 22, 22, 21), 40), ((11, 16, 18), 30)])
def test_a_rare_class_takes_from_several_where_the_largest_has_too_little(sizes, count):
    images = [LabelledImage(f"{label}/{i}.jpg", Path("x"), label) for label, n in enumerate(sizes) for i in range(n)]
    chosen = sample(images, count, 0)
    assert len(chosen) == count
    assert min(per_class(chosen, label) for label in range(len(sizes))) == MIN_IMAGES_PER_CLASS


def test_seeds_differ_and_stay_what_they_are():
    images = [LabelledImage(f"cat.{i}.jpg", Path("x"), 0) for i in range(100)]
    assert split(images, 0) != split(images, 1)
    assert sample(images, 20, 0) != sample(images, 20, 1)
    # Recorded: another version must divide a data set in the same way.
    assert [image.name for image in sample(images, 3, 0)] == ["cat.27.jpg", "cat.37.jpg", "cat.59.jpg"]
    assert [image.name for image in split(images, 0)[1]][:3] == ["cat.17.jpg", "cat.28.jpg", "cat.30.jpg"]


def test_a_class_of_one_cannot_be_split():
    with pytest.raises(ValueError, match="one image"):
        split([LabelledImage("a", Path("x"), 0)], 0)
