"""Training steps: the ONNX file under onnxruntime against torch, one thread each, step by step in turn.

    python benchmarks/training_step.py > result.json        # the table goes to stderr

Each side runs in a process of its own, so that peak memory is its own, and the two take turns, so that a busy machine
slows both. CPU seconds are medians over steps; ratios below 1 favour onnxruntime.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edgeser.models.students import build
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.op_graph import Graph
from edgeser_export.trainstep.step_state import next_state, scalars, weight_names, zero_state

ROOT = Path(__file__).parents[1]
STUDENTS = (("edgenet", 1.0), ("cnn6", 0.25), ("resnet9", 0.25), ("vgg15", 0.25))
CLASSES, BATCH = 8, 32
RATE, DECAY = 1e-3, 1e-2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="measured steps of each side")
    parser.add_argument("--trained", default="full", help="full, frozen or head; torch always trains all")
    parser.add_argument("--serve", nargs=3, metavar=("SIDE", "STUDENT", "WIDTH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        side, name, width = arguments.serve
        serve(SIDES[side](build(name, CLASSES, float(width)), arguments.trained))
    else:
        rows = [compare(name, width, arguments.steps, arguments.trained) for name, width in STUDENTS]
        print(json.dumps({"machine": machine(), "batch": BATCH, "trained": arguments.trained, "rows": rows}, indent=1))
        print(table(rows), file=sys.stderr)


def compare(name: str, width: float, steps: int, trained: str) -> dict[str, Any]:
    """One row: both sides' CPU milliseconds a step, peak memory, and seconds from start to the first step's end."""
    command = [sys.executable, __file__, "--trained", trained, "--serve"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    running, first, times = {}, {}, {side: [] for side in SIDES}
    for side in SIDES:
        start = time.perf_counter()
        running[side] = subprocess.Popen(
            [*command, side, name, str(width)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        ask(running[side])
        first[side] = time.perf_counter() - start
    for _ in range(steps):
        for side in SIDES:
            times[side].append(ask(running[side])["seconds"])
    row: dict[str, Any] = {"student": name, "width": width}
    for side in SIDES:
        row[side] = {"ms": 1e3 * median(times[side]), "peak_rss_mb": ask(running[side])["peak_rss_mb"]}
        row[side]["first_step_s"] = first[side]
        running[side].communicate()
    return row | {"ratio": row["onnxruntime"]["ms"] / row["torch"]["ms"]}


def ask(process: subprocess.Popen[str]) -> dict[str, float]:
    """Let the process take one step."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("step\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def serve(step: Callable[[], None]) -> None:
    """Take a step for every line on stdin."""
    for _ in sys.stdin:
        start = time.process_time()
        step()
        print(json.dumps({"seconds": time.process_time() - start, "peak_rss_mb": peak_rss_mb()}), flush=True)


def onnxruntime_side(graph: Graph, trained: str) -> Callable[[], None]:
    """Steps of the file. It is written in another process: a board that trains does not load the writer."""
    program = (
        "import sys, json; from edgeser_export.graph.op_graph import Graph;"
        "from edgeser_export.trainstep.step_graph import training_step;"
        "graph, (batch, trained) = Graph.from_json(json.load(sys.stdin)), sys.argv[1:];"
        "sys.stdout.buffer.write(training_step(graph, int(batch), 'adamw', trained))"
    )
    command = [sys.executable, "-c", program, str(BATCH), trained]
    model = subprocess.run(command, input=json.dumps(graph.to_json()).encode(), capture_output=True, check=True).stdout
    session = session_of(model)
    names = [output.name for output in session.get_outputs()]
    weights = initial_weights(graph, 0)
    feeds = {name: weights[name] for name in weight_names(graph, trained)} | zero_state(graph, "adamw")
    x, labels = batch_of(graph)
    feeds |= {"x": x, "labels": labels}
    number = 0

    def step() -> None:
        nonlocal number
        number += 1
        found = session.run(names, feeds | scalars("adamw", number, RATE, DECAY))
        feeds.update(next_state(dict(zip(names, found, strict=True))))

    return step


def torch_side(graph: Graph, _: str) -> Callable[[], None]:
    """Steps of torch's eager mode, with parameters in the same op graph."""
    import torch

    sys.path.insert(0, str(ROOT))
    from tests.export import torch_oracle as oracle

    torch.set_num_threads(1)
    held = oracle.tensors(initial_weights(graph, 0), torch.float32)
    leaves = [held[name].requires_grad_(True) for name in graph.parameters]
    optimiser = torch.optim.AdamW(leaves, lr=RATE, weight_decay=DECAY)
    x, labels = (torch.from_numpy(array) for array in batch_of(graph))

    def step() -> None:
        optimiser.zero_grad()
        oracle.soft_cross_entropy(oracle.logits(graph, held, x, batch_statistics=True), labels).backward()
        optimiser.step()

    return step


SIDES: Mapping[str, Callable[[Graph, str], Callable[[], None]]] = {
    "onnxruntime": onnxruntime_side,
    "torch": torch_side,
}


def session_of(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False
    options.enable_mem_reuse = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def batch_of(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    items = random.standard_normal((BATCH, *graph.input_shape), dtype=np.float32)
    return items, random.dirichlet(np.ones(CLASSES), BATCH).astype(np.float32)


def peak_rss_mb() -> float:
    """Peak resident memory of this process; ru_maxrss would count the parent's as well."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| student | onnxruntime ms | torch ms | ratio | peak MB | torch's | first step s | torch's |",
        "|---|" + "---|" * 7,
    ]
    for row in rows:
        ours, theirs = row["onnxruntime"], row["torch"]
        lines.append(
            f"| {row['student']} {row['width']:g} | {ours['ms']:.1f} | {theirs['ms']:.1f} | {row['ratio']:.2f} "
            f"| {ours['peak_rss_mb']:.0f} | {theirs['peak_rss_mb']:.0f} "
            f"| {ours['first_step_s']:.2f} | {theirs['first_step_s']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
