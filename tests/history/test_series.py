"""mpbench.history.series: which figures form a series, and how series are shown."""

import json
import warnings
from datetime import datetime, timedelta, timezone
from xml.etree import ElementTree

import pytest
from saved_runs import cases, saved_run

from mpbench.history.series import (
    ASCII_BLOCKS,
    BLOCKS,
    SPARKLINE_CELLS,
    SPEEDUPS,
    TIMES,
    all_series,
    as_data,
    lines,
    matching,
    picture,
    sparkline,
)
from mpbench.records.runs import load_runs

START = datetime(2026, 4, 1, 12, tzinfo=timezone.utc)
FLOAT32 = "bench/test_training.py::test_training[vgg16-float32]"
MIXED = "bench/test_training.py::test_training[vgg16-mixed_float16]"


@pytest.fixture
def save(tmp_path):
    """Saves runs one day apart, the n-th of commit nnn..., and gives all loaded."""
    days = iter(range(1000))

    def save_runs(times, machine=None, **changes):
        for base_ms, mixed_ms in times:
            n = next(days)
            pairs = cases(base_ms, mixed_ms, **changes)
            time = START + timedelta(days=n)
            saved_run(tmp_path, time=time, commit=f"{n:03}" * 13, records_and_rounds=pairs, machine=machine)
        return load_runs(tmp_path, pytest.fail)

    return save_runs


def test_a_series_for_each_time_and_speedup(save):
    series = all_series(save([(150, 100), (300, 100)]))
    assert [(s.case, s.figure, s.label) for s in series] == [
        (FLOAT32, TIMES, ""),
        (MIXED, TIMES, ""),
        (MIXED, SPEEDUPS, ""),
    ]
    assert [list(s.values) for s in series] == [
        pytest.approx(v, rel=1e-4) for v in ([0.15, 0.3], [0.1, 0.1], [1.5, 3.0])
    ]
    assert series[2].configuration["baseline"] == "float32"


@pytest.mark.parametrize(
    ("other", "label"),
    [
        ({"machine": {"driver": "570.1"}}, "driver 570.1"),
        ({"machine": {"gpu": None}}, "gpu none"),
        ({"machine": {"cpu": "AMD EPYC"}}, "cpu AMD EPYC"),
        ({"jit": False}, "jit off"),
        ({"parameters": 2}, "parameters 2"),
        ({"layout": "channels_first"}, "layout channels_first"),
        ({"machine": {"cpu_affinity": "0-3"}}, "cpu_affinity 0-3"),
        ({"machine": {"threads": "OMP_NUM_THREADS=4"}}, "threads OMP_NUM_THREADS=4"),
        ({"batch_size": 32, "tf32": True}, "batch_size 32, tf32 on"),
    ],
)
def test_other_machines_and_settings_are_other_series(save, other, label):
    save([(150, 100)] * 6)
    series = matching(all_series(save([(300, 100)] * 6, **other)), FLOAT32)
    assert [len(s.values) for s in series] == [6, 6]
    assert series[1].label == label
    assert series[0].label
    assert [list(s.values) for s in series] == [pytest.approx([ms] * 6, rel=1e-4) for ms in (0.15, 0.3)]
    assert not any(s.steps for s in series)
    text = "\n".join(lines(series))
    assert "measured with" in text
    assert label in text


def test_what_need_not_agree_makes_no_other_series(save):
    save([(150, 100)])
    series = all_series(save([(150, 100)], machine={"node": "another", "numpy": "1.26.4"}))
    assert [len(s.values) for s in series] == [2, 2, 2]


def test_a_speedup_over_another_baseline_is_another_series(save):
    save([(150, 100)])
    series = all_series(save([(150, 100)], baseline="tf32"))
    assert [len(s.values) for s in series] == [2, 2, 1, 1]
    ratios = series[2:]
    assert [s.label for s in ratios] == ["baseline float32", "baseline tf32"]
    assert any(line.startswith("Speedup over float32/tf32: 2 runs") for line in lines(ratios))


def test_a_step_is_shown_with_the_commit_where_it_begins(save):
    runs = save([(150, 100)] * 10 + [(165, 100)] * 12)
    text = lines(all_series(runs))
    assert text[0] == "Median ms/step: 22 runs, 2026-04-01 to 2026-04-22 (UTC)"
    assert text[1].split() == ["case", "runs", "first", "ms", "last", "ms", "change", "%", "history", "steps"]
    assert text[3] == (
        "test_training[vgg16-float32]          22    150.00   165.00     +10.0  "
        "▁▁▁▁▁▁▁▁▁▁████████████  +10.0 % from 0100100 (2026-04-11), 11 runs ago"
    )
    assert text[4].split()[-1] == "▄" * 22
    assert text[6] == "Speedup over float32: 22 runs, 2026-04-01 to 2026-04-22 (UTC)"
    assert text[9].endswith("+10.0 % from 0100100 (2026-04-11), 11 runs ago")


def test_of_few_runs_it_says_that_steps_need_more(save):
    assert all(line.endswith("need 10 runs") for line in lines(all_series(save([(150, 100)])))[3:5])


