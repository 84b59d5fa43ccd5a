"""One iteration of trajectory matching: mtt.memory=fast and lean against a plain implementation.

    python benchmarks/trajectory_matching.py > result.json      # the table goes to stderr; 1 if a check fails

The plain one is in the manner of the reference code (Cazenavette et al. 2022): one flat vector of parameters, taken
apart for a functional forward pass in every inner step, create_graph through all steps, every vector kept. All sides
match the same student on the same items in the same batches. Each runs in a process of its own, so that peak memory is
its own, and they take turns, so that a busy machine slows all. Rates are iterations in a CPU second, from the median;
memory is the growth of the peak (VmHWM) from before the first iteration.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from edgeser_device.machine import describe_machine

STUDENT, CLASSES, ITEMS = "edgenet", 8, 48
LEAST_SPEED = 1.0
"""fast has at least the rate of plain, at every number of steps."""
MOST_MEMORY, AT_STEPS = 0.25, 40
"""lean has at most this share of plain's memory at this number of steps, or at the largest number measured."""
SAME_LOSS = 1e-3
"""Relative: the same loss in float32, summed in another order."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 40], help="inner steps of the student")
    parser.add_argument("--iterations", type=int, default=5, help="measured iterations of each side")
    parser.add_argument("--serve", nargs=2, metavar=("SIDE", "STEPS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve[0], int(arguments.serve[1]))
        return
    rows = [compare(steps, arguments.iterations) for steps in arguments.steps]
    checks = check(rows)
    passed = all(each["passed"] for each in checks)
    machine = describe_machine()
    report = {"machine": machine, "student": STUDENT, "items": ITEMS, "rows": rows, "checks": checks, "passed": passed}
    print(json.dumps(report, indent=1))
    console = Console(stderr=True, width=120)
    console.print(table(rows, machine["cpu"]))
    for each in checks:
        console.print(f"{'pass' if each['passed'] else 'FAIL'}: {each['what']}: {each['value']:.4g}, {each['wanted']}")
    sys.exit(0 if passed else 1)


def compare(steps: int, iterations: int) -> dict[str, Any]:
    """One row: each side's rate and memory, its loss in the last iteration, and both relative to plain's."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--serve"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    running = {side: subprocess.Popen([*command, side, str(steps)], **pipes) for side in SIDES}
    answers: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(1 + iterations):  # the first warms up
        for side, process in running.items():
            answers[side].append(ask(process))
    for process in running.values():
        process.communicate()
    row: dict[str, Any] = {"steps": steps}
    for side, found in answers.items():
        rate = 1 / median(answer["seconds"] for answer in found[1:])
        row[side] = {"iterations_per_second": rate, "memory_mb": found[-1]["memory_mb"], "loss": found[-1]["loss"]}
    for side in ("fast", "lean"):
        for key in ("iterations_per_second", "memory_mb"):
            row[side][f"{key}_of_plain"] = row[side][key] / row["plain"][key]
    return row


