import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpbench.records.profile import (
    CLASSES,
    MAX_PROFILE_BYTES,
    MAX_TEXT,
    PASSES,
    LayerRow,
    Operations,
    ProfileRecord,
    fitted,
    read_profile,
)

cells = st.dictionaries(
    st.tuples(st.sampled_from(PASSES), st.sampled_from(CLASSES)), st.integers(1, 10**10), max_size=4
)
names = st.text(st.characters(categories=("L", "N"), include_characters="_/."), max_size=MAX_TEXT)


@st.composite
def layer_rows(draw):
    ns = draw(cells)
    total = sum(ns.values())
    return LayerRow(
        name=draw(names),
        type=draw(st.sampled_from(["Conv2D", "Dense", "", "Mine"])),
        dtype=draw(st.sampled_from(["float16", ""])),
        channels=draw(st.none() | st.tuples(st.integers(1, 9), st.integers(1, 9))),
        kernel=draw(names),
        kernels=draw(st.integers(0, 10**6)),
        cast_ns=draw(st.integers(0, total)),
        fused_ns=draw(st.integers(0, total)),
        ns=ns,
    )


FIRST = LayerRow("first", "Dense", kernels=1, ns={(PASSES[0], CLASSES[0]): 1})


def record_of(rows):
    busy = sum(row.total_ns for row in rows)
    return ProfileRecord(
        source="a test",
        on_device=True,
        device_name="a GPU",
        steps=3,
        devices=1,
        span_ns=busy + 1,
        tensor_cores=True,
        rows=tuple(rows),
        operations=(Operations("Mul", CLASSES[0], busy, 1),),
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(layer_rows(), min_size=1, max_size=200))
def test_a_record_comes_back_as_it_was_fitted(rows):
    record = record_of([FIRST, *rows])
    text = record.as_text()
    assert len(json.dumps(text)) <= MAX_PROFILE_BYTES
    assert read_profile(text) == fitted(record)


@settings(max_examples=50, deadline=None)
@given(st.lists(layer_rows(), min_size=1, max_size=200))
def test_no_sum_changes_where_layers_are_summed_up(rows):
    record = record_of(rows)
    short = fitted(record, 3000)
    assert short.busy_ns == record.busy_ns
    for what in ("kernels", "cast_ns", "fused_ns", "layers"):
        assert sum(getattr(row, what) for row in short.rows) == sum(getattr(row, what) for row in record.rows)
    for cell in {cell for row in rows for cell in row.ns}:
        assert sum(row.ns.get(cell, 0) for row in short.rows) == sum(row.ns.get(cell, 0) for row in rows)


def deep(layers):
    rows = [
        LayerRow(
            name=f"conv{number // 100}_block{number}_{number % 3}_conv",
            type=("Conv2D", "BatchNormalization", "Activation")[number % 3],
            dtype="float16",
            channels=(512, 2048),
            kernel="sm90_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize256x64x32_x",
            kernels=60,
            cast_ns=1000,
            ns={("forward", "normalisation"): 1_000_000 + number, ("backward", "normalisation"): 2_000_000},
        )
        for number in range(layers)
    ]
    return record_of([*rows, LayerRow("(optimizer)", "", ns={("update", "optimizer"): 17})])


@pytest.mark.parametrize("layers", [564, 1000])
def test_deep_models_keep_their_largest_layers(layers):
    record = deep(layers)
    text = record.as_text()
    assert 0.8 * MAX_PROFILE_BYTES < len(json.dumps(text)) <= MAX_PROFILE_BYTES
    read = read_profile(text)
    assert read.busy_ns == record.busy_ns
    alone = [row for row in read.rows if row.is_layer]
    assert len(alone) >= 50
    left_out = [row for row in record.rows if row.is_layer and row.name not in {one.name for one in alone}]
    assert min(row.total_ns for row in alone) >= max(row.total_ns for row in left_out)
    assert {row.type for row in read.rows if not row.name} == {"Conv2D", "BatchNormalization", "Activation"}
    assert any(row.name == "(optimizer)" for row in read.rows)


