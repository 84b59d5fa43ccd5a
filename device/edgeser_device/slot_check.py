"""A program of its own: ``python -m edgeser_device.slot_check SLOT`` exits with 0 when the slot's model works.

Every file of the model has its hash, loads in its runtime and computes, for the first views of the distilled set, what
the trained weights say.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgeser_device.errors import GateFailed
from edgeser_device.model import load_model
from edgeser_device.views import render
from edgeser_export.children import tell_parent
from edgeser_export.errors import EdgeserError
from edgeser_export.formats import find_format
from edgeser_export.reference import run_reference
from edgeser_export.runtimes import RUNTIMES, load

VIEWS = 2
TOLERANCE = 1e-3
"""A share of the largest logit, or of 1, where a format's own bound is not larger: float32 sums in another order differ
by less than a hundredth of this."""


def check(slot: Path) -> None:
    """Compare the model of a slot with its weights.

    Raises:
        GateFailed: A file computes something else.
        EdgeserError: A file is missing, changed or not accepted by its runtime.
    """
    model = load_model(slot / "model")
    distilled = model.distilled
    views = render(distilled.items(), distilled.recipes, np.arange(min(VIEWS, len(distilled.recipes))))
    expected = run_reference(model.graph, model.weights, views)
    installed = {row.kind for row in RUNTIMES.values() if row.installed}
    for name in model.formats:
        content, row = model.file(name), find_format(name)  # hashes are compared where no runtime is installed, too
        if row.kind in installed:
            worst = float(np.abs(load(content)(views).logits - expected).max())
            if not worst <= max(TOLERANCE, row.bound) * max(1.0, float(np.abs(expected).max())):
                raise GateFailed(f"the {name} file differs by {worst:.3g} from its weights", "install the kit again")


if __name__ == "__main__":
    try:
        check(Path(sys.argv[1]))
    except EdgeserError as error:
        sys.exit(tell_parent(error))