def check(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the table must show: value, bound in words, and whether it passed."""
    checks = []
    for row in rows:
        speed = row["fast"]["iterations_per_second_of_plain"]
        apart = max(abs(row[side]["loss"] / row["plain"]["loss"] - 1) for side in ("fast", "lean"))
        steps = f"{row['steps']} steps"
        checks.append(at_least(f"rate of fast over plain, {steps}", speed, LEAST_SPEED))
        checks.append(at_most(f"largest relative difference of the losses, {steps}", apart, SAME_LOSS))
    row = next((row for row in rows if row["steps"] == AT_STEPS), max(rows, key=lambda row: row["steps"]))
    share = row["lean"]["memory_mb_of_plain"]
    return [*checks, at_most(f"memory of lean over plain, {row['steps']} steps", share, MOST_MEMORY)]


def at_least(what: str, value: float, bound: float) -> dict[str, Any]:
    return {"what": what, "value": value, "wanted": f"at least {bound:g}", "passed": value >= bound}


def at_most(what: str, value: float, bound: float) -> dict[str, Any]:
    return {"what": what, "value": value, "wanted": f"at most {bound:g}", "passed": value <= bound}


def ask(process: subprocess.Popen[str]) -> dict[str, float]:
    """Let the process make one iteration."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("iteration\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def serve(side: str, steps: int) -> None:
    """Make an iteration for every line on stdin."""
    import torch

    from edgeser.distill.methods import mtt

    torch.set_num_threads(1)
    assignment = make_assignment(steps)
    state = mtt.begin(assignment)
    before = peak_mb()
    for number, _ in enumerate(sys.stdin):
        match = mtt.draw_match(assignment, number)
        start = time.process_time()
        loss = SIDES[side](assignment, state, match)
        seconds = time.process_time() - start
        print(json.dumps({"seconds": seconds, "memory_mb": peak_mb() - before, "loss": loss}), flush=True)


def make_assignment(steps: int) -> Any:
    """Items of noise and trajectories between random weights: neither time nor memory depends on what they are."""
    from edgeser.config.settings import Mtt, Settings
    from edgeser.distill.method import Assignment
    from edgeser.distill.registry import find_method
    from edgeser.models.experts import Ensemble, Task, Trajectory
    from edgeser.models.students import build
    from edgeser.representation.logmel import LogMel
    from edgeser_export.graph.initial import initial_weights

    graph = build(STUDENT, CLASSES)
    clips = np.random.default_rng(0).standard_normal((ITEMS, *graph.input_shape), dtype=np.float32)
    task = Task(graph, clips, np.arange(ITEMS) % CLASSES, CLASSES, LogMel())
    start, end = initial_weights(graph, 0), initial_weights(graph, 1)
    way = {name: np.stack([start[name], start[name] + 0.1 * end[name]]) for name in graph.parameters}
    mtt = Mtt(student_steps=steps, step_size=0.01, expert_span=1, max_start_epoch=0, start_epoch_growth=0.0)
    settings = Settings(corpus="demo", ipc=ITEMS // CLASSES, start="real", mtt=mtt)
    names = tuple(str(number) for number in range(CLASSES))
    return Assignment(task, names, settings, find_method("mtt"), start, Ensemble(graph, ()), (Trajectory(way, {}),))


def plain_side(assignment: Any, state: Any, match: Any) -> float:
    """The loss of a match, once its gradients are there, as the reference code computes them."""
    import torch
    from torch.nn import functional

    from edgeser.models.network import batch_norm, forward
    from edgeser.models.training import roll_each, soft_cross_entropy

    graph = assignment.task.graph
    shapes = dict(sorted(graph.parameters.items()))
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    start, target = (
        torch.cat([torch.from_numpy(np.array(weights[name])).flatten() for name in shapes])
        for weights in (match.start, match.target)
    )
    items, raw_step = (torch.from_numpy(state[name].copy()).requires_grad_(True) for name in ("items", "raw_step"))
    labels = functional.one_hot(torch.from_numpy(assignment.classes), CLASSES).float()
    vectors = [start.requires_grad_(True)]
    for chosen, shifts in match.lessons:
        pieces = torch.split(vectors[-1], sizes)
        weights = {name: piece.view(shapes[name]) for name, piece in zip(shapes, pieces, strict=True)}
        x = roll_each(items[torch.from_numpy(chosen), None], shifts)
        loss = soft_cross_entropy(forward(graph, weights, x, batch_norm(weights)), labels[torch.from_numpy(chosen)])
        (gradient,) = torch.autograd.grad(loss, vectors[-1], create_graph=True)
        vectors.append(vectors[-1] - functional.softplus(raw_step) * gradient)
    far = functional.mse_loss(vectors[-1], target, reduction="sum")
    matching = far / functional.mse_loss(start, target, reduction="sum")
    torch.autograd.grad(matching, [items, raw_step])
    return matching.item()


def our_side(memory: str) -> Callable[[Any, Any, Any], float]:
    """The loss of a match, once its gradients are there, with a row of ``MEMORY``."""

    def side(assignment: Any, state: Any, match: Any) -> float:
        from edgeser.distill.methods import mtt

        settings = assignment.settings
        chosen = replace(assignment, settings=replace(settings, mtt=replace(settings.mtt, memory=memory)))
        return mtt.match_gradients(chosen, state, match)[0]

    return side


SIDES: Mapping[str, Callable[[Any, Any, Any], float]] = {
    "plain": plain_side,
    "fast": our_side("fast"),
    "lean": our_side("lean"),
}


def peak_mb() -> float:
    """Peak resident memory of this process; ru_maxrss would count the parent's as well."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def table(rows: list[dict[str, Any]], cpu: str) -> Table:
    """Rates and memory of all sides, a number of steps a line."""
    found = Table(title=f"trajectory matching, {STUDENT}, {ITEMS} items, one thread; {cpu}")
    for title in ("steps", "side", "iterations / s", "of plain", "MB", "of plain"):
        found.add_column(title, justify="left" if title == "side" else "right")
    for row in rows:
        for side in SIDES:
            cell = row[side]
            shares = [cell.get(f"{key}_of_plain", 1.0) for key in ("iterations_per_second", "memory_mb")]
            rate, memory = f"{cell['iterations_per_second']:.2f}", f"{cell['memory_mb']:.0f}"
            found.add_row(str(row["steps"]), side, rate, f"{shares[0]:.2f}", memory, f"{shares[1]:.2f}")
    return found


if __name__ == "__main__":
    main()