def damaged(change):
    data = json.loads(deep(3).as_text())
    change(data)
    return json.dumps(data)


def cell_of(data, row):
    cells = data["rows"][row][-1]
    return cells, next(iter(cells))


def negative(data):
    cells, code = cell_of(data, 0)
    cells[code] = -1


def endless(data):
    data["rows"][0][6] = float("inf")


def more(data):
    cells, code = cell_of(data, 0)
    cells[code] += 1


def foreign_cell(data):
    data["rows"][0][-1]["fwd.magic"] = 5


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (negative, "rows[0].ns."),
        (endless, "rows[0].kernels"),
        (more, "busy_ns"),
        (foreign_cell, "rows[0].ns"),
        (lambda data: data.pop("steps"), "steps"),
        (lambda data: data.update(steps=0), "steps"),
        (lambda data: data.update(steps=True), "steps"),
        (lambda data: data.update(devices=1.0), "devices"),
        (lambda data: data.update(rows=[]), "rows"),
        (lambda data: data.update(rows={}), "rows"),
        (lambda data: data.update(span_ns=1), "span_ns"),
        (lambda data: data.update(on_device=1), "on_device"),
        (lambda data: data.update(source="a\x1b[2J"), "source"),
        (lambda data: data.update(device_name="x" * (MAX_TEXT + 1)), "device_name"),
        (lambda data: data.update(mpbench_profile_schema=2), "mpbench_profile_schema"),
        (lambda data: data["rows"][0].pop(), "rows[0]"),
        (lambda data: data["rows"][0].__setitem__(4, [0, 8]), "rows[0].channels"),
        (lambda data: data["rows"][0].__setitem__(7, 10**12), "rows[0].cast_ns"),
        (lambda data: data["operations"][0].__setitem__(1, "x"), "operations[0].kind"),
        (lambda data: data["operations"][0].__setitem__(2, 5), "operations"),
        (lambda data: data["operations"].append("abcd"), "operations[1]"),
    ],
)
def test_a_damaged_record_is_named_in_one_line(change, field):
    with pytest.raises(ValueError, match="profile: ") as caught:
        read_profile(damaged(change))
    assert field in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '{"a": NaN}', "[" * 100_000])
def test_what_is_no_record(text):
    with pytest.raises(ValueError, match="profile: "):
        read_profile(text)


@pytest.mark.parametrize("letter", ["x", "\N{CJK UNIFIED IDEOGRAPH-4E2D}"])
def test_names_are_cut_where_nothing_else_makes_a_record_short(letter):
    cell = (PASSES[0], CLASSES[0])
    rows = [
        LayerRow("", f"{n}".rjust(4, "0") + letter * (MAX_TEXT - 4), kernels=3, ns={cell: 10 + n}) for n in range(60)
    ]
    operations = tuple(Operations(f"{n}" + letter * 190, CLASSES[0], row.total_ns, 1) for n, row in enumerate(rows))
    record = replace(record_of([]), rows=tuple(rows), operations=operations, span_ns=10**6)
    text = record.as_text()
    assert len(json.dumps(text)) <= MAX_PROFILE_BYTES
    assert read_profile(text).busy_ns == record.busy_ns


@pytest.mark.parametrize(
    ("fields", "message"), [({"kernels": 0}, "kernels: none"), ({"ns": {}}, "busy_ns: must be .*, not 0")]
)
def test_a_profile_in_which_nothing_ran_is_none(fields, message):
    row = replace(FIRST, **fields)
    operations = (Operations("Mul", CLASSES[0], row.total_ns, 1),)
    with pytest.raises(ValueError, match=message):
        read_profile(replace(record_of([]), rows=(row,), operations=operations).as_text())
