"""A program of its own: ``python -m edgeser_device.install.slot_check SLOT`` exits with 0 when the slot's model works.

The encoder, where it has one, is on this board. Every file of the model has its hash, loads in its runtime and
computes, for the first views of the distilled set, what the trained weights say.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgeser_device.data.stored import first_levels
from edgeser_device.model.inputs import open_encoder_file
from edgeser_device.model.model import load_model
from edgeser_export.graph.reference import run_reference
from edgeser_export.parity import compare
from edgeser_export.runtimes import RUNTIMES
from edgeser_export.utilities.children import answer
from edgeser_export.writers.formats import FORMATS

VIEWS = 2


def check(slot: Path) -> None:
    """Compare the model of a slot with its weights, as it was compared when it was written.

    Raises:
        ParityError: A file computes something else.
        EdgeserError: A file, or the encoder, is missing, changed or not accepted by its runtime.
    """
    model = load_model(slot / "model")
    if model.encoder is not None:
        open_encoder_file(model.encoder)
    levels = first_levels(model.distilled, VIEWS)
    files = {name: model.file(name) for name in model.formats}  # hashes are compared where no runtime is installed, too
    installed = {row.kind for row in RUNTIMES.values() if row.installed}
    usable = {name: content for name, content in files.items() if FORMATS[name].kind in installed}
    compare(usable, levels, run_reference(model.recogniser, model.weights, levels)).require()


if __name__ == "__main__":
    sys.exit(answer(lambda: check(Path(sys.argv[1]))))
