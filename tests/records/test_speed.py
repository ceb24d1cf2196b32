"""mpbench.records.speed: what is written is read back, and what is not ours is refused by name."""

import json

import pytest
from case_records import accuracy_record, record

from mpbench.records.accuracy import ACCURACY_SCHEMA_KEY, read_accuracy
from mpbench.records.speed import SCHEMA, SCHEMA_KEY, is_case, read_case
from mpbench.stats.intervals import Interval


def test_round_trip_through_json():
    written = record(speedup=1.5, speedup_low=1.4, speedup_high=1.6, baseline="float32", unpaired_blocks="3,17")
    extra_info = json.loads(json.dumps(written.as_extra_info()))
    assert is_case(extra_info)
    assert read_case(extra_info) == written
    assert read_case(extra_info).interval == Interval(1.5, 1.4, 1.6)


def test_it_is_flat_and_small():
    extra_info = record().as_extra_info()
    assert all(value is None or isinstance(value, (str, int, float, bool)) for value in extra_info.values())
    assert len(json.dumps(extra_info)) < 1500


def test_a_baseline_has_no_interval():
    assert record().interval is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.pop(SCHEMA_KEY), "not a case of mpbench"),
        (lambda e: e.update({SCHEMA_KEY: SCHEMA + 1}), f"is {SCHEMA + 1}"),
        (lambda e: e.pop("batch_size"), "lacks batch_size"),
    ],
)
def test_what_is_not_ours_is_refused_by_name(change, message):
    extra_info = record().as_extra_info()
    change(extra_info)
    with pytest.raises(ValueError, match=message):
        read_case(extra_info)


def test_an_accuracy_record_is_read_back_and_is_no_speed_case():
    written = accuracy_record(detectable_difference=None)
    extra_info = json.loads(json.dumps(written.as_extra_info()))
    assert read_accuracy(extra_info) == written
    assert not is_case(extra_info)
    assert all(value is None or isinstance(value, (str, int, float, bool)) for value in extra_info.values())
    with pytest.raises(ValueError, match=f"no {ACCURACY_SCHEMA_KEY}"):
        read_accuracy(record().as_extra_info())


def test_files_from_before_others_cpu_time_was_known_are_read():
    old = record().as_extra_info()
    del old["others_cpu_share"]
    assert read_case(old) == record()
