"""Small kits from synthetic spectrograms, made in a second: for tests of everything that starts from a kit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from edgeser.models.students import build
from edgeser.packaging.pack import PackReport, pack_kit
from edgeser_device.data.distilled import DistilledSet
from edgeser_device.data.sample_storage import quantise
from edgeser_device.data.schedule import Schedule
from edgeser_device.data.views import mixed_recipes, plain_recipes
from edgeser_device.frontend import FrontendSpec
from edgeser_device.kit.signature import PrivateKey, read_private, write_pair
from edgeser_export.graph.initial import initial_weights

LABELS = ("anger", "neutral", "sadness")
SPEAKERS = {"train": {"speakers": ["f1"]}, "dev": {"speakers": ["f2"]}, "test": {"speakers": ["m5"]}}
"""Of the demonstration corpus, so that a kit can be scored on it."""
SPEC = FrontendSpec(mean=-40.0, std=15.0)


def synthetic_items(per_class: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with stripes along time, along frequency, or none: (items, mels, frames) float32, classes uint8."""
    random = np.random.default_rng(seed)
    classes = np.repeat(np.arange(len(LABELS)), per_class).astype(np.uint8)
    items = random.standard_normal((len(classes), SPEC.mels, SPEC.frames)).astype(np.float32)
    items[classes == 0] += 1.5 * np.sin(np.arange(SPEC.mels) * np.pi / 2).astype(np.float32)[:, None]
    items[classes == 1] += 1.5 * np.sin(np.arange(SPEC.frames) * np.pi / 4).astype(np.float32)
    return items, classes


def synthetic_set(
    per_class: int = 4,
    steps: int = 40,
    batch: int = 16,
    optimiser: str = "adamw",
    views: int = 8,
    peak_rate: float = 1e-2,
) -> DistilledSet:
    """A distilled set; with ``views`` 1 the plain recipes, otherwise that many mixed views an item."""
    items, classes = synthetic_items(per_class)
    recipes = (
        plain_recipes(len(items)) if views == 1 else mixed_recipes(len(items), views * len(items), SPEC.frames, seed=0)
    )
    one_hot = np.eye(len(LABELS), dtype=np.float64)[classes]
    share = np.where(recipes.mode > 0, recipes.weight / 256, 1.0)[:, None]
    labels = share * one_hot[recipes.item] + (1 - share) * one_hot[recipes.partner]
    levels, scale, offset = quantise(items)
    schedule = Schedule(optimiser=optimiser, steps=steps, batch=batch, peak_rate=peak_rate)
    return DistilledSet(levels, scale, offset, classes, recipes, labels.astype(np.float16), LABELS, schedule, SPEC)


CARD = {
    "name": "demo",
    "title": "Demonstration",
    "language": "English",
    "licence": "CC0-1.0",
    "licence_url": "https://example.org/licence",
    "kind": "synthetic",
    "citation": "A. Author 2024",
    "access": "built in",
    "consent": "nobody speaks",
    "notes": "",
    "fingerprint": "f" * 64,
}
"""What run.json says of the corpus, besides where it lies."""


def write_run(
    folder: Path,
    distilled: DistilledSet | None = None,
    width: float = 0.25,
    evaluated: bool = True,
    arch: str = "edgenet",
    **changes: Any,
) -> Path:
    """A run folder as ``edgeser distill`` writes it; ``changes`` are keys of run.json, "corpus" is merged."""
    distilled = distilled or synthetic_set()
    graph = build(arch, len(distilled.names), width)
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        "edgeser": "0.1.0",
        "corpus": {**CARD, "folder": str(folder / "audio"), **changes.pop("corpus", {})},
        "labels": list(distilled.names),
        "split": {
            "name": "quick",
            **SPEAKERS,
        },
        "student": {"architecture": arch, "width": width},
        "method": "random",
        "seed": 0,
        "budget": {"ipc": distilled.per_class, "share": 0.1, "items": len(distilled), "train_items": 120},
        "corpus_bytes": 1_000_000,
        **changes,
    }
    (folder / "run.json").write_text(json.dumps(description))
    config = f'corpus = "demo"\nfolder = "{folder}/audio"\nsplit = "quick"\nmethod = "random"\nseed = 0\nipc = 4\n'
    (folder / "config.toml").write_text(config)
    (folder / "student.json").write_text(json.dumps(graph.to_json()))
    (folder / "init.safetensors").write_bytes(save(initial_weights(graph, 0)))
    (folder / "distilled.safetensors").write_bytes(distilled.to_bytes())
    if evaluated:
        metrics = {
            "distilled": {"uar_mean": 0.9, "uar_std": 0.01},
            "full": {"uar_mean": 0.95, "uar_std": 0.01},
            "seeds": [0, 1, 2],
            "varies": "order of training",
            "split": description["split"],
            "machine": {"cpu": "Test processor", "cores": 2, "packages": {"numpy": "2.0"}},
        }
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def write_kit(
    folder: Path,
    distilled: DistilledSet | None = None,
    width: float = 0.25,
    key: PrivateKey | None = None,
    **changes: Any,
) -> PackReport:
    """A kit at ``folder / "test.edgeser"``."""
    return pack_kit(write_run(folder / "run", distilled, width, **changes), "rpi4", folder / "test.edgeser", key)


def write_keys(name: Path, days: int = 30, replaced: PrivateKey | None = None) -> PrivateKey:
    """A pair of keys: NAME.key and NAME.pub."""
    write_pair(name, days, replaced)
    return read_private(name.with_name(f"{name.name}.key"))
