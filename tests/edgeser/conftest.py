"""What the host's tests share: a small task, and a finished run of the demo corpus."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from device.kits import LABELS, synthetic_items, synthetic_set

from edgeser.config.settings import Settings
from edgeser.config.values import changed, settings_of
from edgeser.distill.method import Assignment
from edgeser.distill.pipeline import distill
from edgeser.distill.registry import METHODS
from edgeser.models.experts import Ensemble, ExpertRecipe, Task, train_expert
from edgeser.models.students import build
from edgeser.representation.logmel import LogMel
from edgeser.representation.vector_file import CORPUS
from edgeser.representation.vectors import Vectors
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.data.distilled import DistilledSet
from edgeser_device.data.vector_set import scale_of
from edgeser_device.frontend import FrontendSpec
from edgeser_export.graph.initial import initial_weights

TINY = settings_of(
    {
        "samples_per_item": 1,
        "corpus": "demo",
        "method": "mtt",
        "ipc": 2,
        "width": 0.25,
        "views": 4,
        "experts.count": 1,
        "experts.width": 0.25,
        "experts.steps": 12,
        "steps": 12,
        "batch": 16,
        "mtt.trajectories": 1,
        "mtt.expert_span": 1,
        "mtt.max_start_epoch": 1,
        "mtt.student_steps": 2,
    }
)
"""A distillation of a few seconds."""
TINY = changed(TINY, {f"{method}.iterations": 3 for method in ("mtt", "gan", "invert", "match", "unroll")})
TINY = changed(TINY, {f"{method}.item_rate": 0.02 for method in ("mtt", "invert", "match", "unroll")})


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Sums in torch depend on the number of threads; two beside each other on two cores are slower than one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> Settings:
    """Settings of a distillation of the demo corpus that takes seconds."""
    return TINY


@pytest.fixture(scope="session")
def task() -> Task:
    """Striped noise of three classes, eight clips each, and a quarter-width edgenet of 1,700 parameters."""
    items, classes = synthetic_items(per_class=8)
    graph, spoken = build("edgenet", len(LABELS), 0.25), LogMel(FrontendSpec(std=20.0))
    return Task(graph, items[:, None], classes.astype(np.int64), len(LABELS), spoken)


@pytest.fixture(scope="session")
def distilled() -> DistilledSet:
    """Twelve synthetic items with eight mixed views each, batches of 16."""
    return synthetic_set()


@pytest.fixture(scope="session")
def assignment(task: Task) -> Assignment:
    """What a method works on: the small task, one label expert, two trajectories of three epochs."""
    start = initial_weights(task.graph, 0)
    constant = {"warm_share": 0.0, "start_divisor": 1.0, "end_divisor": 1.0, "weight_decay": 0.0}
    path = ExpertRecipe("plain_sgd", 3, batch=8, peak_rate=0.05, **constant)
    label = train_expert(task, initial_weights(task.graph, 9), ExpertRecipe("adamw", 4, batch=8), seed=9)
    return Assignment(
        task=task,
        names=LABELS,
        settings=changed(TINY, {"mtt.student_steps": 3, "mtt.max_start_epoch": 2, "mtt.iterations": 4}),
        method=METHODS["mtt"],
        init=start,
        ensemble=Ensemble(task.graph, (label.final,)),
        trajectories=tuple(train_expert(task, start, path, seed) for seed in (0, 1)),
    )


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of the demo corpus; not to be changed."""
    return distill(TINY, tmp_path_factory.mktemp("runs") / "tiny", Workers(1), resume=False, warn=lambda _: None)


@pytest.fixture(scope="session")
def of_vectors() -> Assignment:
    """What a method works on of vectors: three classes of two clusters, six vectors a cluster, one label expert."""
    random = np.random.default_rng(0)
    middles = 3 * random.standard_normal((6, 10))
    x = np.repeat(middles, 6, axis=0) + 0.3 * random.standard_normal((36, 10))
    scale = scale_of(x.astype(np.float32))
    graph = build("mlp", len(LABELS), 0.25, (10, 1, 1))
    clips = scale.standardised(x.astype(np.float32))[:, :, None, None]
    task = Task(graph, clips, np.repeat(np.arange(3), 12), len(LABELS), Vectors(scale))
    label = train_expert(task, initial_weights(graph, 9), ExpertRecipe("adamw", 20, batch=12), seed=9)
    settings = settings_of({"corpus": CORPUS, "folder": "vectors.npz", "method": "kip", "ipc": 2, "start": "centroids"})
    return Assignment(
        task, LABELS, settings, METHODS["kip"], initial_weights(graph, 0), Ensemble(graph, (label.final,))
    )
