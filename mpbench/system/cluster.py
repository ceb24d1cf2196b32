"""The machines that share a run, as TensorFlow's launchers tell each of them in TF_CONFIG.

Pure; https://www.tensorflow.org/guide/distributed_training#TF_CONFIG has the format.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from mpbench.errors import UsageProblem

VARIABLE = "TF_CONFIG"
VALID = 'valid is {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}, or with a chief'
QUOTED_CHARACTERS = 80


@dataclass(frozen=True)
class Cluster:
    """Workers that run the same cases in lockstep.

    Attributes:
        addresses: host:port of each, the chief first; one, whatever it is, for a run of its own.
        index: of this process.
    """

    addresses: tuple[str, ...] = ("",)
    index: int = 0

    @property
    def workers(self) -> int:
        return len(self.addresses)

    @property
    def is_chief(self) -> bool:
        """Whether this process saves, compares and judges: one of them does."""
        return self.index == 0

    @property
    def shares_host(self) -> bool:
        """Whether a worker before this one is on the same machine, whose lock then stands for both."""
        hosts = [address.rpartition(":")[0] for address in self.addresses]
        return hosts[self.index] in hosts[: self.index]


def read_cluster(config: str | None, replicas: int) -> Cluster:
    """The cluster that TF_CONFIG describes; one process where there is none, or nothing is shared.

    Args:
        config: the variable's value.
        replicas: of all workers together.

    Raises:
        UsageProblem: malformed, the task of another kind, or replicas that the workers cannot share evenly.
    """
    if not config or replicas == 1:
        return Cluster()
    try:
        given = json.loads(config)
        cluster, kind, index = given["cluster"], given["task"]["type"], given["task"]["index"]
        machines = {one: _list(cluster.get(one, [])) for one in ("chief", "worker")}
        if set(cluster) - set(machines) or type(index) is not int or not 0 <= index < len(machines[kind]):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        quoted = config if len(config) <= QUOTED_CHARACTERS else f"{config[:QUOTED_CHARACTERS]}..."
        raise UsageProblem(f"{VARIABLE}: {quoted!r}: {VALID}") from None
    addresses = [*machines["chief"], *machines["worker"]]
    if replicas % len(addresses):
        raise UsageProblem(
            f"--mp-replicas: {replicas} among {len(addresses)} workers ({VARIABLE}): use a multiple of that"
        )
    return Cluster(tuple(addresses), index + (len(machines["chief"]) if kind == "worker" else 0))


def _list(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError
    return value
