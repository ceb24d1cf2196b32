"""The images on which two models disagree: chosen, kept as text in a record, refused where they are no such text."""

import base64
import io
import json

import numpy as np
import pytest
from case_records import accuracy_record
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from saved_runs import saved_run

from mpbench.records.runs import UnreadableRun, read_run
from mpbench.records.thumbnails import (
    MAX_IMAGES,
    MAX_JPEG_BYTES,
    MAX_NAME_CHARACTERS,
    MAX_READ_PX,
    MAX_SAVED_CHARACTERS,
    SIDE_PX,
    Thumbnail,
    as_text,
    chosen,
    from_text,
    jpeg_of,
)
from mpbench.report.accuracy import photographs

PIXELS = np.random.default_rng(0).integers(0, 255, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
THUMBNAIL = Thumbnail("cat.7.jpg", "cat", "float32", jpeg_of(PIXELS))


def saved(folder, discordant):
    pairs = [(accuracy_record(discordant=discordant), [0.1])]
    return saved_run(folder, time="2026-04-01T12:00:00+00:00", commit="a" * 40, records_and_rounds=pairs)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_those_chosen_are_discordant_and_of_both_kinds(rights):
    base, other = (np.array([pair[i] for pair in rights], dtype=bool) for i in (0, 1))
    indices = chosen(base, other)
    assert indices == sorted(set(indices))
    assert all(base[i] != other[i] for i in indices)
    assert len(indices) == min(MAX_IMAGES, int((base != other).sum()))
    kinds = [int((base & ~other).sum()), int((other & ~base).sum())]
    assert {bool(base[i]) for i in indices} == {kind == 0 for kind in (0, 1) if kinds[kind]}


def test_a_record_gives_them_back_as_captioned_photographs(tmp_path):
    other = Thumbnail("dogs/<b>.jpg", "dog", "mixed_float16", jpeg_of(PIXELS[::-1]))
    (case,) = read_run(saved(tmp_path, as_text([THUMBNAIL, other]))).accuracy.values()
    shown = photographs(case.record)
    assert [one.jpeg for one in shown] == [THUMBNAIL.jpeg, other.jpeg]
    assert [one.caption for one in shown] == [
        "cat.7.jpg, a cat: float32 was right, mixed_float16 was wrong",
        "dogs/<b>.jpg, a dog: mixed_float16 was right, float32 was wrong",
    ]


def test_the_worst_image_is_small_enough_and_long_names_are_cut():
    assert len(THUMBNAIL.jpeg) < MAX_JPEG_BYTES / 2
    text = as_text([Thumbnail("x/" * 500 + "a.jpg", "c" * 500, "float32", THUMBNAIL.jpeg)] * MAX_IMAGES)
    assert len(text) < MAX_SAVED_CHARACTERS
    assert {(len(one.name), len(one.label)) for one in from_text(text)} == {(MAX_NAME_CHARACTERS,) * 2}
    assert from_text(text)[0].name.endswith("/a.jpg")


def test_older_records_have_none(tmp_path):
    path = saved(tmp_path, "")
    run = json.loads(path.read_text())
    del run["benchmarks"][0]["extra_info"]["discordant"]
    path.write_text(json.dumps(run))
    (case,) = read_run(path).accuracy.values()
    assert photographs(case.record) == []
    assert as_text([]) == ""


def entry(jpeg=THUMBNAIL.jpeg, **changes):
    return json.dumps([json.loads(as_text([THUMBNAIL]))[0] | {"jpeg": base64.b64encode(jpeg).decode()} | changes])


def encoded(form, side=SIDE_PX):
    file = io.BytesIO()
    Image.new("RGB", (side, 1)).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "no JSON: must be a list of images"),
        ("[" * 100_000, "no JSON: must be a list of images"),
        ("{}", "must be a list of 1 to 4 images"),
        ("[]", "must be a list of 1 to 4 images"),
        (json.dumps([{}] * 5), "must be a list of 1 to 4 images"),
        ("[1]", "image 1: must be an object with the texts name, label, right, jpeg"),
        (entry(right=1), "image 1: must be an object with the texts name, label, right, jpeg"),
        (entry(name="x" * 101), "image 1: name: must be of 100 characters at most"),
        (entry().replace('"jpeg": "', '"jpeg": "?'), "image 1: jpeg: must be base64"),
        (entry(b"\xff\xd8\xff<script>"), "image 1: jpeg: cannot be decoded: UnidentifiedImageError"),
        (entry(THUMBNAIL.jpeg[:1000]), "image 1: jpeg: cannot be decoded: OSError"),
        (entry(encoded("PNG")), "image 1: jpeg: cannot be decoded: UnidentifiedImageError"),
        (entry(encoded("JPEG", MAX_READ_PX + 1)), "image 1: jpeg: 257x1 px: must be 256 at most"),
        (entry(THUMBNAIL.jpeg + b"\0" * 2**15), "bytes: must be 32768 at most"),
        (" " * (MAX_SAVED_CHARACTERS + 1), "262145 characters: valid are 262144 at most"),
    ],
)
def test_what_is_no_such_text_is_refused_by_name(tmp_path, text, reason):
    with pytest.raises(UnreadableRun) as refused:
        read_run(saved(tmp_path, text))
    assert "discordant: " in str(refused.value)
    assert str(refused.value).endswith(reason)
