"""One training of a kit's student with torch, as a process of its own: what a board's training is compared with.

    python benchmarks/torch_training.py KIT OUT --steps 600

The same start, views, order, schedule and statistics as ``train-on-device``, by the host's own trainer: eager mode, one
thread, convolutions in channels-last order. More threads add the same numbers in another order. ``OUT`` receives the
weights (safetensors). Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from edgeser_device.kit.kit import read_kit
from edgeser_device.machine import seconds_since_start
from edgeser_export.utilities.files import write_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kit", type=Path, metavar="KIT")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--steps", type=int, help="instead of the kit's")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    print(json.dumps(train(given.kit, given.out, given.steps, given.threads)))


def train(path: Path, out: Path, steps: int | None, threads: int) -> dict[str, float]:
    """Train and write the weights; seconds of steps and statistics, and from the start to the first step's end."""
    import torch

    from edgeser.models.training import train_on_set

    torch.set_num_threads(threads)
    kit, first, began = read_kit(path), [], time.monotonic()
    schedule = replace(kit.distilled.schedule, steps=steps or kit.distilled.schedule.steps)

    def advance(*_: object) -> None:
        if not first:
            first.append(seconds_since_start())

    weights = train_on_set(kit.graph, kit.weights, replace(kit.distilled, schedule=schedule), 0, advance)
    seconds = time.monotonic() - began
    from safetensors.numpy import save

    write_bytes(out, save(weights))
    return {"seconds": round(seconds, 3), "first_step_s": round(first[0], 3), "steps": schedule.steps}


if __name__ == "__main__":
    main()
