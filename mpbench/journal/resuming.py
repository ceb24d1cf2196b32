"""May a session go on with the journal of a dead one, and which cases need it not measure again?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mpbench.config.options import OPTIONS
from mpbench.config.settings import Settings
from mpbench.errors import printable
from mpbench.journal.lines import Contents, Finished, Header
from mpbench.records.accuracy import ACCURACY
from mpbench.records.comparable import configuration, differences
from mpbench.records.kinds import kind_of
from mpbench.records.runs import NO_COMMIT, facts_of
from mpbench.records.speed import BROKEN_OFF
from mpbench.system.code import digest_of

FREE_SETTINGS = {
    "given_precisions",
    *(option.setting for option in OPTIONS if option.free_on_resume or option.chief_only),
}
"""They pick the cases and do not change how one is measured: a session that resumes may have others."""

PROFILE_SETTINGS = ("profile", "batch_size", "image_size", "max_time", "tolerance", "weights")
"""What a profile sets where nothing was given."""

NAMED_FILES = 5
"""Of those that have changed."""


def why_not_resumed(contents: Contents, header: Header, root: Path) -> list[str]:
    """In what a session would measure otherwise than a journal's cases were; none where it may go on with it.

    Args:
        contents: of the journal; at least one case.
        header: of the session.
        root: the files of a program are named relative to it.
    """
    assert contents.header is not None  # without one there are no cases
    differing = differences(_conditions(contents.header, contents.cases), _conditions(header, contents.cases))
    return [*(printable(str(one)) for one in differing), *_changed_code(contents, root)]


def whole_groups(cases: Mapping[str, Finished], groups: Mapping[str, str]) -> dict[str, Finished]:
    """The selected cases whose group's selected cases were all measured together, and to the end.

    Speedups are of paired rounds, and a group is measured in several visits.

    Args:
        cases: of a journal, by full name.
        groups: for each selected case its group.
    """
    whole = {}
    for group in set(groups.values()):
        wanted = [name for name, of_group in groups.items() if of_group == group]
        found = [cases[name] for name in wanted if name in cases and not _broken_off(cases[name])]
        together = {(case.group, case.measurement) for case in found}
        if len(found) == len(wanted) and together == {(group, found[0].measurement)}:
            whole.update({case.fullname: case for case in found})
    return whole


def _conditions(header: Header, cases: Mapping[str, Finished]) -> dict[str, Any]:
    """All that must agree between a session and the one that has measured some cases: more than what makes two runs
    comparable, since one run has one commit and one way of measuring."""
    settings = json.loads(json.dumps(header.settings))  # a journal has lists where a session has tuples
    try:
        facts = facts_of(header.machine_info)
    except ValueError as problem:
        facts = {"machine_info": str(problem)}
    return {
        **configuration(facts),
        **facts,
        "python": header.machine_info.get("python_version"),
        "commit": header.commit_info.get("id"),
        "uncommitted changes": header.commit_info.get("dirty"),
        **{name: value for name, value in _resolved(settings, cases).items() if name not in FREE_SETTINGS},
    }


def _resolved(settings: dict[str, Any], cases: Mapping[str, Finished]) -> dict[str, Any]:
    """Settings with what a profile gives for some cases in place of its name and of what was not given."""
    infos = [case.benchmark["extra_info"] for case in cases.values()]
    try:
        own = Settings(**settings)
        profile, recipe = own.resolved_profile(infos[0]["device"]), asdict(own.recipe)
    except (TypeError, KeyError):  # of another version, hence of another program
        return settings
    given = {name: value for name, value in settings.items() if name not in PROFILE_SETTINGS}
    of_speed = {name: value for name, value in asdict(profile).items() if name != "name"}
    of_accuracy = {f"{name} (accuracy)": value for name, value in recipe.items()}
    return given | of_speed | (of_accuracy if any(kind_of(info) is ACCURACY for info in infos) else {})


def _changed_code(contents: Contents, root: Path) -> list[str]:
    """Which files of the program that measured a journal's cases are others now: a commit's id does not tell."""
    noted = {(key, digest) for case in contents.cases.values() for key, digest in case.code.items()}
    now = {key: digest_of(key, root) for key, _ in noted}
    changed = sorted({key for key, digest in noted if not digest or digest != now[key]})
    more = f" and {len(changed) - NAMED_FILES} more" if len(changed) > NAMED_FILES else ""
    found = [f"changed since then: {printable(', '.join(changed[:NAMED_FILES]))}{more}"] if changed else []
    commit = contents.header.commit_info if contents.header else {}
    unknown = commit.get("dirty") or commit.get("id") in NO_COMMIT
    if unknown and not all(case.code for case in contents.cases.values()):
        found.append("without a commit, by a version that did not note its files")
    return found


def _broken_off(case: Finished) -> bool:
    return bool(case.benchmark["extra_info"].get("noisy_because") == BROKEN_OFF)
