"""The figures of benchmarks/distillation.py put together: lines, a summary, and both as tables for people."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot, sqrt
from pathlib import Path
from statistics import mean
from typing import Any

from distillation_runs import Request
from distillation_trials import CORPUS_ROWS, Group
from rich.table import Table

from edgeser.evaluation.intervals import FEWEST, deviation, standard_error, with_deviation
from edgeser.report.tables import FULL_ROWS

CONFOUNDED = ("urdu",)
"""Corpora in which a few speakers say most of an emotion, so that who speaks gives it away. They have a table of their
own and no part in means."""
BANKS = ("random_bank", "random_bank_bytes")
BASELINES = {
    "random_bank": "random clips, label bank",
    "random_bank_bytes": "random clips, label bank of as many bytes",
    "random_soft": "random clips, experts' labels",
    "random": "random clips, hard labels",
}
"""Baselines of a budget, in the order of the table, and what people call them."""
VARIES = "seeds of training in each distillation; distillations have initialisations of their own"


@dataclass(frozen=True)
class Sheet:
    """A table in words: what rich and Markdown print alike.

    Attributes:
        title: Above it.
        columns: Their titles.
        lines: As many cells each as there are columns.
        words: Number of columns at the left that hold words; the others hold numbers.
    """

    title: str
    columns: tuple[str, ...]
    lines: Sequence[Sequence[str]]
    words: int

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title)
        for place, column in enumerate(self.columns):
            table.add_column(column, justify="left" if place < self.words else "right")
        for line in self.lines:
            table.add_row(*line)
        return table

    def markdown(self) -> str:
        """For a page."""
        rule = ["---" if place < self.words else "---:" for place in range(len(self.columns))]
        return "\n".join(f"| {' | '.join(line)} |" for line in (self.columns, rule, *self.lines))


def row_of(
    group: Group, trials: Sequence[Mapping[str, Any]], common: Mapping[str, Any], request: Request
) -> dict[str, Any]:
    """One line: the group's trials together, beside the rows of real clips.

    Args:
        group: The group of the trials.
        trials: One for each seed of distillation.
        common: The rows of :func:`distillation_trials.measure_common`.
        request: The request, for the number of trainings that count of each row and each distillation.
    """
    seeds = request.seeds
    by_distillation = [trial["uar"][: request.trainings] for trial in trials]
    rows = {name: figures(row["uar"][:seeds], row) for name, row in common["rows"].items()}
    own = trials[0].get("random_bank_bytes")
    if own is not None:
        same = "same_as" in own
        rows["random_bank_bytes"] = {**rows[own["same_as"]], **own} if same else figures(own["uar"][:seeds], own)
    reached = mean(value for each in by_distillation for value in each)
    seconds = [trial["seconds"] for trial in trials if trial["seconds"] is not None]
    memory = [trial["peak_rss_mb"] for trial in trials if trial["peak_rss_mb"] is not None]
    full = {"ratio": "full", "ratio_best": "full_best", "ratio_soft": "full_soft"}
    return {
        "corpus": group.corpus,
        "budget": group.budget,
        "method": group.label,
        "student": {"architecture": group.arch, "width": group.width},
        "ipc": trials[0]["ipc"],
        "share": trials[0]["share"],
        "views": trials[0]["views"],
        "bytes": round(mean(trial["bytes"] for trial in trials)),
        "uar_mean": reached,
        "uar_std": deviation([value for each in by_distillation for value in each]),
        "uar": by_distillation,
        "distillations": len(trials),
        **{name: reached / rows[row]["uar_mean"] if row in rows else None for name, row in full.items()},
        "init": {"uar": mean(trial["init"]["uar"] for trial in trials)},
        "seconds": mean(seconds) if seconds else None,
        "peak_rss_mb": max(memory) if memory else None,
        "above": {bank: above(by_distillation, rows[bank]) for bank in BANKS if bank in rows},
        "rows": rows,
        **{key: common[key] for key in ("experts", "split", "machine")},
        "settings": trials[0]["settings"],
    }


def figures(values: Sequence[float], row: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and standard deviation of a row, with its size if it is a bank."""
    size = {key: row[key] for key in ("ipc", "views", "bytes") if key in row}
    return {"uar_mean": mean(values), "uar_std": deviation(values), "uar": list(values), **size}


def above(by_distillation: Sequence[Sequence[float]], bank: Mapping[str, Any]) -> dict[str, Any]:
    """By how much the mean lies above a bank's, and the standard error of that difference.

    Trainings on one distilled set are not independent draws of the method: with enough distillations their means
    are the sample. With fewer, the trainings of the first are, and the error says nothing about other distillations.
    """
    sample = [mean(each) for each in by_distillation]
    sample = sample if len(sample) >= FEWEST else list(by_distillation[0])
    errors = [standard_error(values) for values in (sample, bank["uar"])]
    known = [error for error in errors if error is not None]
    error = hypot(*known) if len(known) == len(errors) else None
    return {"difference": mean(map(mean, by_distillation)) - bank["uar_mean"], "standard_error": error}


