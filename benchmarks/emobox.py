"""RAVDESS by the six folds of EmoBox, paired: a distilled set, a random bank, and all clips, beside published figures.

    python benchmarks/emobox.py CORPORA --out runs/emobox --methods herding --ipc 6

Four test speakers a fold; the dev speakers are taken from EmoBox's training speakers, so fewer train here than there.
Finished runs in --out are used again. JSON is printed on stdout and kept in --out/emobox.json, the table on stderr.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from distillation_tables import Sheet
from encoder_sets import ROWS, measure, parser, publish

from edgeser_export.utilities.errors import EdgeserError

FOLDS = 6
PUBLISHED: Mapping[str, float] = {"HuBERT base": 0.65, "WavLM large": 0.72, "Whisper large v3": 0.753}
"""UAR of frozen encoders in EmoBox (Ma et al., Interspeech 2024), where the dev speakers train too."""
CAPTION = (
    "Four speakers test in each fold. The dev speakers are taken from EmoBox's training speakers, so fewer train here "
    "than there. Figures are means over the six folds; `less` columns are differences of the distilled set fold by "
    "fold, ± their standard error. Published for frozen encoders, where dev speakers train too: "
    f"{'; '.join(f'{name} {uar:g}' for name, uar in PUBLISHED.items())}."
)


def main() -> None:
    """Measure what is missing and print the table."""
    made = parser(__doc__)
    made.set_defaults(out=Path("runs/emobox"), distillations=1, ipc=[6])
    arguments = made.parse_args()
    try:
        result = {method: paired(method, arguments) for method in arguments.methods}
    except EdgeserError as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")
    whole = {"published": dict(PUBLISHED), "methods": result}
    publish(whole, sheet(result), arguments, Path(__file__).stem, CAPTION)


def paired(method: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Rows of all folds, and the differences of the distilled set to the others fold by fold."""
    folds = [measure("ravdess", f"emobox:{fold + 1}", method, arguments.ipc[0], arguments) for fold in range(FOLDS)]
    uar = {row: np.array([fold["rows"][row]["uar_mean"] for fold in folds]) for row in ROWS}
    differences = {row: uar["distilled"] - uar[row] for row in ROWS if row != "distilled"}
    return {
        "folds": folds,
        "uar_mean": {row: float(values.mean()) for row, values in uar.items()},
        "ratio": float(uar["distilled"].mean() / uar["full"].mean()),
        "difference": {
            row: {"mean": float(found.mean()), "standard_error": float(found.std(ddof=1) / np.sqrt(FOLDS))}
            for row, found in differences.items()
        },
    }


def sheet(result: Mapping[str, Any]) -> Sheet:
    """The table in words."""
    lines = [
        (
            method,
            *(f"{found['uar_mean'][row]:.3f}" for row in ROWS),
            f"{found['ratio']:.3f}",
            *(f"{each['mean']:+.3f} ± {each['standard_error']:.3f}" for each in found["difference"].values()),
        )
        for method, found in result.items()
    ]
    against = [f"less {row}" for row in ROWS if row != "distilled"]
    return Sheet("RAVDESS by the six folds of EmoBox: UAR", ("method", *ROWS, "ratio", *against), lines, 1)


if __name__ == "__main__":
    main()
