"""A trained model written again in one format, compared with its weights before it appears."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import isclose
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.stored import first_levels
from edgeser_device.errors import GateFailed
from edgeser_device.model.joined_files import export_joined
from edgeser_device.model.model import DESCRIPTION, Model, file_metadata
from edgeser_device.model.pcm_export import GOLDEN, file_name, pcm_file
from edgeser_device.model.predict import choose_format
from edgeser_export.export import REPORT, export_in_child
from edgeser_export.outputs import require_output
from edgeser_export.parity import ParityReport
from edgeser_export.runtimes import load
from edgeser_export.utilities.errors import ExportError, StorageError
from edgeser_export.utilities.files import write_bytes, write_json
from edgeser_export.writers.formats import Format, find_format

PARITY_ITEMS, CALIBRATION_ITEMS = 16, 128
"""Views on which the file is compared with the weights, and on which int8 is calibrated."""
AGREEMENT_VIEWS = 512
"""Views on which classes are compared where no recordings are given."""

Gate: TypeAlias = Callable[[bytes], object]
"""Given the new file's content before it appears; raises to keep it from appearing."""


@dataclass(frozen=True)
class Drop:
    """The loss of a file against the model that training wrote.

    Attributes:
        measure: "uar" on recordings; "agreement" with the model's own file on the views of the distilled set.
        before: The measure of the model's own file.
        after: The measure of the new file.
    """

    measure: Literal["uar", "agreement"]
    before: float
    after: float

    @property
    def drop(self) -> float:
        """The measure's fall, 0 to 1; negative where it rises."""
        return round(self.before - self.after, 6)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "drop": self.drop}

    def require(self, max_drop: float | None) -> None:
        """Compare the drop with its bound.

        Raises:
            GateFailed: It is larger.
        """
        if max_drop is not None and self.drop > max_drop:
            raise GateFailed(
                f"the {self.measure} falls from {self.before:.3f} to {self.after:.3f}, by more than {max_drop:g};"
                " no file was written",
                "export another format or precision, or allow more with --max-drop",
            )


def agreement(model: Model, data: bytes, runtime: str | None = None) -> Drop:
    """On how many of the distilled set's views a file names the same class as the model's own file.

    Args:
        model: Gives views and its own file.
        data: The content of the other file.
        runtime: The runtime of that file; by default the first installed one.
    """
    levels = first_levels(model.distilled, AGREEMENT_VIEWS)
    one, two = _classes(model.file(choose_format(model)), levels), _classes(data, levels, runtime)
    return Drop("agreement", 1.0, round(float((one == two).mean()), 6))


def export_model(
    model: Model, format_name: str, out: Path, gate: Gate | None = None, front_end: bool = False
) -> ParityReport:
    """Write ``student.*`` and ``parity.json`` into ``out``, each whole or not at all.

    Args:
        model: Gives the weights and the views to compare on.
        format_name: A row of the table of formats.
        out: A folder; made where it is missing. In one of earlier exports other files stay, and rows of
            ``parity.json`` for other files of the same student.
        gate: Sees the student's file first.
        front_end: Write ``recogniser.*``, which takes samples, and its golden cases in place of ``student.*``; the
            report is then of the student in it.

    Returns:
        The comparison of the student.

    Raises:
        OutputTaken: ``out`` is a file, a model folder, or anything else that no export wrote.
        ParityError: The file does not compute what the weights say; nothing is written.
        ExportError: Unknown format, or the writer failed.
        EncoderError: The model's encoder is not on this machine.
        StorageError: ``out`` cannot be written.
    """
    row = find_format(format_name)
    written = [file_name(row), GOLDEN] if front_end else [row.file_name]
    require_output(out, "export", _is_export)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=out) as name:
            draft = Path(name)
            report = _written(model, row, draft)
            if gate is not None:
                gate((draft / row.file_name).read_bytes())
            if front_end:
                data, golden = pcm_file(model, (draft / row.file_name).read_bytes(), row)
                write_bytes(draft / file_name(row), data)
                write_json(draft / GOLDEN, golden)
            write_json(draft / REPORT, _with_earlier_rows(report, out).to_json())
            for file in (*written, REPORT):
                os.replace(draft / file, out / file)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"cannot write {out}: {error.strerror}", "check the free space and the permissions"
        ) from error
    return report


def _written(model: Model, row: Format, draft: Path) -> ParityReport:
    if model.encoder is not None:
        return export_joined(model, row, draft)
    levels = first_levels(model.distilled, CALIBRATION_ITEMS)
    kit = str(model.description["training"]["kit_sha256"])
    about = file_metadata(model.labels, model.frontend, model.temperature, kit)
    items = levels[:PARITY_ITEMS]
    return export_in_child(model.recogniser, model.weights, draft, items, about, (row.name,), calibration=levels)


def _classes(source: bytes, levels: NDArray[np.float32], runtime: str | None = None) -> NDArray[np.intp]:
    classes: NDArray[np.intp] = load(source, runtime=runtime)(levels).argmax(axis=1)
    return classes


def _is_export(folder: Path) -> bool:
    return _read_report(folder) is not None and not (folder / DESCRIPTION).exists()


def _read_report(out: Path) -> ParityReport | None:
    try:
        return ParityReport.from_json(json.loads((out / REPORT).read_bytes()))
    except (OSError, ValueError, ExportError):
        return None


def _with_earlier_rows(report: ParityReport, out: Path) -> ParityReport:
    """The report with the rows of the other files in ``out``, where they were compared with the same student."""
    earlier = _read_report(out)
    if earlier is None or earlier.items != report.items:
        return report
    if not isclose(earlier.largest_log, report.largest_log, rel_tol=1e-6):
        return report
    written = {row.name for row in report.rows}
    kept = [
        row for row in earlier.rows if row.name not in written and (out / find_format(row.name).file_name).is_file()
    ]
    return replace(report, rows=tuple(sorted((*kept, *report.rows), key=lambda row: row.name)))
