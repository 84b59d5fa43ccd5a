"""What benchmarks/generative.py measures: one generator a corpus, loss and seed, and many sets drawn from it.

A generator is trained once, by ``edgeser distill --method gan``; every set is one JSON file, written when it is
measured, so an interrupted table goes on with what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from distillation_cells import parse_budget
from distillation_runs import (
    Request,
    digest,
    distil,
    experts_folder,
    fingerprint,
    has_seeds,
    keep_experts,
    prepare_run,
    read,
    say,
)

from edgeser.config.settings import Settings
from edgeser.config.values import changed, values_of
from edgeser.distill.budget import resolve
from edgeser.distill.label_bank import build_set
from edgeser.distill.loop import load_checkpoint
from edgeser.distill.method import Assignment, State
from edgeser.distill.methods.gan import items as generated_items
from edgeser.distill.methods.generator_targets import BASES_OF_A_CLASS, INVERTED
from edgeser.evaluation.conditions import BEST_STEPS, Bench, measure
from edgeser.evaluation.evaluate import Shelf, open_bench, summary
from edgeser.evaluation.scoring import score
from edgeser.models.training import Batch, train, with_statistics
from edgeser.run import Run
from edgeser_device.data.generated import DESCRIPTION, GENERATOR, PROBE, Drawing, Drawn, Points, labeller_name
from edgeser_device.data.schedule import batch_indices, statistics_batches
from edgeser_device.data.views import render
from edgeser_device.machine import describe_machine
from edgeser_export.utilities.files import write_json
from edgeser_export.writers.onnx_generator import INVERSE_TEMPERATURE

LOSSES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "all": {},
        "no critic": {"gan.adversarial_weight": 0.0},
        "no feature matching": {"gan.feature_weight": 0.0},
        "no L_SML": {"gan.probability_weight": 0.0},
        "no L_DIV": {"gan.diversity_weight": 0.0},
        "no pretraining": {"gan.pretraining": 0.0},
        "decoder only": {"gan.pretraining": 1.0},
    }
)
"""The ablation: settings of each line."""
SAMPLED = 1000
"""Items whose sampling is timed."""


@dataclass(frozen=True)
class Draw:
    """One set drawn from a generator.

    Attributes:
        budget: Items per class, "50", or a share of the training items, "0.056".
        labels: hard, soft or bank.
        ratio: balanced or original.
        fresh: New points in every epoch, as the board draws them: whole log-mels.
    """

    budget: str
    labels: str = "bank"
    ratio: str = "balanced"
    fresh: bool = False

    @property
    def name(self) -> str:
        """For people and files."""
        parts = [self.budget, self.labels, self.ratio]
        parts += ["fresh"] if self.fresh else []
        return " ".join(parts)


@dataclass(frozen=True)
class Cell:
    """One generator.

    Attributes:
        corpus: Name of the corpus format.
        loss: A row of ``LOSSES``.
        seed: Of its training.
    """

    corpus: str
    loss: str
    seed: int

    def settings(self, request: Request) -> Settings:
        """What it is trained with; its own budget decides nothing about the generator."""
        place = "" if self.corpus == "demo" else str((request.corpora / self.corpus).resolve())
        own = {"corpus": self.corpus, "folder": place, "seed": self.seed, "share": 0.056, "gan.ship": "generator"}
        return changed(request.settings("gan", own), LOSSES[self.loss])

    def folder(self, request: Request) -> Path:
        """Where it is kept; the end of the name tells other settings apart."""
        name = f"{self.corpus}-{self.loss.replace(' ', '-')}-seed{self.seed}"
        recipe = {"bases": BASES_OF_A_CLASS, "sharpness": INVERSE_TEMPERATURE, "inverted": INVERTED, "drawn": "in turn"}
        of_settings = fingerprint(values_of(self.settings(request)))
        return request.out / "generators" / f"{name}-{digest({'settings': of_settings, **recipe})}"


@dataclass
class Opened:
    """A trained generator with everything that its sets are measured with.

    Attributes:
        cell: Which.
        bench: The run's, its distilled set the run's own.
        state: The method's at the end.
        files: What the board draws with, by name.
    """

    cell: Cell
    bench: Bench
    state: State
    files: Mapping[str, bytes] = field(repr=False)


def open_cell(cell: Cell, request: Request) -> Opened:
    """Train the generator, or go on with it, and open it."""
    settings = cell.settings(request)
    run = prepare_run(cell.folder(request) / "run", settings, tuple(values_of(settings)), request)
    if not run.is_finished:
        say(f"{cell.corpus}, {cell.loss}, seed {cell.seed}: training the generator")
    distil([run], together=1, jobs=1)
    keep_experts(run, experts_folder(settings, request))
    bench, _ = open_bench(run, run.distilled(), Shelf(request.workers))
    position = load_checkpoint(run.checkpoint)
    return Opened(cell, bench, position.best or position.state, run.generator())


def measure_draw(opened: Opened, draw: Draw, request: Request) -> dict[str, Any]:
    """UAR of the student, as many trainings as asked for, each on a set of its own; kept in the cell's folder."""
    path = opened.cell.folder(request) / f"{draw.name.replace(' ', '-')}.json"
    known = read(path)
    if has_seeds(known, request.trainings):
        return known
    bench, seeds = bench_of(opened, draw), range(request.trainings)
    others = [bench if draw.fresh else bench_of(opened, draw, seed) for seed in seeds[1:]]  # fresh ones draw their own
    jobs = [(opened.files, draw, own, seed) for seed, own in zip(seeds, [bench, *others], strict=True)]
    pairs = list(request.workers.each(train_on_draw, jobs))
    found = {
        **summary(pairs, bench.distilled.names),
        "items": len(bench.distilled),
        "share": len(bench.distilled) / len(bench.task.clips),
        "bytes": shipped_bytes(opened, draw, bench),
        "views": len(bench.distilled.recipes),
        "machine": describe_machine(),
    }
    write_json(path, found)
    say(f"  {opened.cell.corpus} {opened.cell.loss} {draw.name}: {found['uar_mean']:.3f}")
    return found


