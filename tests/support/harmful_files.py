"""Files in a storage that are no usable runs: damaged, foreign, absurd, or nothing that can be read."""

import json
import os
from pathlib import Path

from case_records import accuracy_record
from saved_runs import cases, saved_run

from mpbench.records.accuracy import ACCURACY
from mpbench.records.speed import SPEED

TIME = "2026-05-01T12:00:00+00:00"


def whole(path):
    pairs = [*cases(150, 100), (accuracy_record(), [0.1] * 5)]
    return saved_run(path.parent, time=TIME, commit="x", records_and_rounds=pairs, name=path.name)


def content(data):
    return lambda path: path.write_bytes(data)


def changed(change):
    def make(path):
        saved = json.loads(whole(path).read_text())
        path.write_text(json.dumps(change(saved) or saved))

    return make


def first(change):
    return changed(lambda saved: change(saved["benchmarks"][0]) and None)


def stats(**values):
    return first(lambda bench: bench["stats"].update(values))


def info(**values):
    return first(lambda bench: bench["extra_info"].update(values))


def accuracy_info(**values):
    return changed(lambda saved: saved["benchmarks"][2]["extra_info"].update(values))


def rounds(value):
    return first(lambda bench: bench["stats"].update(data=[value] * 20))


def loop(path):
    path.symlink_to(path)


def later(saved):
    for benchmark in saved["benchmarks"]:
        key = SPEED.schema_key if SPEED.schema_key in benchmark["extra_info"] else ACCURACY.schema_key
        benchmark["extra_info"] = {key: SPEED.schema + 1, "what": "nobody knows"}


HARMFUL = {
    "empty": content(b""),
    "blank": content(b" \n\n"),
    "truncated": lambda path: path.write_bytes(whole(path).read_bytes()[:5000]),
    "binary": content(bytes(range(256)) * 40),
    "utf16": lambda path: path.write_bytes(whole(path).read_text().encode("utf-16")),
    "with_a_byte_order_mark": lambda path: path.write_text(whole(path).read_text(), encoding="utf-8-sig"),
    "number": content(b"7"),
    "list": content(b"[]"),
    "null": content(b"null"),
    "deeply_nested": content(b"[" * 300_000),
    "foreign": content(b'{"name": "a-package", "version": "1.0.0"}'),
    "benchmarks_no_list": changed(lambda saved: saved | {"benchmarks": {}}),
    "benchmark_no_object": changed(lambda saved: saved["benchmarks"].append("x")),
    "no_stats": first(lambda bench: bench.pop("stats")),
    "stats_a_list": first(lambda bench: bench.update(stats=[1])),
    "no_fullname": first(lambda bench: bench.pop("fullname")),
    "fullname_a_number": first(lambda bench: bench.update(fullname=3)),
    "duplicates": changed(lambda saved: saved["benchmarks"].append(saved["benchmarks"][0])),
    "machine_a_list": changed(lambda saved: saved.update(machine_info=[])),
    "machine_a_text": changed(lambda saved: saved.update(machine_info="big iron")),
    "facts_a_list": changed(lambda saved: saved["machine_info"].update(mpbench=[])),
    "cpu_a_text": changed(lambda saved: saved["machine_info"].update(cpu="fast")),
    "a_fact_of_another_type": changed(lambda saved: saved["machine_info"]["mpbench"].update(driver=[5, 8])),
    "later": changed(later),
    "rounds_text": rounds("0.1"),
    "rounds_nan": rounds(float("nan")),
    "rounds_negative": rounds(-0.1),
    "rounds_tiny": rounds(1e-300),
    "rounds_huge": rounds(1e300),
    "rounds_digits": rounds(10**4000),
    "folder": Path.mkdir,
    "dangling_link": lambda path: path.symlink_to(path.parent / "nowhere"),
    "looping_link": loop,
    "pipe": os.mkfifo,
    "link_to_a_pipe": lambda path: (os.mkfifo(path.with_suffix(".pipe")), path.symlink_to(path.with_suffix(".pipe"))),
    "link_to_a_device": lambda path: path.symlink_to("/dev/zero"),
}
if os.geteuid() != 0:  # root may read anything
    HARMFUL["unreadable"] = lambda path: whole(path).chmod(0)

ABSURD = {
    "steps_per_round": info(steps_per_round=0),
    "batch_size": info(batch_size=0),
    "image_size": info(image_size=-224),
    "skipped_steps": info(skipped_steps=-1),
    "warmup_skipped_steps": info(warmup_skipped_steps=-1),
    "peak_memory_bytes": info(peak_memory_bytes=-1),
    "images_per_second": info(images_per_second=-1.5),
    "speedup": info(speedup=-2.0),
    "speedup_low": info(speedup=1.5, speedup_low=1.6, speedup_high=1.4),
    "speedup_high": info(speedup=1.5, speedup_low=1.4, speedup_high=-1),
    "rounds": first(lambda bench: (bench["extra_info"].update(rounds=-20), bench["stats"].update(rounds=-20))),
    "validation_images": accuracy_info(validation_images=7),
    "both_right": accuracy_info(both_right=-4562),
    "accuracy": accuracy_info(accuracy=1.2),
    "mcnemar_exact_p": accuracy_info(mcnemar_exact_p=-0.1),
    "difference_low": accuracy_info(difference_low=0.2, difference_high=0.1),
}

TABLE_ONLY = {
    "no_min": first(lambda bench: bench["stats"].pop("min")),
    "no_outliers": first(lambda bench: bench["stats"].pop("outliers")),
    "a_text": stats(mean="0.1"),
    "a_null": stats(median=None),
    "a_nan": stats(stddev=float("nan")),
    "an_infinity": stats(max=float("inf")),
    "negative": stats(min=-0.1),
    "huge": stats(iqr=10**400),
    "a_flag": stats(rounds=True),
    "a_fraction_of_rounds": stats(rounds=2.5),
    "mean_0_without_ops": first(lambda bench: (bench["stats"].pop("ops"), bench["stats"].update(mean=0))),
    "extra_info_a_list": first(lambda bench: bench.update(extra_info=[1])),
}
"""The history reads raw rounds only; pytest-benchmark's table would end in a traceback."""
