"""mpbench.engine.session: which groups are built together, in what order they are visited, what one's fault costs."""

from types import SimpleNamespace

import pytest

from mpbench.config.profiles import LARGEST_BATCH
from mpbench.engine import session

pytestmark = pytest.mark.tensorflow

CPU = SimpleNamespace(kind="cpu")


def plan(label, batch_size=2, workers=1):
    member = SimpleNamespace(spec=SimpleNamespace(device=CPU, batch_size=batch_size))
    cluster = SimpleNamespace(workers=workers)
    return SimpleNamespace(label=label, members={"float32": member}, cluster=cluster, device=CPU)


class FakeGroup:
    """Needs three visits; what happens to it stands in `log`."""

    alive = 0
    small_memory = False

    def __init__(self, plan, progress, keep, profile, held_bytes):
        type(self).alive += 1
        self.plan, self.keep, self.visits, self.outcomes = plan, keep, 0, {}
        self.done = self.released = False
        self.out_of_memory = self.small_memory and self.alive > 1
        self.peak_memory_bytes = 1
        self.log.append(("build", plan.label))

    def visit(self, after_others):
        if self.plan.label in self.fails:
            raise RuntimeError("the device is lost")
        self.visits += 1
        self.done = self.visits == 3
        self.log.append(("visit", self.plan.label, after_others))
        self.keep({"float32": self.visits})

    def finish(self):
        self.log.append(("finish", self.plan.label))
        self.outcomes = {"float32": "measured"}

    def fail(self, error):
        self.outcomes = {"float32": error}
        self.done = True

    def release(self):
        if not self.released:
            self.released = True
            type(self).alive -= 1


@pytest.fixture
def fake(monkeypatch):
    class Group(FakeGroup):
        log, fails = [], set()

    monkeypatch.setattr(session, "Group", Group)
    monkeypatch.setattr(session.memory, "in_use_bytes", lambda device: 0)
    monkeypatch.setattr(session.memory, "free_bytes", lambda device: 10**9)
    return Group


def run(plans, keep=lambda number, measured: None):
    return dict(session.measure_groups(plans, lambda line: None, keep, None))


def test_all_groups_are_built_first_and_each_is_visited_before_any_is_again(fake):
    kept = []
    outcomes = run([plan("a"), plan("b"), plan("c")], keep=lambda number, measured: kept.append(number))
    assert [entry[1] for entry in fake.log[:3]] == ["a", "b", "c"]
    visits = [entry[1] for entry in fake.log if entry[0] == "visit"]
    assert [sorted(visits[i : i + 3]) for i in (0, 3, 6)] == [["a", "b", "c"]] * 3
    assert sorted(kept) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert set(outcomes) == {0, 1, 2}
    assert fake.alive == 0


def test_one_group_alone_is_visited_without_others_between(fake):
    run([plan("a")])
    assert [entry[2] for entry in fake.log if entry[0] == "visit"] == [True, False, False]


def test_a_group_that_finds_no_memory_beside_others_is_built_again_alone(fake):
    fake.small_memory = True
    outcomes = run([plan("a"), plan("b")])
    assert [entry for entry in fake.log if entry[0] in ("build", "finish")] == [
        ("build", "a"),
        ("build", "b"),
        ("finish", "a"),
        ("build", "b"),
        ("finish", "b"),
    ]
    assert outcomes == {0: {"float32": "measured"}, 1: {"float32": "measured"}}


@pytest.mark.parametrize("free", [1, None])
def test_where_memory_is_short_or_unknown_groups_are_built_one_at_a_time(fake, monkeypatch, free):
    monkeypatch.setattr(session.memory, "free_bytes", lambda device: free)
    run([plan("a"), plan("b")])
    assert [entry[1] for entry in fake.log if entry[0] in ("build", "finish")] == ["a", "a", "b", "b"]


@pytest.mark.parametrize("alone", [{"batch_size": LARGEST_BATCH}, {"workers": 2}])
def test_a_group_that_takes_all_memory_or_must_agree_with_other_machines_is_measured_alone(fake, alone):
    run([plan("a"), plan("b", **alone), plan("c")])
    assert [entry[1] for entry in fake.log if entry[0] in ("build", "finish")] == ["a", "a", "b", "b", "c", "c"]


def test_a_groups_fault_is_its_own(fake):
    fake.fails.add("b")
    outcomes = run([plan("a"), plan("b"), plan("c")])
    assert str(outcomes[1]["float32"]) == "the device is lost"
    assert outcomes[0] == outcomes[2] == {"float32": "measured"}


def test_a_group_that_cannot_be_made_leaves_the_others_theirs(fake, monkeypatch):
    def make(plan, *rest):
        if plan.label == "b":
            raise RuntimeError("no telemetry")
        return fake(plan, *rest)

    monkeypatch.setattr(session, "Group", make)
    outcomes = run([plan("a"), plan("b"), plan("c")])
    assert str(outcomes[1]["float32"]) == "no telemetry"
    assert outcomes[0] == outcomes[2] == {"float32": "measured"}


def test_an_end_in_the_middle_gives_all_memory_back(fake):
    fake.visit = interrupted(fake.visit)
    with pytest.raises(KeyboardInterrupt):
        run([plan("a"), plan("b")])
    assert fake.alive == 0


def interrupted(visit):
    calls = []

    def second_time(self, after_others):
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        visit(self, after_others)

    return second_time