def result_of(lines: Sequence[Mapping[str, Any]], request: Request, command: str) -> dict[str, Any]:
    """The JSON object of the whole table."""
    return {
        "lines": list(lines),
        "summary": summary_of(lines),
        "seeds": list(range(request.seeds)),
        "trainings": request.trainings,
        "varies": VARIES,
        "experts": "one set of label experts for a corpus, shared by all of its trials and seeds",
        "machine": lines[-1]["machine"],
        "command": command,
    }


def summary_of(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each student, budget and method: means over the corpora that are not confounded.

    Differences to banks are in units of full data's UAR, as the ratio is.
    """
    groups: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for line in lines:
        if line["corpus"] not in CONFOUNDED and line["ratio"] is not None:
            groups.setdefault((*line["student"].values(), line["budget"], line["method"]), []).append(line)
    found = []
    for (arch, width, budget, method), members in groups.items():
        banks = {}
        for bank in BANKS:
            if all(bank in line["above"] for line in members):
                parts = [(line["above"][bank], line["rows"]["full"]["uar_mean"]) for line in members]
                difference = mean(part["difference"] / full for part, full in parts)
                known = all(part["standard_error"] is not None for part, _ in parts)
                squares = sum((part["standard_error"] / full) ** 2 for part, full in parts) if known else None
                error = sqrt(squares) / len(parts) if squares is not None else None
                banks[bank] = {"difference": difference, "standard_error": error, "above": difference > 0}
        found.append(
            {
                "budget": budget,
                "method": method,
                "student": {"architecture": arch, "width": width},
                "corpora": [line["corpus"] for line in members],
                "ratio_mean": mean(line["ratio"] for line in members),
                "above": banks,
            }
        )
    return found


def sheets_of(result: Mapping[str, Any]) -> list[Sheet]:
    """The summary, the table, and a table of its own for each confounded corpus."""
    lines = result["lines"]
    plain = [line for line in lines if line["corpus"] not in CONFOUNDED]
    sheets = [summary_sheet(result["summary"])] if result["summary"] else []
    sheets += [lines_sheet("UAR on the test speakers", plain)] if plain else []
    for corpus in CONFOUNDED:
        mine = [line for line in lines if line["corpus"] == corpus]
        if mine:
            sheets.append(
                lines_sheet(f"{corpus.upper()}: its speakers and labels are confounded, read with care", mine)
            )
    return sheets


def summary_sheet(summary: Sequence[Mapping[str, Any]]) -> Sheet:
    """Mean ratio of each method and budget, and whether it is above random banks."""
    corpora = list(dict.fromkeys(corpus for line in summary for corpus in line["corpora"]))
    several = len({tuple(line["student"].values()) for line in summary}) > 1
    columns = ("budget", "method", "corpora", "ratio", "above a random bank of as many items", "of as many bytes")
    lines = []
    for line in summary:
        banks = [above_words(line["above"].get(bank)) for bank in BANKS]
        name = f"{line['method']}, {student_words(line['student'])}" if several else line["method"]
        lines.append(
            (budget_words(line["budget"]), name, ", ".join(line["corpora"]), f"{line['ratio_mean']:.3f}", *banks)
        )
    return Sheet(f"ratio to full data of as many steps, mean over {', '.join(corpora)}", columns, lines, words=3)


def lines_sheet(title: str, lines: Sequence[Mapping[str, Any]]) -> Sheet:
    """Every corpus and student: full data first, then each budget with its methods and random baselines."""
    columns = (
        "corpus", "student", "budget", "method", "IPC", "share", "kB", "UAR", "ratio", "to best", "to soft", "init",
        "s", "MB", "sets",
    )  # fmt: skip
    cells: list[tuple[str, ...]] = []
    for mine in grouped(lines, lambda line: (line["corpus"], student_words(line["student"]))):
        head = (mine[0]["corpus"], student_words(mine[0]["student"]))
        cells += full_cells(head, mine[0])
        for same in grouped(mine, lambda line: line["budget"]):
            cells += [line_cells(head, line) for line in same]
            cells += baseline_cells(head, same)
    return Sheet(title, columns, cells, words=4)


def full_cells(head: tuple[str, str], line: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The rows on all real clips, and the experts together."""
    rows, items = line["rows"], "100%"
    found = []
    for row in ("full_best", "full_soft", "full"):
        if row in rows:
            ratios = [ratio_words(rows[row]["uar_mean"], rows.get(full)) for full in ("full", "full_best", "full_soft")]
            blank = ("",) * 4
            found.append((*head, "", FULL_ROWS[row], "", items, "", uar_words(rows[row]), *ratios, *blank))
    experts = line["experts"]
    name = f"label experts together ({experts['members']})"
    return [*found, (*head, "", name, "", "", "", f"{experts['uar']:.3f}", *("",) * 7)]


def line_cells(head: tuple[str, str], line: Mapping[str, Any]) -> tuple[str, ...]:
    """One distilled line."""
    ratios = ["" if line[key] is None else f"{line[key]:.3f}" for key in ("ratio", "ratio_best", "ratio_soft")]
    rounded = ["" if line[key] is None else short_words(line[key]) for key in ("seconds", "peak_rss_mb")]
    size = (str(line["ipc"]), f"{line['share']:.1%}", f"{line['bytes'] / 1000:.0f}")
    start = (budget_words(line["budget"]), line["method"])
    sets = f"{line['distillations']} x {len(line['uar'][0])}"
    return (*head, *start, *size, uar_words(line), *ratios, f"{line['init']['uar']:.3f}", *rounded, sets)


def baseline_cells(head: tuple[str, str], same: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The random baselines of a budget; a bank of as many bytes once for each size that differs."""
    found: dict[tuple[object, ...], tuple[str, ...]] = {}
    for name, words in BASELINES.items():
        for line in same:
            row = line["rows"].get(name)
            if row is not None and "same_as" not in row:
                ipc = row.get("ipc", line["ipc"])
                size = (str(ipc), "", f"{row['bytes'] / 1000:.0f}" if "bytes" in row else "")
                ratios = [ratio_words(row["uar_mean"], line["rows"].get(full)) for full in CORPUS_ROWS]
                start = (*head, budget_words(line["budget"]), words)
                found[name, ipc, row.get("views")] = (*start, *size, uar_words(row), *ratios, *("",) * 4)
    return list(found.values())


def panels_of(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The input of :func:`edgeser.report.pictures.budget_picture`: a panel for each corpus and student."""
    panels: dict[str, dict[str, Any]] = {}
    for mine in grouped(result["lines"], panel_title):
        lines: dict[str, list[dict[str, Any]]] = {}
        for line in mine:
            point = {key: line[key] for key in ("share", "uar_mean", "uar_std")}
            lines.setdefault(line["method"], []).append(point)
        banks = {line["share"]: line["rows"]["random_bank"] for line in mine if "random_bank" in line["rows"]}
        if banks:
            lines["random clips, label bank"] = [{"share": share, **bank} for share, bank in banks.items()]
        rows = mine[0]["rows"]
        levels = {FULL_ROWS[row]: rows[row] for row in CORPUS_ROWS if row in rows}
        panels[panel_title(mine[0])] = {"lines": lines, "levels": levels}
    return panels


def panel_title(line: Mapping[str, Any]) -> str:
    """Corpus and student."""
    note = "\n(speakers and labels confounded)" if line["corpus"] in CONFOUNDED else ""
    return f"{line['corpus']}, {student_words(line['student'])}{note}"


def markdown_page(result: Mapping[str, Any], sheets: Sequence[Sheet], picture: Path | None, place: Path) -> str:
    """The page with all tables; it names machine, seeds and command, and no date."""
    machine, seeds = result["machine"], len(result["seeds"])
    packages = ", ".join(f"{name} {version}" for name, version in sorted(machine["packages"].items()))
    parts = [
        "<!-- generated by benchmarks/distillation.py --markdown: run that again, do not edit -->",
        "# Results",
        f"Measured on {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, {packages}, with",
        f"```sh\n{result['command']}\n```",
        f"Mean ± standard deviation over all trainings: {result['trainings']} {VARIES}. "
        f"Baselines and full data: {seeds} trainings from the initialisation of seed 0; random baselines draw their "
        f"items anew in each. Experts: {result['experts']}. "
        "Ratios are to full data of as many steps, at its best (2,500 steps or more), and with the experts' labels. "
        "*init* is the untrained initialisation; *s* are seconds of one distillation on one core, without features "
        "and label experts; *MB* the most memory that it held; *sets* distillations x trainings. "
        "Differences to random banks are in units of full data's UAR, ± their standard error.",
    ]
    for sheet in sheets:
        parts += [f"## {sheet.title[0].upper()}{sheet.title[1:]}", sheet.markdown()]
    if picture is not None:
        parts.insert(5, f"![UAR against budget]({os.path.relpath(picture, place.parent)})")
    return "\n\n".join(parts) + "\n"


def grouped(lines: Sequence[Mapping[str, Any]], key: Any) -> list[list[Mapping[str, Any]]]:
    """Lines of the same key together, in the order of their first."""
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for line in lines:
        found.setdefault(key(line), []).append(line)
    return list(found.values())


def uar_words(row: Mapping[str, Any]) -> str:
    """Mean and standard deviation."""
    return with_deviation(row["uar_mean"], row["uar_std"])


def short_words(value: float) -> str:
    """Two digits at least."""
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def ratio_words(value: float, full: Mapping[str, Any] | None) -> str:
    """A ratio to a full row, if that was measured."""
    return f"{value / full['uar_mean']:.3f}" if full else ""


def above_words(found: Mapping[str, Any] | None) -> str:
    """Yes or no, with the difference and its standard error."""
    if found is None:
        return ""
    error = "" if found["standard_error"] is None else f" ± {found['standard_error']:.3f}"
    return f"{'yes' if found['above'] else 'no'}, {found['difference']:+.3f}{error}"


def budget_words(budget: str) -> str:
    """6 a class, or 5.6%."""
    return f"{float(budget):.1%}" if float(budget) < 1 else f"{budget} a class"


def student_words(student: Mapping[str, Any]) -> str:
    """Architecture and width."""
    return f"{student['architecture']} x {student['width']:g}"
