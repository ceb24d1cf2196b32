"""mpbench.records.speed: what is written is read back, and what is not ours is refused by name."""

import json

import pytest
from case_records import accuracy_record, record

from mpbench.records.accuracy import ACCURACY
from mpbench.records.kinds import kind_of
from mpbench.records.speed import SPEED
from mpbench.stats.intervals import Interval


def test_round_trip_through_json():
    written = record(speedup=1.5, speedup_low=1.4, speedup_high=1.6, baseline="float32", unpaired_blocks="3,17")
    extra_info = json.loads(json.dumps(written.as_extra_info()))
    assert kind_of(extra_info) is SPEED
    assert SPEED.read(extra_info) == written
    assert SPEED.read(extra_info).interval == Interval(1.5, 1.4, 1.6)


def test_it_is_flat_and_small():
    extra_info = record().as_extra_info()
    assert all(value is None or isinstance(value, (str, int, float, bool)) for value in extra_info.values())
    assert len(json.dumps(extra_info)) < 1500


def test_a_baseline_has_no_interval():
    assert record().interval is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.pop(SPEED.schema_key), "not a case of mpbench"),
        (lambda e: e.update({SPEED.schema_key: SPEED.schema + 1}), f"is {SPEED.schema + 1}"),
        (lambda e: e.pop("batch_size"), "lacks batch_size"),
    ],
)
def test_what_is_not_ours_is_refused_by_name(change, message):
    extra_info = record().as_extra_info()
    change(extra_info)
    with pytest.raises(ValueError, match=message):
        SPEED.read(extra_info)


def test_an_accuracy_record_is_read_back_and_is_no_speed_case():
    written = accuracy_record()
    extra_info = json.loads(json.dumps(written.as_extra_info()))
    assert ACCURACY.read(extra_info) == written
    assert kind_of(extra_info) is not SPEED
    assert all(value is None or isinstance(value, (str, int, float, bool)) for value in extra_info.values())
    with pytest.raises(ValueError, match=f"no {ACCURACY.schema_key}"):
        ACCURACY.read(record().as_extra_info())


def test_files_from_before_others_cpu_time_was_known_are_read():
    old = record().as_extra_info()
    del old["others_cpu_share"]
    assert SPEED.read(old) == record()
