"""Bounds on the figures of benchmarks/device.py as one table, and the tables that people read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distillation_tables import Sheet

from edgeser.evaluation.intervals import with_deviation

FIRST, SAME = "first steps ", "same student "
Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    """One line of the table.

    Attributes:
        row: The row that the figure comes from.
        words: The name of the figure.
        figure: From the row's figures.
        bound: The value that it must reach.
        at_least: Whether larger is better.
        form: The format in which it is printed.
    """

    row: str
    words: str
    figure: Callable[[Figures], float]
    bound: float
    at_least: bool = False
    form: str = "{:.2f}"

    def reached(self, figures: Figures) -> bool:
        """Whether the figure keeps the bound."""
        value = self.figure(figures)
        return value >= self.bound if self.at_least else value <= self.bound


def against_torch(name: str, memory: float) -> Iterator[Claim]:
    """A student's whole training against torch's, and its steps."""
    row, words = f"training {name}", f"{name}, against torch:"
    yield Claim(row, f"{words} seconds of training", lambda each: each["ratios"]["seconds"], 1.0)
    yield Claim(row, f"{words} seconds of the process", lambda each: each["ratios"]["process_s"], 1.0)
    yield Claim(f"step {name}", f"{words} processor time of a step", lambda each: each["ratio"], 1.0)
    yield Claim(row, f"{words} peak memory", lambda each: each["ratios"]["peak_mb"], memory)
    yield Claim(row, f"{words} time to the first step", lambda each: each["ratios"]["first_step_s"], 0.25)
    row = f"same student {name}"
    yield Claim(
        row,
        f"{words} points of UAR lost",
        lambda each: 100 * (each["UAR"]["torch"]["mean"] - each["UAR"]["board"]["mean"]),
        1.0,
        form="{:+.1f}",
    )
    yield Claim(
        row,
        f"{words} agreement",
        lambda each: each["agreement"]["board with torch"]["mean"],
        0.98,
        at_least=True,
        form="{:.1%}",
    )


def beginnings(name: str) -> Iterator[Claim]:
    """The first steps of a large student."""
    row, words = f"first steps {name}", f"{name}, 20 steps:"
    yield Claim(row, f"{words} last loss, of the first", lambda each: _last(each["losses"]["board"]), 1.0)
    yield Claim(row, f"{words} agreement with torch", lambda each: each["agreement"]["torch"], 0.98, True, "{:.1%}")


def _last(losses: Sequence[float]) -> float:
    return losses[-1] / losses[0]


def rounding(corpus: str, kind: str) -> Iterator[Claim]:
    """Int8 against float32 in one runtime; agreement is with the float32 file."""
    row, words = f"int8 {corpus}", f"int8 {kind}, {corpus}:"
    yield Claim(
        row,
        f"{words} points of UAR lost",
        lambda each: 100 * (each["files"][kind]["uar"] - each["files"][f"{kind}-int8"]["uar"]),
        1.0,
        form="{:+.1f}",
    )
    yield Claim(
        row,
        f"{words} agreement",
        lambda each: each["files"][f"{kind}-int8"]["agreement"],
        0.98,
        at_least=True,
        form="{:.1%}",
    )


def _own(figures: Figures, key: str, sign: int = 1) -> float:
    row = figures["rows"][0]
    return 100 * sign * (row[f"{key}_after"] - row[f"{key}_before"])


CLAIMS = (
    *against_torch("edgenet", 0.33),
    *against_torch("cnn6", 0.45),
    Claim("installed", "installed for training, against torch", lambda each: each["ratios"]["board, training"], 0.3),
    Claim("installed", "everything installed, against torch", lambda each: each["ratios"]["board, everything"], 0.3),
    Claim("training edgenet", "edgenet: peak memory, MB", lambda each: each["board"]["peak_mb"], 100, form="{:.0f}"),
    Claim(
        "training edgenet",
        "edgenet: kit to model, s of one processor",
        lambda each: each["board"]["cpu_s"],
        60,
        form="{:.1f}",
    ),
    *(claim for name in ("resnet9", "vgg15") for claim in beginnings(name)),
    *(claim for corpus in ("ravdess", "emodb") for kind in ("tflite", "onnx") for claim in rounding(corpus, kind)),
    Claim("int8 ravdess", "int8 TFLite, kB", lambda each: each["bytes"]["tflite-int8"] / 1000, 40, form="{:.1f}"),
    Claim(
        "inference",
        "inference, the leanest file: peak memory, MB",
        lambda each: min(row["peak_rss_mb"] for row in each["files"].values()),
        60,
        form="{:.1f}",
    ),
    Claim(
        "inference",
        "inference, the largest file: peak memory, MB",
        lambda each: max(row["peak_rss_mb"] for row in each["files"].values()),
        60,
        form="{:.1f}",
    ),
    Claim(
        "inference",
        "model, the slowest file, ms",
        lambda each: max(row["model_ms_p50"] for row in each["files"].values()),
        1.0,
    ),
    Claim("inference", "front-end, a second of sound, ms", lambda each: each["frontend"]["edgeser"], 2.0),
    Claim(
        "inference",
        "front-end, times faster than librosa's",
        lambda each: each["frontend"]["ratio"],
        10,
        at_least=True,
        form="{:.1f}",
    ),
    Claim(
        "inference",
        "front-end hop by hop, times faster than librosa's",
        lambda each: each["frontend"]["in_pieces"]["ratio"],
        10,
        at_least=True,
        form="{:.1f}",
    ),
    Claim(
        "own clips", "own clips: points gained for the owner", lambda each: _own(each, "own"), 8, True, form="{:+.1f}"
    ),
    Claim("own clips", "own clips: points lost by others", lambda each: _own(each, "others", -1), 4, form="{:+.1f}"),
    Claim("own clips", "own clips: s, left out in turn", lambda each: _judged(each), 20, form="{:.1f}"),
)


def _judged(figures: Figures) -> float:
    return float(figures["rows"][0]["judged_cpu_s"])


def sheets_of(rows: Mapping[str, Figures]) -> list[Sheet]:
    """The tables of the rows that are there."""
    lines = [
        (
            claim.words,
            claim.form.format(claim.figure(rows[claim.row])),
            f"{'at least' if claim.at_least else 'at most'} {claim.form.replace('+', '').format(claim.bound)}",
            "yes" if claim.reached(rows[claim.row]) else "no",
        )
        for claim in CLAIMS
        if claim.row in rows
    ]
    sheets = [Sheet("What was to be reached", ("", "measured", "to reach", "reached"), lines, words=1)]
    sheets += [_sides(name, rows[name]) for name in rows if name.startswith("training ")]
    sheets += [_same(name, rows[name]) for name in rows if name.startswith(SAME)]
    sheets += [_beginnings(rows)] if any(name.startswith(FIRST) for name in rows) else []
    sheets += [_files(rows), _frontends(rows["inference"]["frontend"])] if "inference" in rows else []
    return sheets


def _sides(name: str, figures: Figures) -> Sheet:
    columns = {
        "seconds": "training, s",
        "process_s": "process, s",
        "cpu_s": "processor, s",
        "peak_mb": "peak memory, MB",
        "first_step_s": "first step after, s",
    }
    lines = [(side, *(f"{figures[side][key]:.1f}" for key in columns)) for side in ("board", "torch")]
    return Sheet(f"{name.capitalize()}, {figures['steps']} steps", ("", *columns.values()), lines, words=1)


def _same(name: str, figures: Figures) -> Sheet:
    values = {f"{what}, {words}": value for what in ("UAR", "agreement") for words, value in figures[what].items()}
    lines = [(words, with_deviation(value["mean"], value["std"])) for words, value in values.items()]
    title = f"{name.removeprefix(SAME)}, {len(figures['each'])} sets: the same views in the same order"
    return Sheet(title.capitalize(), ("", "mean and standard deviation"), lines, words=1)


def _beginnings(rows: Mapping[str, Figures]) -> Sheet:
    columns = (
        "student", "losses", "board and torch", "board and float64", "torch and float64", "board's distance", "torch's",
    )  # fmt: skip
    lines = []
    for name, row in rows.items():
        if name.startswith(FIRST):
            losses, same = row["losses"]["board"], row["agreement"]
            shares = (same["torch"], same["float64"], row["agreement_of_torch_with_float64"])
            distances = (row["distance"][side] for side in ("board", "torch"))
            words = f"{losses[0]:.3f} to {losses[-1]:.3f}, at most {max(losses):.3f}"
            line = (name.removeprefix(FIRST), words, *map("{:.1%}".format, shares), *map("{:.2g}".format, distances))
            lines.append(line)
    return Sheet("Twenty steps of large students: views named alike, largest difference", columns, lines, words=2)


def _frontends(figures: Figures) -> Sheet:
    lines = [
        (
            name,
            *(f"{figures[way][name] if way else figures[name]:.3g}" for way in ("", "in_a_row", "in_pieces", "first")),
        )
        for name in ("edgeser", "librosa")
    ]
    columns = ("", "a second, in turn", "a second after the other", "a hop of 32 ms", "the first second")
    return Sheet("Front-end, ms", columns, lines, words=1)


def _files(rows: Mapping[str, Figures]) -> Sheet:
    columns = ("file", "bytes", "model, ms", "front-end, ms", "load, ms", "peak memory, MB")
    sizes = rows.get("int8 ravdess", {}).get("bytes", {})
    lines = [
        (
            name,
            f"{sizes[name]:,}" if name in sizes else "",
            f"{row['model_ms_p50']:.2f}",
            f"{row['frontend_ms_p50']:.2f}",
            f"{row['load_ms']:.1f}",
            f"{row['peak_rss_mb']:.1f}",
        )
        for name, row in rows["inference"]["files"].items()
    ]
    return Sheet("Files of edgenet", columns, lines, words=1)
