"""Jobs side by side: in order, each with one thread, and with their errors."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from edgeser.cli.host import workers_of
from edgeser.errors import DivergedError, SettingsError
from edgeser.models.experts import ExpertRecipe, Task, train_expert
from edgeser.workers import Workers
from edgeser_export.graph.initial import initial_weights
from edgeser_export.utilities.errors import EdgeserError, MissingExtra


def late(number: int) -> tuple[int, int, int]:
    """The earlier a job is, the longer it takes."""
    time.sleep(0.05 * (4 - number))
    return number, os.getpid(), torch.get_num_threads()


def diverge(number: int) -> int:
    if number == 2:
        raise DivergedError("the loss of step 2 is nan", "use a smaller rate")
    return number


def interrupted(number: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    return number


def fill(array: np.ndarray) -> float:
    array[0] = 5.0
    return float(array.sum())


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_jobs_each_with_one_thread(jobs: int) -> None:
    found = list(Workers(jobs).each(late, [(number,) for number in range(4)]))
    assert [number for number, _, _ in found] == [0, 1, 2, 3]
    assert {threads for _, _, threads in found} == {1}
    assert (os.getpid() in {process for _, process, _ in found}) == (jobs == 1)


def test_one_job_needs_no_other_process() -> None:
    assert next(Workers(2).each(late, [(3,)]))[1] == os.getpid()


def test_control_c_is_for_the_process_that_began_the_others() -> None:
    """A terminal sends it to all; this one keeps its handler."""
    before = signal.getsignal(signal.SIGINT)
    Workers(2).release()
    assert list(Workers(2).each(interrupted, [(1,), (2,)])) == [1, 2]
    assert signal.getsignal(signal.SIGINT) is before


def test_no_job_is_no_result() -> None:
    assert list(Workers(2).each(late, [])) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_arrives_as_it_was_raised(jobs: int) -> None:
    with pytest.raises(DivergedError, match="step 2 is nan") as caught:
        list(Workers(jobs).each(diverge, [(number,) for number in range(4)]))
    assert isinstance(caught.value, EdgeserError)
    assert caught.value.hint == "use a smaller rate"


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_number_of_threads_is_put_back(jobs: int) -> None:
    before = torch.get_num_threads()
    list(Workers(jobs).each(late, [(3,), (3,)]))
    assert torch.get_num_threads() == before


def test_a_large_array_reaches_a_worker_whole_and_is_its_own() -> None:
    large = np.ones(2_000_000, dtype=np.float32)  # above the size from which it is shared as a file
    assert list(Workers(2).each(fill, [(large,), (large,)])) == [2_000_004.0, 2_000_004.0]
    assert large[0] == 1.0


def test_all_cores_are_those_this_process_may_use() -> None:
    assert workers_of(None, "local").jobs == len(os.sched_getaffinity(0))


def test_an_unknown_backend_is_met_with_a_suggestion() -> None:
    with pytest.raises(SettingsError, match="there is no backend 'rai'") as caught:
        Workers(2, "rai")
    assert "'ray'" in caught.value.hint


def test_ray_asks_for_its_extra_where_it_is_not_installed() -> None:
    if find_spec("ray") is not None:
        pytest.skip("ray is installed")
    with pytest.raises(MissingExtra, match="'ray'"):
        Workers(2, "ray")


def place(number: int) -> tuple[int, str]:
    """The square of a number, and the node of the cluster that computed it."""
    import ray

    time.sleep(0.2)  # so that no node is done with everything before the other has begun
    return number**2, ray.get_runtime_context().get_node_id()


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """A real Ray cluster of two nodes with one core each, on this machine; the names of the nodes."""
    ray = pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        ray.init(address=cluster.address, runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}})
        yield {node["NodeID"] for node in ray.nodes()}
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of ray's own processes
def test_a_ray_cluster_of_two_nodes_gives_the_results_of_local_processes(two_nodes: set[str]) -> None:
    found = list(Workers(2, "ray").each(place, [(number,) for number in range(12)]))
    assert [square for square, _ in found] == [number**2 for number in range(12)]
    assert {node for _, node in found} == two_nodes
    assert len(two_nodes) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_experts_trained_on_a_ray_cluster_have_the_bits_of_local_ones(two_nodes: set[str], task: Task) -> None:
    assert len(two_nodes) == 2
    recipe = ExpertRecipe("adamw", 2, batch=8)
    jobs = [(task, initial_weights(task.graph, seed), recipe, seed) for seed in (0, 1)]
    there, here = (list(workers.each(train_expert, jobs)) for workers in (Workers(2, "ray"), Workers(1)))
    for one, other in zip(there, here, strict=True):
        assert all(np.array_equal(one.final[name], other.final[name]) for name in other.final)
