"""Saved runs and journals that are nearly right: real ones, changed at random where their structure has something to
change. The same seed gives the same file."""

import copy
import json
import math
import random

TEXTS = (
    *("", " ", "0", "GATE PASSED", "\nGATE PASSED\n", "\x1b[2J\x1b[1;1HGATE PASSED", "\u202eDESSAP ETAG", "\ud800"),
    *(
        "a\0b",
        "\ufffe\uffff",
        "\x85\u2028",
        "<script>alert(1)</script>",
        "]]>",
        "&amp;",
        "$\\frac{1}{2}$",
        "{{7*7}}",
        "%s%n",
    ),
    *("../../etc/passwd", "::", "[", "]", "x[y", "a" * 999, "a" * 1001, "\u00e4\U0001f600" * 300, "1,2,3", "999999999"),
    *("0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00", "1970-01-01", "2026-05-01T00:00:00-23:59"),
    *("training", "inference", "float32", "mixed_float16", "tf32", "cpu", "gpu", "jit=off", "device", "batch=max"),
)
NUMBERS = (
    *(0, 1, -1, 2, 7, 63, 64, 1000, 10**6, 10**9, 10**9 + 1, 2**31, 2**63, 10**30, 10**400, True, False),
    *(0.0, -0.0, 5e-324, 1e-300, 1e-12, 1e-9, 1e-6, 0.2, 0.5, 0.999999, 1.0, 1.000001, 1.5, 9.9, 1e6, 1e9, 1e24, 1e300),
    *(1.7e308, math.inf, -math.inf, math.nan),
)
INSIDE = ("step_profile", "discordant")
"""Fields whose text is JSON itself."""


def places(value, path=()):
    """The path of each value inside another one; of a list of numbers those of the first and the last."""
    yield path
    if isinstance(value, dict):
        for key, of in value.items():
            yield from places(of, (*path, key))
    elif isinstance(value, list):
        numbers = all(isinstance(one, (int, float)) for one in value)
        for i in sorted({0, len(value) - 1} if numbers and value else range(len(value))):
            yield from places(value[i], (*path, i))


def mutated(run, rng, changes=None):
    """A copy of a saved run after some changes."""
    run = json.loads(json.dumps(run))
    for _ in range(changes or rng.choice((1, 1, 1, 2, 3, 5))):
        kind = rng.random()
        if kind < 0.1:
            _change_benchmarks(run, rng)
        elif kind < 0.2:
            _change_rounds(run, rng)
        elif kind < 0.3:
            _change_inside(run, rng)
        elif kind < 0.45:
            _change_together(run, rng)
        else:
            _change_value(run, rng)
    return run


