"""The images on which two models disagree, as a report shows them. Pure: from a record to content."""

from __future__ import annotations

from mpbench.records import thumbnails
from mpbench.records.accuracy import AccuracyRecord
from mpbench.report.content import Photograph


def photographs(record: AccuracyRecord) -> list[Photograph]:
    """A few of the images that one of the two got right and the other wrong; none where the record holds none.

    Args:
        record: read from a checked run.
    """
    return [
        Photograph(one.jpeg, f"{one.name}, a {one.label}: {one.right} was right, {_other(record, one.right)} was wrong")
        for one in thumbnails.from_text(record.discordant)
    ]


def _other(record: AccuracyRecord, right: str) -> str:
    return record.baseline if right != record.baseline else record.precision
