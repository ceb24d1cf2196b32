"""Journals that sessions have left, of measurements that nobody made."""

from case_records import accuracy_record
from saved_runs import FACTS, cases, fullname

from mpbench.journal.files import Journal
from mpbench.journal.lines import Finished, Header

OPTIONS = {
    "disable_gc": False,
    "timer": "mpbench_replay",
    "min_rounds": 5,
    "max_time": 1.0,
    "min_time": 5e-06,
    "precision": None,
    "confidence": None,
    "warmup": False,
}
BEGAN = "2026-05-01T12:00:00.000000+00:00"


def header(**changes):
    return Header(
        **{
            "began": BEGAN,
            "name": "nightly",
            "machine": "Linux-CPython-3.12-64bit",
            "version": "5.3.1",
            "machine_info": {"node": "bench-1", "cpu": {"brand_raw": "Xeon"}, "mpbench": FACTS},
            "commit_info": {"id": "abc", "branch": "main", "dirty": False},
            "settings": {
                "models": ["vgg16"],
                "precisions": ["float32"],
                "batch_size": None,
                "alpha": 0.05,
            },
            "cases": [case.fullname for case in (*group("vgg16"), *group("resnet152_v2"))],
        }
        | changes
    )


def finished(record, rounds, of_group, measurement="1"):
    name = fullname(record)
    model, _, arm = name[:-1].split("[")[1].rpartition("-")
    benchmark = {
        "group": of_group,
        "name": name.split("::")[1],
        "fullname": name,
        "params": {"model": model, "precision": arm},
        "param": f"{model}-{arm}",
        "extra_info": record.as_extra_info(),
        "options": OPTIONS,
    }
    return Finished(benchmark, list(rounds), of_group, measurement, "2026-05-01T12:01:00.000000+00:00")


def group(model, base_ms=100.0, measurement="1", **changes):
    """A float32 and a mixed_float16 case, measured together."""
    return [finished(*case, f"{model} training", measurement) for case in cases(base_ms, 60.0, model, **changes)]


def comparison(model="vgg16"):
    return finished(accuracy_record(model), [0.1, 0.2], f"{model} accuracy")


def left_behind(storage, *appended, **changes):
    """A journal with some appends, its session dead; returns its path."""
    journal = Journal.create(storage, header(**changes))
    for cases_ in appended:
        journal.append(cases_)
    journal.close()
    return journal.path