def damaged(content, rng):
    """Bytes after a cut, some flips or a piece that stands twice."""
    content = bytearray(content)
    kind = rng.random()
    if kind < 0.3:
        return bytes(content[: rng.randrange(len(content))])
    if kind < 0.6:
        at, length = rng.randrange(len(content)), rng.randrange(1, 200)
        return bytes(content[:at] + content[at : at + length] + content[at:])
    for _ in range(rng.choice((1, 3, 10))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _other(value, rng):
    """Something in a value's place; mostly of its type, so that more than the check of types is tried."""
    kind = rng.random()
    if kind < 0.08:
        return rng.choice((None, [], {}, [[]], {"a": None}, "text", 0, [1, 2], {"": ""}))
    if isinstance(value, str):
        return rng.choice((rng.choice(TEXTS), value + rng.choice(TEXTS), rng.choice(TEXTS) + value))
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        if kind < 0.3 and abs(value) < 1e300:
            scaled = value * rng.choice((-1, 0.1, 0.5, 0.99, 1.01, 2, 10, 1000))
            return int(scaled) if isinstance(value, int) else scaled
        return rng.choice([n for n in NUMBERS if type(n) is int] if isinstance(value, int) else NUMBERS)
    return rng.choice((None, 0, "", 1e-9, 1.0, rng.choice(NUMBERS), rng.choice(TEXTS)))


def _change_value(tree, rng):
    """A value anywhere, mostly where it is read; its name is drawn first, since some stand in hundreds of places."""
    paths = [path for path in places(tree) if path and "flags" not in path]
    areas = (
        [path for path in paths if "extra_info" in path],
        [
            path
            for path in paths
            if path[:2] == ("machine_info", "mpbench") or path[-1] in ("node", "brand_raw", "count")
        ],
        [path for path in paths if path[-1] == "datetime" or path[0] in ("commit_info", "mpbench")],
        paths,
    )
    (area,) = rng.choices([area or paths for area in areas], (60, 15, 10, 15))
    name = rng.choice(sorted({str(path[-1]) for path in area}))
    named = [path for path in area if str(path[-1]) == name]
    first = named if rng.random() < 0.25 else [rng.choice(named)]
    value = _other(_at(tree, first[0]), rng)
    for *above, last in first:
        parent = _at(tree, above)
        if not isinstance(parent, (dict, list)) or (isinstance(parent, list) and not isinstance(last, int)):
            continue
        if isinstance(parent, list) and last >= len(parent):
            continue
        if value is None and rng.random() < 0.3 and (isinstance(parent, list) or last in parent):
            del parent[last]
        else:
            parent[last] = copy.deepcopy(value)  # a place may lie within another one


def _at(tree, path):
    """What stands there; None where a change before has taken it away."""
    for key in path:
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def _of_benchmarks(run):
    found = run.get("benchmarks") if isinstance(run, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _change_benchmarks(run, rng):
    benchmarks = _of_benchmarks(run)
    if not benchmarks:
        return
    one = rng.choice(benchmarks)
    kind = rng.random()
    if kind < 0.3:
        run["benchmarks"].remove(one)
    elif kind < 0.5:
        rng.shuffle(run["benchmarks"])
    else:
        for number in range(rng.choice((1, 2, 40))):
            twin = json.loads(json.dumps(one))
            twin["fullname"] = f"{twin.get('fullname')}{number}"
            if isinstance(twin.get("extra_info"), dict) and rng.random() < 0.7:
                twin["extra_info"]["model"] = f"model{number}{rng.choice(TEXTS)}"
            run["benchmarks"].append(twin)


def _change_rounds(run, rng):
    """Consistently: the record goes on to fit its rounds."""
    for one in _of_benchmarks(run)[:: rng.choice((1, 1, 2))]:
        stats, info = one.get("stats"), one.get("extra_info")
        if not isinstance(stats, dict) or not isinstance(info, dict) or not isinstance(stats.get("data"), list):
            continue
        data = [s for s in stats["data"] if isinstance(s, (int, float)) and abs(s) < 1e300]
        factor = rng.choice((1, 1.1, 0.2, 5, 1e-7, 1e6))
        data = [factor * s * rng.choice((1, 1, 1, rng.uniform(0.9, 1.1), 3)) for s in data]
        stats["data"] = data[: rng.choice((1, 2, 4, 5, len(data) + 1))] * rng.choice((1, 1, 1, 50))
        info["rounds"] = len(stats["data"])


def _change_together(run, rng):
    """Fields that are checked against each other."""
    infos = [one["extra_info"] for one in _of_benchmarks(run) if isinstance(one.get("extra_info"), dict)]
    for info in infos[:: rng.choice((1, 1, 3))]:
        value = rng.choice(NUMBERS)
        if "both_right" in info:
            table = rng.choice(
                ((0, 0, 0, 0), (0, 0, 0, 5000), (1, 0, 0, 0), (10**6, 0, 0, 0), (0, 7, 0, 1), (2, 2, 2, 2))
            )
            info |= dict(zip(("both_right", "baseline_only", "precision_only", "both_wrong"), table, strict=True))
            info["validation_images"] = sum(table)
            if sum(table) and rng.random() < 0.7:
                info |= {
                    "accuracy": (table[0] + table[2]) / sum(table),
                    "baseline_accuracy": sum(table[:2]) / sum(table),
                }
            info[rng.choice(("margin", "alpha", "majority_share"))] = rng.choice((0.0, 1e-9, 0.01, 0.5, 1.0))
        else:
            names = rng.choice(
                (("speedup",), ("reference",), ("skipped_steps", "warmup_skipped_steps"), ("joules_per",))
            )
            info |= {name: value for name in info if name.startswith(names)}
            if rng.random() < 0.3:
                info |= {"batch_size": 10**9, "replicas": rng.choice((1, 10**9))}


def _change_inside(run, rng):
    fields = [
        (one["extra_info"], name)
        for one in _of_benchmarks(run)
        for name in INSIDE
        if isinstance(one.get("extra_info"), dict) and isinstance(one["extra_info"].get(name), str)
    ]
    fields = [(info, name) for info, name in fields if info[name]]
    if not fields:
        _change_value(run, rng)
        return
    info, name = rng.choice(fields)
    try:
        content = json.loads(info[name])
    except ValueError:
        return
    for _ in range(rng.choice((1, 2, 4))):
        if isinstance(content, (dict, list)) and content:
            _change_value(content, rng)
    info[name] = json.dumps(content)


def seeded(*parts):
    return random.Random(" ".join(map(str, parts)))
