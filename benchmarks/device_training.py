"""Rows of benchmarks/device.py about training: the board's process and torch's from the same kit, in turn."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from json import loads
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import training_step
from packaging.markers import default_environment
from packaging.requirements import Requirement
from safetensors.numpy import load_file

from edgeser.evaluation.intervals import deviation
from edgeser.models.students import build
from edgeser.packaging.pack import pack_kit
from edgeser.run import Run
from edgeser_device.data.schedule import batch_indices
from edgeser_device.data.stored import first_views
from edgeser_device.data.views import render
from edgeser_device.kit.kit import Kit, read_kit
from edgeser_device.model.model import load_model
from edgeser_device.train.trainer import TrainingSession, begin
from edgeser_export.graph.initial import initial_weights
from edgeser_export.utilities.files import write_bytes, write_json

HERE = Path(__file__).parent
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
POLL_SECONDS = 0.02
RATE = 1e-3
"""Weight decay in the first steps of large students: the default of torch's AdamW."""


@dataclass(frozen=True)
class Place:
    """The folders in which a measurement finds and keeps things.

    Attributes:
        work: Kits, models and weights are kept here, so that rows share them.
        runs: Runs by corpus, one for each seed of distillation.
        folders: The corpora's recordings by name.
        repeat: The number of times that a ratio is measured.
    """

    work: Path
    runs: dict[str, tuple[Path, ...]]
    folders: dict[str, Path]
    repeat: int

    def kit(self, corpus: str, seed: int, student: tuple[str, float] | None = None) -> Path:
        """The kit of a run, packed where that was not done; with another student on the same set where one is named."""
        name = f"{corpus}-{seed}" + (f"-{student[0]}" if student else "")
        path = self.work / "kits" / f"{name}.edgeser"
        if not path.is_file():
            run = self.runs[corpus][seed]
            pack_kit(with_student(run, self.work / "runs" / name, *student) if student else run, "rpi4", path)
        return path

    def model(self, kit: Path, *words: str) -> Path:
        """The model that the board's program trains from a kit, trained where that was not done."""
        folder = self.work / "models" / "-".join([kit.stem, *words]).replace("---", "-")
        if not folder.is_dir():
            train_board(kit, folder, *words)
        return folder


def with_student(run: Path, folder: Path, name: str, width: float) -> Path:
    """The run's distilled set with another student, from that student's own start."""
    description = Run(run).description()
    student = build(name, len(description["labels"]), width)
    changed = {**description, "student": {"architecture": name, "width": width}}
    write_json(folder / "run.json", changed)
    write_json(folder / "student.json", student.to_json())
    from safetensors.numpy import save

    write_bytes(folder / "init.safetensors", save(initial_weights(student, 0)))
    for file in ("config.toml", "distilled.safetensors"):
        write_bytes(folder / file, (run / file).read_bytes())
    return folder


# Processes -----------------------------------------------------------------------------------------------------------


def train_board(kit: Path, out: Path, *words: str) -> dict[str, float]:
    """``edgeser train-on-device`` with one thread: what it reports, and what :func:`watched` sees."""
    command = [sys.executable, "-m", "edgeser", "train-on-device", str(kit), "--out", str(out), "--threads", "1"]
    return watched([*command, "--json", *words])


def train_torch(kit: Path, out: Path, *words: str) -> dict[str, float]:
    """benchmarks/torch_training.py, in the same way."""
    return watched([sys.executable, str(HERE / "torch_training.py"), str(kit), str(out), *words])


def watched(command: Sequence[str]) -> dict[str, float]:
    """Run a program that prints JSON; adds its seconds, its own processor seconds, and the most memory that it held.

    Memory is VmHWM, read until the process ends; of its children only processor seconds count.
    """
    began, peak = time.monotonic(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD) as process:
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            peak = max(peak, _peak_kilobytes(process.pid))
            time.sleep(POLL_SECONDS)
        seconds = time.monotonic() - began
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}")
    cpu = usage.ru_utime + usage.ru_stime
    return {**loads(said), "process_s": seconds, "cpu_s": cpu, "peak_mb": peak / 1024}


