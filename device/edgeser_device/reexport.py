"""A trained model written again in one format, compared with its weights before it appears."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from edgeser_device.model import Model
from edgeser_device.views import render
from edgeser_export.errors import StorageError
from edgeser_export.export import REPORT, export_in_child
from edgeser_export.formats import find_format
from edgeser_export.parity import ParityReport

PARITY_ITEMS = 16
"""Views on which the file is compared with the weights."""


def export_model(model: Model, format_name: str, out: Path) -> ParityReport:
    """Write ``student.*`` and ``parity.json`` into ``out``, each whole or not at all.

    Args:
        model: Gives the weights and the views to compare on.
        format_name: A row of the table of formats.
        out: A folder; made where it is missing, and other files in it stay.

    Raises:
        ParityError: The file does not compute what the weights say; nothing is written.
        ExportError: Unknown format, or the writer failed.
        StorageError: ``out`` cannot be written.
    """
    row = find_format(format_name)
    distilled = model.distilled
    views = render(distilled.items(), distilled.recipes, np.arange(len(distilled.recipes))[:PARITY_ITEMS])
    about = {"labels": ",".join(model.labels), "kit_sha256": str(model.description["training"]["kit_sha256"])}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=out) as name:
            draft = Path(name)
            report = export_in_child(model.graph, model.weights, draft, views, about, formats=(row.name,))
            for file in (row.file_name, REPORT):
                os.replace(draft / file, out / file)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"cannot write {out}: {error.strerror}", "check the free space and the permissions"
        ) from error
    return report
