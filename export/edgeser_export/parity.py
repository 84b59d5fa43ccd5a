"""Every written file is loaded again by its own runtime and compared with the reference.

    graph = recogniser(student, mean=-28, std=20, temperature=0.5)
    report = compare({"onnx": Path("student.onnx")}, levels, run_reference(graph, weights, levels))
    report.require()

Compared are logarithms of probabilities: they are the logits up to one number an item, and so show a mistake also where
a probability is near 0 or 1. The report is kept beside the files as ``parity.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_export.runtimes import RUNTIMES, load, read_model
from edgeser_export.utilities.errors import ExportError, ParityError
from edgeser_export.writers.formats import Format, find_format, format_of

LEAST = 1e-30
"""Probabilities below this count as this: runtimes round them to 0 at different places."""


@dataclass(frozen=True)
class ParityRow:
    """The comparison of one file with the reference.

    Attributes:
        format: Kind of the file, "onnx" or "tflite".
        precision: Type of its weights.
        runtime: Row of ``RUNTIMES`` that ran it.
        runtime_version: Installed version of that runtime.
        bytes: Size of the file.
        max_log_difference: Largest absolute difference of a probability's logarithm; infinite where one is no number.
        max_probability_difference: The same of a probability.
        argmax_agreement: Share of the items with the same strongest class, 0 to 1.
        bound: Largest accepted ``max_log_difference``.
    """

    format: str
    precision: str
    runtime: str
    runtime_version: str | None
    bytes: int
    max_log_difference: float
    max_probability_difference: float
    argmax_agreement: float
    bound: float

    @property
    def name(self) -> str:
        """Row of ``FORMATS``."""
        return format_of(self.format, self.precision).name

    @property
    def passed(self) -> bool:
        """Whether the difference is within the bound."""
        return self.max_log_difference <= self.bound


@dataclass(frozen=True)
class ParityReport:
    """The comparison of some files with one reference.

    Attributes:
        items: The number of items that were compared.
        largest_log: Largest absolute logarithm of a probability of the reference.
        rows: One a file.
    """

    items: int
    largest_log: float
    rows: tuple[ParityRow, ...]

    @property
    def passed(self) -> bool:
        """Whether every file is within its bounds."""
        return all(row.passed for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; a difference that is not finite becomes null."""
        rows = [
            {key: _plain(value) for key, value in asdict(row).items()} | {"passed": row.passed} for row in self.rows
        ]
        return {"items": self.items, "largest_log": self.largest_log, "passed": self.passed, "rows": rows}

    @classmethod
    def from_json(cls, value: Any) -> ParityReport:
        """The inverse of :meth:`to_json`.

        Raises:
            ExportError: Fields are missing or superfluous.
        """
        try:
            rows = [{key: item for key, item in row.items() if key != "passed"} for row in value["rows"]]
            for row in rows:
                row |= {key: inf for key in row if key.startswith("max_") and row[key] is None}
            return cls(int(value["items"]), float(value["largest_log"]), tuple(ParityRow(**row) for row in rows))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ExportError(f"not a parity report: {error}", "export the model again") from error

    def without(self, formats: Sequence[str]) -> ParityReport:
        """The report without the rows of some formats."""
        return replace(self, rows=tuple(row for row in self.rows if row.name not in formats))

    def require(self) -> None:
        """Raise ParityError, which names the file that is furthest off, unless every file passed."""
        failed = [row for row in self.rows if not row.passed]
        if failed:
            worst = max(failed, key=lambda row: row.max_log_difference / row.bound)
            raise ParityError(
                f"the {worst.name} file differs from its source by {worst.max_log_difference:.2g} "
                f"(log probabilities, at most {worst.bound:.2g}) "
                f"and agrees on {worst.argmax_agreement:.0%} of {self.items} items",
                f"do not use it; try another version of {worst.runtime}, here {worst.runtime_version}",
            )


def compare(
    files: Mapping[str, Path | bytes], items: NDArray[np.float32], reference: NDArray[np.float64], threads: int = 1
) -> ParityReport:
    """Load each file in its runtime and compare what it computes with ``reference``.

    Args:
        files: Row of ``FORMATS`` -> file, or its content.
        items: float32 (items, channels, height, width), at least one.
        reference: The probabilities that a correct file computes, (items, classes); see
            :func:`edgeser_export.graph.reference.run_reference`.
        threads: Threads of the runtimes.

    Raises:
        ParityError: A file has another input or output shape than items and reference have.
        ModelFileError: A file cannot be loaded, or has other names.
        MissingRuntime: No runtime for a file is installed.
    """
    if items.ndim != 4 or len(items) == 0 or len(items) != len(reference):
        raise ExportError(
            f"items {items.shape} cannot be compared with probabilities {reference.shape}",
            "give both, for the same items",
        )
    rows = [_compare_one(find_format(name), source, items, reference, threads) for name, source in files.items()]
    return report_of(reference, rows)


def report_of(reference: NDArray[np.float64], rows: Sequence[ParityRow]) -> ParityReport:
    """The report of comparisons with one reference, (items, classes)."""
    return ParityReport(len(reference), float(np.abs(_logs(reference)).max()), tuple(rows))


def _compare_one(
    row: Format, source: Path | bytes, items: NDArray[np.float32], reference: NDArray[np.float64], threads: int
) -> ParityRow:
    data = read_model(source)
    model = load(data, threads)
    expected_shape = (items.shape[1:], reference.shape[1])
    if (model.input_shape, model.classes) != expected_shape:
        raise ParityError(
            f"the {row.name} file maps {model.input_shape} to {model.classes} classes, not {expected_shape[0]} to "
            f"{expected_shape[1]}",
            "export the model again",
        )
    return compared(row, model.runtime, len(data), model(items), reference)


def compared(
    row: Format, runtime: str, size: int, found: NDArray[np.float32], reference: NDArray[np.float64]
) -> ParityRow:
    """The comparison of what a file computed with what it should compute.

    Args:
        row: The file's format, with the bound.
        runtime: The row of ``RUNTIMES`` that ran it.
        size: Bytes of the file.
        found: Its probabilities, (items, classes).
        reference: The probabilities that a correct file computes, (items, classes).
    """
    logs = _logs(reference)
    return ParityRow(
        format=row.kind,
        precision=row.precision,
        runtime=runtime,
        runtime_version=RUNTIMES[runtime].version,
        bytes=size,
        max_log_difference=_largest_difference(_logs(found), logs),
        max_probability_difference=_largest_difference(found, reference),
        argmax_agreement=float((found.argmax(1) == reference.argmax(1)).mean()),
        # Rounding grows with the numbers that are added; near zero it does not vanish.
        bound=row.bound * max(1.0, float(np.abs(logs).max())),
    )


def _logs(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = np.log(np.maximum(probabilities.astype(np.float64), LEAST))
    return logs


def _largest_difference(found: NDArray[np.floating], expected: NDArray[np.float64]) -> float:
    difference = float(np.abs(found - expected).max())
    return difference if isfinite(difference) else inf


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value