def test_a_step_of_uncommitted_or_unknown_code_says_so(save, tmp_path):
    save([(150, 100)] * 8 + [(165, 100)] * 8)
    path = sorted(tmp_path.iterdir())[8]
    saved = json.loads(path.read_text())
    saved["commit_info"] |= {"id": "unknown", "dirty": True}
    path.write_text(json.dumps(saved))
    text = "\n".join(lines(all_series(load_runs(tmp_path, pytest.fail))))
    assert "from an unknown commit with changes (2026-04-09), 7 runs ago" in text


def test_data_says_all_that_the_tables_say(save):
    series = all_series(save([(150, 100)] * 10 + [(165, 100)] * 12))
    data = json.loads(json.dumps(as_data(series), allow_nan=False))
    assert [(d["case"], d["figure"], len(d["runs"])) for d in data] == [
        (FLOAT32, TIMES, 22),
        (MIXED, TIMES, 22),
        (MIXED, SPEEDUPS, 22),
    ]
    (step,) = data[0]["steps"]
    assert (step["index"], step["runs_ago"]) == (10, 11)
    assert step["from"]["commit"] == "010" * 13
    assert step["last_before"]["commit"] == "009" * 13
    assert (step["before"], step["after"], step["change"]) == pytest.approx((0.15, 0.165, 0.1), rel=1e-4)
    assert data[0]["runs"][0]["value"] == pytest.approx(0.15, rel=1e-4)
    assert data[0]["runs"][0]["time"] == "2026-04-01T12:00:00+00:00"
    assert data[0]["configuration"]["gpu"] == "NVIDIA V100"
    assert data[1]["steps"] == []


@pytest.mark.parametrize("pattern", ["vgg16-float32", "VGG16-Float32", "*float32*", FLOAT32, "bench/*float32?"])
def test_a_pattern_is_a_part_or_a_glob(save, pattern):
    series = all_series(save([(150, 100)]))
    assert [s.case for s in matching(series, pattern)] == [FLOAT32]
    assert matching(series, "vgg19") == []


def test_cases_of_one_name_in_two_files_are_shown_in_full(save, tmp_path):
    save([(150, 100)])
    for path in list(tmp_path.iterdir()):
        (tmp_path / "moved.json").write_text(path.read_text().replace("bench/test_", "other/test_"))
    text = "\n".join(lines(all_series(load_runs(tmp_path, pytest.fail))))
    assert FLOAT32 in text
    assert FLOAT32.replace("bench/", "other/") in text


def test_what_a_file_says_does_not_steer_the_terminal(save, tmp_path):
    save([(150, 100)])
    for path in tmp_path.iterdir():
        path.write_text(path.read_text().replace("vgg16-float32", r"vgg16-\u001b[2J\ud800"))
    text = "\n".join(lines(all_series(load_runs(tmp_path, pytest.fail))))
    assert r"vgg16-\x1b[2J\ud800]" in text
    text.encode()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], "▁▂▃▄▅▆▇█"),
        ([1, 8], "▁█"),
        ([5], "▄"),
        ([100, 100.5, 100, 99.8], "▄▄▄▄"),
    ],
)
def test_sparklines(values, expected):
    assert sparkline(values) == expected
    assert sparkline(values, ASCII_BLOCKS) == expected.translate(str.maketrans(BLOCKS, ASCII_BLOCKS))


def test_many_runs_share_the_blocks():
    shown = sparkline([1.0] * 300 + [2.0] * 300)
    assert shown == "▁" * (SPARKLINE_CELLS // 2) + "█" * (SPARKLINE_CELLS // 2)


def test_a_picture_is_the_same_every_time(save):
    save([(150, 100)] * 10 + [(165, 100)] * 12)
    series = all_series(save([(90, 100)] * 2, machine={"gpu": "NVIDIA $H_{200} <&>"}))
    drawn = picture(series, "svg")
    assert drawn == picture(series, "svg")
    root = ElementTree.fromstring(drawn)
    panels = [e for e in root.iter("{http://www.w3.org/2000/svg}g") if e.get("id", "").startswith("axes_")]
    assert len(panels) == len(series) == 6
    png = picture(series, "png")
    assert png.startswith(b"\x89PNG")
    assert png == picture(series, "png")


@pytest.mark.parametrize(
    "hours", [0.001, 0.02, 0.3, 2.9, 5, 24, 59, 71, 96, 24 * 20, 24 * 85, 24 * 365 * 2.9, 24 * 365 * 200]
)
def test_runs_of_any_distance_find_their_dates(hours, tmp_path):
    start = datetime(1985, 3, 1, tzinfo=timezone.utc)
    for share in (0, 0.3, 1):
        time = start + share * timedelta(hours=hours)
        saved_run(tmp_path, time=time, commit="a" * 40, records_and_rounds=cases(150, 100))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert picture(all_series(load_runs(tmp_path, pytest.fail)), "svg")


def test_copies_of_one_run_count_once(save, tmp_path):
    save([(150, 100)] * 4)
    first = sorted(tmp_path.iterdir())[0]
    for number in range(20, 26):
        copy = json.loads(first.read_text())
        copy["datetime"] = f"2027-01-{number}T00:00:00+00:00"
        (tmp_path / f"00{number}_copy.json").write_text(json.dumps(copy))
    series = all_series(load_runs(tmp_path, pytest.fail))
    assert [len(s.values) for s in series] == [4, 4, 4]