def _peak_kilobytes(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


# Rows ----------------------------------------------------------------------------------------------------------------


def whole_training(place: Place, student: tuple[str, float] | None, steps: int | None) -> dict[str, Any]:
    """Whole trainings of one kit by the board's program and by torch in turn; medians of the pairs' ratios."""
    kit = place.kit("ravdess", 0, student)
    words = ("--steps", str(steps)) if steps else ()
    pairs = []
    for number in range(place.repeat):
        board = train_board(kit, place.work / "scratch" / f"{kit.stem}-{number}", *words)
        torch = train_torch(kit, place.work / "scratch" / f"{kit.stem}.safetensors", *words)
        pairs.append((board, torch))
    keys = ("seconds", "process_s", "cpu_s", "peak_mb", "first_step_s")
    found = {
        side: {key: median(pair[place][key] for pair in pairs) for key in keys} for place, side in enumerate(SIDES)
    }
    ratios = {key: median(board[key] / torch[key] for board, torch in pairs) for key in keys}
    return {"steps": int(pairs[0][0]["steps"]), **found, "ratios": ratios, "pairs": pairs}


SIDES = ("board", "torch")


def step_times(place: Place, name: str, width: float) -> dict[str, Any]:
    """Processor time of a step against torch's, steps in turn; the median of some such comparisons."""
    found = [training_step.compare(name, width, steps=20, trained="full") for _ in range(place.repeat)]
    return {"ratio": median(row["ratio"] for row in found), "each": found}


def first_steps(place: Place, name: str, steps: int = 20) -> dict[str, Any]:
    """The first steps of a large student beside torch's in float32, and beside torch's in float64.

    Small differences grow from step to step in any precision, so that what torch's own float32 loses is the measure.
    "agreement" is the share of 512 views of which two students name the same class, by the batch's own statistics;
    "distance" the largest difference of a tensor from float64's, as a share of that tensor's largest change.
    """
    import torch

    torch.set_num_threads(1)
    oracle = torch_oracle()
    kit = read_kit(place.kit("ravdess", 0, (name, 0.25)))
    batches = [batch_of(kit, step) for step in range(steps)]
    names, decay = tuple(kit.graph.parameters), kit.distilled.schedule.weight_decay
    recipe = oracle.Recipe("adamw", names, batch_statistics=True, learning_rate=RATE, weight_decay=decay)
    found = {"board": board_steps(kit, steps)}
    for side, dtype in (("torch", torch.float32), ("float64", torch.float64)):
        found[side] = oracle.train(kit.graph, kit.weights, batches, recipe, dtype)
    views = torch.from_numpy(first_views(kit.distilled, 512)).double().split(64)
    classes, distances = {}, {}
    exact = found["float64"][0]
    for side, (weights, _) in found.items():
        held = {key: torch.from_numpy(np.asarray(weights[key], np.float64)) for key in names}
        named = [oracle.logits(kit.graph, held, x, batch_statistics=True).argmax(1) for x in views]
        classes[side] = torch.cat(named).numpy()
        shares = [
            np.abs(weights[key] - exact[key]).max() / np.abs(exact[key] - kit.weights[key]).max() for key in names
        ]
        distances[side] = float(max(shares))
    losses = {side: each for side, (_, each) in found.items()}
    board = losses["board"]
    return {
        "losses": losses,
        "distance": distances,
        "agreement": {side: float((classes["board"] == each).mean()) for side, each in classes.items()},
        "agreement_of_torch_with_float64": float((classes["torch"] == classes["float64"]).mean()),
        "stable": bool(np.isfinite(board).all() and max(board) < 2 * board[0]),
    }


def batch_of(kit: Kit, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Views and labels of a step."""
    distilled = kit.distilled
    indices = batch_indices(len(distilled.recipes), distilled.schedule.batch, 0, step)
    return render(distilled.items(), distilled.recipes, indices), distilled.labels_of(indices)


def board_steps(kit: Kit, steps: int) -> tuple[dict[str, np.ndarray], list[float]]:
    """Parameters after some steps of the kit's training step at the rate RATE, and the losses."""
    schedule, items = replace(kit.distilled.schedule, steps=steps, rates=(RATE,)), kit.distilled.items()
    session, state, losses = TrainingSession(kit.step, 1), begin(kit.graph, kit.weights, "adamw"), []
    for _ in range(steps):
        state, loss = session.step(state, kit.distilled, items, schedule, 0)
        losses.append(loss)
    return {key: state.values[key].copy() for key in kit.graph.parameters}, losses


def torch_oracle() -> Any:
    """The tests' own interpreter of students in torch."""
    sys.path.insert(0, str(HERE.parent))
    from tests.export import torch_oracle as oracle

    return oracle


# Sizes ---------------------------------------------------------------------------------------------------------------


def installed_sizes(_: Place) -> dict[str, Any]:
    """MB on the disk of packages with all that they need, without compiled Python: what training takes on each side."""
    kinds = {
        "board, training": ("numpy", "onnxruntime", "safetensors"),
        "board, everything": tuple(base_requirements()),
        "torch": ("torch", "numpy", "safetensors"),
    }
    found = {name: round(sum(map(size_mb, closure(roots))), 1) for name, roots in kinds.items()}
    ratios = {name: found[name] / found["torch"] for name in found if name != "torch"}
    return {"mb": found, "ratios": ratios}


def base_requirements() -> list[str]:
    return [requirement.name for requirement in _requirements("edgeser")]


def closure(roots: Sequence[str]) -> set[str]:
    """Names of installed distributions, and of all that they need."""
    found: set[str] = set()
    waiting = [name.lower().replace("_", "-") for name in roots]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [requirement.name.lower().replace("_", "-") for requirement in _requirements(name)]
    return found


def _requirements(name: str) -> list[Requirement]:
    environment = {**default_environment(), "extra": ""}
    listed = map(Requirement, metadata.requires(name) or ())
    return [each for each in listed if each.marker is None or each.marker.evaluate(environment)]


def size_mb(name: str) -> float:
    files = (Path(str(file.locate())) for file in metadata.files(name) or () if file.suffix != ".pyc")
    return sum(path.stat().st_size for path in files if path.is_file()) / 2**20


# The same set, the same student --------------------------------------------------------------------------------------


def same_student(
    place: Place, student: tuple[str, float] | None, steps: int | None, judge: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    """UAR on the test speakers of the board's student and of torch's, and on how many clips they say the same.

    Sums in another order lead two trainings apart, so torch is compared with itself too: with two threads it adds the
    same numbers in another order. That agreement is what there is to reach.

    Args:
        place: The folders of the measurement.
        student: None for the kits' own.
        steps: None for the kits' own.
        judge: (kit, outputs of each) -> one line; see :func:`device_files.judged`.
    """
    words = ("--steps", str(steps)) if steps else ()
    lines = []
    for seed in range(len(place.runs["ravdess"])):
        path = place.kit("ravdess", seed, student)
        kit = read_kit(path)
        sides = {"board": partial(_logits, kit, load_model(place.model(path, *words)).weights)}
        for name, more in (("torch", ()), (OTHER_ORDER, ("--threads", "2"))):
            weights = place.work / "torch" / ("-".join([path.stem, *words, *more]).replace("---", "-") + ".safetensors")
            if not weights.is_file():
                train_torch(path, weights, *words, *more)
            sides[name] = partial(_logits, kit, load_file(weights))
        line = judge(place, "ravdess", kit, sides)
        itself = judge(place, "ravdess", kit, {name: sides[name] for name in ("torch", OTHER_ORDER)})
        agreement = {
            "board with torch": line["agreement"]["torch"],
            "torch with itself": itself["agreement"][OTHER_ORDER],
        }
        lines.append({"UAR": line["uar"], "agreement": agreement, "clips": line["clips"]})
    return {"each": lines, **{what: _spreads([line[what] for line in lines]) for what in ("UAR", "agreement")}}


OTHER_ORDER = "torch, two threads"


def _spreads(lines: Sequence[dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation of each figure."""
    found = {name: [line[name] for line in lines] for name in lines[0]}
    return {name: {"mean": float(np.mean(each)), "std": deviation(each)} for name, each in found.items()}


def _logits(kit: Kit, weights: dict[str, np.ndarray], windows: np.ndarray) -> np.ndarray:
    from edgeser.evaluation.scoring import probabilities

    return probabilities(kit.graph, weights, windows)
