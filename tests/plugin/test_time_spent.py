"""plugin.session_end: what a session's time went into."""

from mpbench.plugin.session_end import time_spent


def test_in_a_line():
    spent = {"arms": 18, "built": 130.4, "measured": 99.6, "energy": 50.0, "profiled": 0.2}
    assert time_spent(spent) == "18 arms: built in 2 min 10 s, measured in 1 min 40 s, energy 50 s"


def test_nothing_where_nothing_was_built():
    assert time_spent({}) == ""
