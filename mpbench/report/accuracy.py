"""What is shown of accuracy: the thesis's Tables 2 and 3 as measured now, what may be concluded from them, and a few of
the images on which two models disagree. Pure functions from records to content.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from mpbench.records import thumbnails
from mpbench.records.accuracy import AccuracyRecord
from mpbench.report import thesis
from mpbench.report.content import Cell, Photograph, Table, number
from mpbench.report.labels import device_label, each
from mpbench.stats.contingency import equivalence_can_be_shown

DRAWN_NOTE = (
    "Drawn pictures or random weights: these accuracies say nothing about the thesis's; what is compared is the two "
    "precisions."
)


class Finding(Enum):
    """What may be concluded from a comparison of two precisions' answers."""

    VOID = "VOID"
    DIFFERENT = "DIFFERENT"
    EQUIVALENT = "EQUIVALENT"
    NOT_SHOWN = "NOT SHOWN TO BE EQUIVALENT"


def accuracy_lines(records: Sequence[AccuracyRecord]) -> list[str]:
    """Both tables and a sentence for each comparison, line by line; in any order, of one run."""
    lines = [*accuracies(records).lines(), "", *mcnemar(records).lines(), "", *map(in_words, records)]
    if any(map(is_drawn, records)):
        lines.append(DRAWN_NOTE)
    return [*lines, ""]


def is_drawn(record: AccuracyRecord) -> bool:
    """Whether DRAWN_NOTE applies."""
    return record.weights == "random" or record.data == "generated pictures"


def accuracy_setting(records: Sequence[AccuracyRecord]) -> str:
    """What was trained and judged on; a setting that differs between the records shows all its values."""

    skipped = each(r.skipped_images for r in records)
    return (
        f"{each(r.data for r in records)}, {each(r.training_images for r in records)} to train on, "
        f"{each(r.validation_images for r in records)} to judge on"
        f"{'' if skipped == '0' else f', {skipped} not decodable'}, weights {each(r.weights for r in records)}, "
        f"{each(f'{r.image_size}x{r.image_size}' for r in records)} px, batch {each(r.batch_size for r in records)}, "
        f"preprocessing {each(r.preprocessing for r in records)}, profile {each(r.profile for r in records)}, "
        f"on {each(map(device_label, records))}"
    )


def in_words(record: AccuracyRecord) -> str:
    """What may be concluded from one comparison."""
    return f"{finding(record).value}: {reasons(record)}"


def finding(record: AccuracyRecord) -> Finding:
    if record.unlearned:
        return Finding.VOID
    if record.differs:
        return Finding.DIFFERENT
    return Finding.EQUIVALENT if record.equivalent else Finding.NOT_SHOWN


def reasons(record: AccuracyRecord) -> str:
    """The figures behind a finding; an assertion that failed comes first."""
    r = record
    name = f"{r.model}, {r.precision} against {r.baseline}"
    if r.unlearned:
        accuracies = {r.baseline: (r.baseline_accuracy, r.baseline_majority_p), r.precision: (r.accuracy, r.majority_p)}
        which = " and ".join(f"{p} {_percent(accuracies[p][0])} (p {accuracies[p][1]:.3f})" for p in r.unlearned)
        verb = "does" if len(r.unlearned) == 1 else "do"
        return (
            f"{name}: {which} {verb} not beat the most frequent class, {_percent(r.majority_share)}: nothing was "
            "learned that could be compared"
        )
    seen = f"{difference_label(r)} percentage points"
    margin = f"+-{100 * r.margin:g} points"
    equivalence = f"equivalent within {margin} (p {r.equivalence_p:.2g})"
    if r.differs:
        though = f", though {equivalence}" if r.equivalent else ""
        return f"{name}: McNemar p {r.mcnemar_exact_p:.2g} is not above {r.alpha:g}: {seen}{though}"
    if r.equivalent:
        return f"{name}: {seen}, {equivalence}"
    images = f"{r.validation_images} images"
    if r.detectable_difference is None:
        missed = f"with {images} it cannot see any"
    else:
        missed = f"with {images} it misses one of {_detectable(r)} points in one case of five"
    if not equivalence_can_be_shown(r.validation_images, r.margin, r.alpha):
        missed += f"; not even identical answers to {images} could show equivalence"
    return f"{name}: {seen}, not {equivalence}; McNemar saw no difference (p {r.mcnemar_exact_p:.3f}), but {missed}"


def accuracies(records: Sequence[AccuracyRecord]) -> Table:
    """Table 2."""
    rows = []
    for r in records:
        row: dict[str, Cell] = {
            "model": r.model,
            "precision": r.precision,
            r.baseline: number(100 * r.baseline_accuracy, ".2f"),
            "this": number(100 * r.accuracy, ".2f"),
            "difference [95 % interval]": difference_label(r),
            "detectable": _detectable(r),
            "best epochs": f"{r.baseline_best_epoch}, {r.best_epoch}",
        }
        if r.skipped_steps or r.baseline_skipped_steps:
            row["skipped steps"] = f"{r.baseline_skipped_steps}, {r.skipped_steps}"
        if is_the_thesis_pair(r):
            was = thesis.ACCURACY_PERCENT[r.model]
            row["thesis"] = f"{was[0]:.2f} -> {was[1]:.2f}"
        rows.append(row)
    return Table.of(f"Table 2, validation accuracy in %: {accuracy_setting(records)}", rows)


def mcnemar(records: Sequence[AccuracyRecord]) -> Table:
    """Table 3."""
    rows = []
    for r in records:
        row: dict[str, Cell] = {
            "model": r.model,
            "precision": r.precision,
            "both right": number(r.both_right),
            f"{r.baseline} only": number(r.baseline_only),
            "this only": number(r.precision_only),
            "both wrong": number(r.both_wrong),
            "p exact": number(r.mcnemar_exact_p, ".3f"),
            "mid-p": number(r.mcnemar_midp, ".3f"),
            "p chi2": number(r.mcnemar_chi2_p, ".3f"),
        }
        if is_the_thesis_pair(r):
            row["thesis"] = " / ".join(map(str, thesis.CONTINGENCY[r.model]))
            row["thesis: p"] = number(thesis.MCNEMAR_P[r.model], ".3f")
        rows.append(row)
    return Table.of("Table 3, McNemar: validation images by who was right", rows)


def photographs(record: AccuracyRecord) -> list[Photograph]:
    """The images in the record that one precision got right and the other wrong."""
    shown = []
    for one in thumbnails.from_text(record.discordant):
        wrong = record.precision if one.right == record.baseline else record.baseline
        shown.append(Photograph(one.jpeg, f"{one.name}, a {one.label}: {one.right} was right, {wrong} was wrong"))
    return shown


def is_the_thesis_pair(r: AccuracyRecord) -> bool:
    return r.model in thesis.CONTINGENCY and (r.baseline, r.precision) == ("float32", "mixed_float16")


def _detectable(r: AccuracyRecord) -> str:
    """The difference that McNemar's test would have found with 80 % power, in percentage points."""
    return "none" if r.detectable_difference is None else f"{100 * r.detectable_difference:.2f}"


def difference_label(r: AccuracyRecord) -> str:
    """The difference in accuracy with its 95 % interval, in percentage points."""
    return f"{100 * r.difference:+.2f} [{100 * r.difference_low:+.2f}, {100 * r.difference_high:+.2f}]"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"
