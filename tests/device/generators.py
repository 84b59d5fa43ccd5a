"""A small kit that carries a generator: untrained networks, made in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from device.kits import LABELS, synthetic_set, write_run

from edgeser.models.students import build
from edgeser.packaging.pack import pack_kit
from edgeser_device.data.generated import DESCRIPTION, GENERATOR, PROBE, Description, labeller_name
from edgeser_export.graph.initial import initial_weights
from edgeser_export.writers.onnx_files import write_onnx
from edgeser_export.writers.onnx_generator import GeneratorShape, write_generator

LABELLERS = 2


def generator_files() -> dict[str, bytes]:
    """What a run of ``--method gan`` keeps, by name."""
    shape = GeneratorShape(latent=6, classes=len(LABELS), height=64, width=96, channels=(8, 8, 4, 4))
    random = np.random.default_rng(0)
    weights = {name: (0.3 * random.standard_normal(size)).astype(np.float32) for name, size in shape.weights.items()}
    graph = build("edgenet", len(LABELS), 0.25)
    experts = {labeller_name(number): write_onnx(graph, initial_weights(graph, number)) for number in range(LABELLERS)}
    description = Description(shape.latent, LABELLERS, temperature=2.0, points=4, clips=(24, 16, 8))
    return {
        GENERATOR: write_generator(shape, weights),
        DESCRIPTION: description.to_bytes(),
        PROBE: synthetic_set(per_class=1, views=16).to_bytes(),
        **experts,
    }


def write_generator_run(folder: Path) -> Path:
    """A run folder as ``edgeser distill --method gan --set gan.ship=generator`` writes it."""
    run = write_run(folder)
    (run / "generator").mkdir()
    for name, data in generator_files().items():
        (run / name).write_bytes(data)
    config = (run / "config.toml").read_text().replace('method = "random"', 'method = "gan"')
    (run / "config.toml").write_text(f'{config}ship = "generator"\nexperts = {LABELLERS}\n')
    return run


def write_generator_kit(folder: Path) -> Path:
    """A kit at ``folder / "generator.edgeser"``."""
    return pack_kit(write_generator_run(folder / "run"), "rpi4", folder / "generator.edgeser").path
