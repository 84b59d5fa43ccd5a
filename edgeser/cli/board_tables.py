"""The tables and lines that the board's verbs print for people; programs get JSON instead."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeser.report.tables import Sheet
from edgeser_export.utilities.words import counted

if TYPE_CHECKING:
    from rich.console import Group

    from edgeser.packaging.pack import PackReport
    from edgeser_device.bench.bench import Bench
    from edgeser_device.install.doctor import Diagnosis
    from edgeser_device.kit.kit import Kit
    from edgeser_device.model.predict import Prediction, Recogniser


def pack_lines(report: PackReport) -> str:
    """The lines that say where a new kit is and what to do with it."""
    found, share = report.to_json(), report.window_ms / report.hop_ms
    ratio = f", 1/{found['ratio']:g} of the recordings that it replaces" if found["ratio"] else ""
    members = counted(len(report.members), "member")
    return (
        f"{report.path}: {report.bytes:,} bytes for {report.target}, {members}{ratio}\n"
        + (f"signed with key {report.signer}\n" if report.signer else "")
        + f"training from it takes at least {report.least_memory_mb} MB of memory, usually more\n"
        + f"a window takes {report.window_ms:.3g} ms there by estimate, {share:.1%} of a core while somebody speaks\n"
        f"next, on the board: edgeser train-on-device {report.path.name} --out model"
    )


def kit_table(kit: Kit, signature: str) -> Group:
    """Members, labels, student, budgets, provenance, signature, card."""
    from rich.console import Group
    from rich.markdown import Markdown

    members = Sheet("member", ">bytes", ">packed", title=f"{kit.path.name}  {kit.path.stat().st_size:,} bytes")
    members.add("manifest.json", *[f"{len(kit.members['manifest.json']):,}"] * 2)
    for name, entry in kit.manifest["members"].items():
        members.add(name, f"{entry['bytes']:,}", f"{entry['packed_bytes']:,}")
    about = Sheet("", "")
    manifest = kit.manifest
    for name, value in (
        ("labels", ", ".join(kit.labels)),
        ("target", manifest["target"].get("title")),
        ("student", _words(manifest["student"])),
        ("budgets", _words(manifest["budgets"])),
        ("method", manifest["provenance"].get("method")),
        ("seed", manifest["provenance"].get("seed")),
        ("corpus", _words(manifest["provenance"].get("corpus", {}), ("name", "title", "licence", "kind"))),
        ("edgeser", manifest.get("edgeser")),
        ("sha256", kit.sha256),
        ("signed", signature),
    ):
        about.add(name, str(value))
    return Group(members, about, Markdown(kit.card))


def training_lines(result: Mapping[str, Any], model: str) -> str:
    """The lines on a training: its time, its memory, its accuracy, and the ``model`` that is there now."""
    uar = ""
    if result["uar"] is not None:
        uar = f", UAR {result['uar']:.3f} on {counted(result['test']['utterances'], 'recording')}"
    memory = "" if result["peak_rss_mb"] is None else f", at most {result['peak_rss_mb']:.0f} MB"
    packed = result["uar_packed"]
    expected = "" if packed is None else f"the kit's maker measured UAR {packed:.3f} on unseen speakers\n"
    return (
        f"{result['model']}: {counted(result['steps'], 'step')} in {result['seconds']:.1f} s,"
        f" {result['total_seconds']:.1f} s in all{memory}{uar}\n{expected}{model}\n"
        f"{_personal_lines(result['personal'])}"
        f"next: edgeser predict {result['model']} FILE, edgeser bench {result['model']}"
    )


def _personal_lines(personal: Mapping[str, Any] | None) -> str:
    """The lines that say what training on own clips changed; empty where there were none."""
    if personal is None:
        return ""
    trial, forgot = personal["trial"], personal["forgetting"]
    left_out = f" ({len(personal['left_out'])} left out)" if personal["left_out"] else ""
    verdict = "installed, the model before it is kept" if personal["installed"] else "the old model stays"
    return (
        f"your {personal['clips']} clips{left_out}, each left out of a training in turn: loss"
        f" {trial['before_loss']:.2f} before, {trial['after_loss']:.2f} after; UAR on the distilled set"
        f" {forgot['before']:.3f} before, {forgot['after']:.3f} after; {verdict} ({personal['seconds']:.1f} s)\n"
        + _emotion_lines(trial["emotions"])
    )


def _emotion_lines(emotions: Mapping[str, Mapping[str, int]]) -> str:
    """A line an emotion with the number of clips that were right, each judged by a training without it."""
    width = max(map(len, emotions))
    return "".join(
        f"  {label:<{width}}  right before {right['before']} of {right['clips']}, after {right['after']}\n"
        for label, right in emotions.items()
    )


def print_predictions(rows: Sequence[Prediction], labels: Sequence[str], as_csv: bool) -> None:
    """A table, or comma-separated values on stdout."""
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["file", "emotion", "state", *labels])
        writer.writerows(
            [row.file, row.emotion or "", row.state, *(row.probabilities[name] for name in labels)] for row in rows
        )
        return
    from edgeser.cli.options import print_rich

    table = Sheet("file", "emotion", "state", *(f">{name}" for name in labels))
    for row in rows:
        table.add(str(row.file), row.emotion or "-", row.state, *(f"{row.probabilities[name]:.2f}" for name in labels))
    print_rich(table)


def show_segments(recogniser: Recogniser, paths: Sequence[Path], as_json: bool, as_csv: bool) -> None:
    """Print the utterances of recordings: a JSON object, comma-separated values, or a table.

    Raises:
        AudioError: None of the recordings can be read.
    """
    from edgeser.cli.options import print_json, print_rich, say
    from edgeser_device.errors import AudioError
    from edgeser_device.listen.segments import Segment, segments_of

    rows: list[Segment] = []
    skipped = []
    for path in paths:
        try:
            rows += segments_of(recogniser, path)
        except AudioError as error:
            skipped.append({"file": str(path), "reason": error.message})
            say(f"skipped: {error.message}")
    if len(skipped) == len(paths):
        raise AudioError(f"no recording can be read: {skipped[0]['reason']}", "convert them to WAV or FLAC")
    labels = recogniser.labels
    if as_json:
        print_json({"labels": list(labels), "segments": [row.to_json() for row in rows], "skipped": skipped})
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["file", "began", "ended", "emotion", "state", *labels])
        for row in rows:
            shares = (row.probabilities[name] for name in labels)
            writer.writerow([row.file, row.began, row.ended, row.emotion or "", row.state, *shares])
    else:
        table = Sheet("file", ">began", ">ended", "emotion", "state", ">probability")
        for row in rows:
            share = "" if row.emotion is None else f"{row.probabilities[row.emotion]:.2f}"
            table.add(row.file.name, f"{row.began:.1f}", f"{row.ended:.1f}", row.emotion or "-", row.state, share)
        print_rich(table)


def bench_table(bench: Bench) -> Group:
    """The machine, then one row a measurement."""
    from rich.console import Group

    from edgeser_device.bench.bench import slower_int8
    from edgeser_device.machine import machine_words

    machine = bench.machine
    columns = ("file", "runtime", ">threads", ">front-end", ">p50", ">p95", ">load", ">MB", ">bytes", ">UAR")
    table = Sheet(*columns, title=f"{machine_words(machine)}, {machine['system']}, Python {machine['python']}")
    for row in bench.results:
        times = (f"{row[key]:.2f}" for key in ("frontend_ms_p50", "model_ms_p50", "p95"))
        uar = "-" if row["uar"] is None else f"{row['uar']:.3f}"
        memory = "-" if row["peak_rss_mb"] is None else f"{row['peak_rss_mb']:.0f}"
        size, load = f"{row['bytes']:,}", f"{row['rtf']:.2%}"
        file = f"{row['format']} {row['precision']}"
        table.add(file, row["runtime"], str(row["threads"]), *times, load, memory, size, uar)
    missing = [
        f"not measured: {row['format']} {row['precision']} in {row['runtime']}: {row['reason']}"
        for row in bench.skipped
    ]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    legend = "ms: front-end for a second of sound, model for a window of three; load: share of one second of sound"
    chosen, advice = bench.recommended, ""
    if chosen is not None:
        file = f"{chosen['format']} {chosen['precision']}"
        advice = f"use {file} in {chosen['runtime']}, {counted(chosen['threads'], 'thread')}"
    return Group(table, legend, versions, *missing, *slower_int8(bench.results), *([advice] if advice else []))


def status_table(state: Mapping[str, Any]) -> Sheet:
    """The table of what is installed on this board."""
    table = Sheet("", "", title=str(state["folder"]))
    rows = {name: state.get(name) for name in ("slot", "kit", "target", "trained", "steps")}
    rows |= {"UAR": _uar_words(state), "encoder": _encoder_words(state.get("encoder"))}
    rows |= {name: state.get(name) for name in ("edgeser", "previous", "trusted")}
    for name, value in rows.items():
        table.add(name, "-" if value is None else str(value))
    for name, version in state["packages"].items():
        table.add(name, version)
    return table


def _encoder_words(encoder: Mapping[str, Any] | None) -> str | None:
    """The encoder of the model that works, and whether its file is there."""
    if encoder is None:
        return None
    there = "here" if encoder["present"] else f"missing: copy its encoder.onnx to {encoder['path']}"
    return f"{encoder['name']} ({encoder['sha256'][:12]}), {there}"


def _uar_words(state: Mapping[str, Any]) -> str | None:
    """The UAR that was measured here, else the one that the kit states; each named as such."""
    if state["uar"] is not None:
        on, many = state["uar_on"], counted(state["uar_on"]["utterances"], "recording")
        return f"{state['uar']:.3f}, measured here: {on['corpus']} ({on['part']}), {many}"
    packed = state["uar_packed"]
    return None if packed is None else f"{packed:.3f} when packed, on the host; not measured here"


def doctor_table(diagnosis: Diagnosis) -> Sheet:
    """A tick or a cross a check, and what to do."""
    from rich.text import Text

    table = Sheet("", "check", "found", "what to do")
    for check in diagnosis.checks:
        sign, style = ("✓", "green") if check.ok else ("✗", "red") if check.required else ("!", "yellow")
        mark = Text(sign, style)
        table.add(mark, check.name, check.found, check.hint)
    return table


def _words(values: Mapping[str, Any], keys: Sequence[str] = ()) -> str:
    """Names and values in one line; only ``keys`` where they are given."""
    chosen = {key: value for key, value in values.items() if value is not None and (not keys or key in keys)}
    return ", ".join(
        f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}" for key, value in chosen.items()
    )
