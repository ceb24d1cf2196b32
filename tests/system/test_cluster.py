"""mpbench.system.cluster: what TF_CONFIG says, and what is wrong with it."""

import json

import pytest

from mpbench.errors import UsageProblem
from mpbench.system.cluster import Cluster, read_cluster

HOSTS = ["one:2222", "two:2222"]


def config(cluster=None, kind="worker", index=0):
    return json.dumps({"cluster": cluster or {"worker": HOSTS}, "task": {"type": kind, "index": index}})


def test_workers_and_which_of_them_this_is():
    cluster = read_cluster(config(index=1), 4)
    assert cluster == Cluster(("one:2222", "two:2222"), 1)
    assert (cluster.workers, cluster.is_chief, cluster.shares_host) == (2, False, False)
    assert read_cluster(config(), 4).is_chief


def test_a_chief_comes_first():
    cluster = {"worker": HOSTS, "chief": ["zero:2222"]}
    assert read_cluster(config(cluster, "chief"), 3) == Cluster(("zero:2222", *HOSTS), 0)
    assert read_cluster(config(cluster, index=0), 3) == Cluster(("zero:2222", *HOSTS), 1)


def test_a_worker_on_the_host_of_an_earlier_one():
    cluster = {"worker": ["one:1", "two:1", "one:2"]}
    assert [read_cluster(config(cluster, index=i), 3).shares_host for i in range(3)] == [False, False, True]


@pytest.mark.parametrize(("given", "replicas"), [(None, 4), ("", 4), (config(), 1), ("no JSON", 1)])
def test_without_a_cluster_or_replicas_a_run_is_its_own(given, replicas):
    assert read_cluster(given, replicas) == Cluster()


@pytest.mark.parametrize(
    "given",
    [
        "{",
        "[]",
        "1",
        "{}",
        config(index=2),
        config(index=-1),
        config(index=None),
        config(kind="chief"),
        config(kind="evaluator"),
        config({"worker": HOSTS, "ps": ["three:1"]}),
        config({"worker": "one:2222"}),
        config({"worker": [1]}),
        config(["one:2222"]),
    ],
)
def test_a_malformed_variable_is_one_clear_line(given):
    with pytest.raises(UsageProblem, match=r'TF_CONFIG: .*: valid is {"cluster": ') as caught:
        read_cluster(given, 2)
    assert "\n" not in str(caught.value)


def test_replicas_that_workers_cannot_share():
    with pytest.raises(UsageProblem, match=r"--mp-replicas: 3 among 2 workers .*: use a multiple of that"):
        read_cluster(config(), 3)