def shipped_bytes(opened: Opened, draw: Draw, bench: Bench) -> int:
    """What a kit carries of a set: its file, or for fresh points the generator and its experts, which draw them."""
    if draw.fresh:
        return sum(len(content) for name, content in opened.files.items() if name != PROBE)
    return len(bench.distilled.to_bytes())


def bench_of(opened: Opened, draw: Draw, seed: int = 0) -> Bench:
    """The bench whose distilled set is the one drawn with a seed, as random clips are chosen with it."""
    assignment = assignment_of(opened.bench.assignment, draw)
    assignment = replace(assignment, settings=replace(assignment.settings, seed=seed))
    made = generated_items(assignment, opened.state)
    distilled = build_set(assignment, made)
    return replace(opened.bench, assignment=assignment, distilled=distilled, generator={})


def assignment_of(assignment: Assignment, draw: Draw) -> Assignment:
    """The assignment with the draw's budget, labels and ratio."""
    task = assignment.task
    wanted = {"ipc": 0, "share": 0.0, "views": 0, **parse_budget(draw.budget)}
    wanted |= {"gan.ship": "generator" if draw.fresh else "items", "samples_per_item": 0}
    settings = changed(assignment.settings, {**wanted, "labels": draw.labels, "gan.ratio": draw.ratio})
    return replace(assignment, settings=resolve(settings, len(task.clips), task.classes, task.fewest_clips))


def train_on_draw(files: Mapping[str, bytes], draw: Draw, bench: Bench, seed: int) -> tuple[Any, Any]:
    """Scores of one student on dev and test speakers."""
    graph, start = bench.task.graph, bench.assignment.init
    if not draw.fresh:
        return measure("distilled", bench, graph, start, seed)
    drawing = Drawing(bench.assignment.settings.ipc, draw.ratio == "original", fresh=True)
    source, schedule = Drawn(Points(files, threads=1), bench.distilled, drawing, seed), bench.distilled.schedule

    def batch_of(step: int) -> Batch:
        distilled, items = source(step)
        indices = batch_indices(len(distilled.recipes), schedule.batch, seed, step)
        views = torch.from_numpy(render(items, distilled.recipes, indices))
        return views, torch.from_numpy(distilled.labels_of(indices))

    parameters = train(graph, start, batch_of, schedule)
    last, items = source(schedule.steps - 1)
    batches = statistics_batches(len(last.recipes), schedule.batch)
    weights = with_statistics(graph, parameters, (torch.from_numpy(render(items, last.recipes, at)) for at in batches))
    return score(graph, weights, bench.dev), score(graph, weights, bench.test)


def measure_generator(opened: Opened, request: Request) -> dict[str, Any]:
    """Bytes of the generator and its experts against the corpus's, and the time that sampling takes."""
    path = opened.cell.folder(request) / "generator.json"
    if known := read(path):
        return known
    run = Run(opened.cell.folder(request) / "run")
    files, description, points = opened.files, run.description(), Points(opened.files, threads=1)
    experts = sum(len(files[labeller_name(k)]) for k in range(points.description.labellers))
    classes = np.arange(SAMPLED) % opened.bench.task.classes
    points.items(classes[:64], 0, 0)  # the first call pays for memory
    wall, processor = time.monotonic(), time.process_time()
    points.items(classes, 0, 0)
    wall, processor = time.monotonic() - wall, time.process_time() - processor
    shipped = len(files[GENERATOR]) + len(files[DESCRIPTION]) + experts
    found = {
        "generator_bytes": len(files[GENERATOR]),
        "expert_bytes": experts,
        "corpus_bytes": description["corpus_bytes"],
        "log_mel_bytes": opened.bench.task.clips.nbytes,
        "storage_saved": 1 - shipped / description["corpus_bytes"],
        "storage_saved_of_log_mels": 1 - shipped / opened.bench.task.clips.nbytes,
        "sampled": SAMPLED,
        "sampling_seconds": round(wall, 3),
        "sampling_processor_seconds": round(processor, 3),
        "training_seconds": run.took()["seconds"],
        "training_saved": 1 - opened.bench.distilled.schedule.steps / BEST_STEPS,
        "machine": describe_machine(),
    }
    write_json(path, found)
    return found


def real_and_sampled(opened: Opened, count: int) -> tuple[Any, Any]:
    """As many clips and sampled items of each class, normalised, (classes, count, mels, frames)."""
    task = opened.bench.task
    random = np.random.default_rng(0)
    real = np.stack(
        [task.clips[random.permutation(np.flatnonzero(task.labels == c))[:count], 0] for c in range(task.classes)]
    )
    assignment = assignment_of(opened.bench.assignment, Draw(str(count), fresh=True))
    return real, generated_items(assignment, opened.state).reshape(real.shape)
