"""The whole chain on the built-in corpus: every step is a command that a user could type, and is printed as such."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group

from edgeser.corpora import load_corpus, make_split
from edgeser.errors import RunError
from edgeser.report.tables import Sheet
from edgeser.run import Run
from edgeser_device.machine import machine_words
from edgeser_export.utilities.progress import note
from edgeser_export.utilities.words import counted

DISTIL = ("--method", "invert", "--ipc", "6", "--set", "experts.steps=500", "--steps", "300")
"""Smaller than the defaults: the corpus has 192 training clips, and a first look should not take long."""
WITH_ENCODER = ("--encoder", "smart-turn-2", "--ipc", "2")
"""The settings with a pretrained encoder, which is downloaded the first time."""

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""
SECONDS_TO_END = 5.0


def run_demo(folder: Path, encoder: bool = False) -> dict[str, Any]:
    """Distil, evaluate, write the report, pack, train without torch, benchmark and listen.

    Args:
        folder: Made new; a demo that was interrupted goes on.
        encoder: Whether a pretrained encoder's vectors are learnt instead of log-mels.

    Returns:
        ``folder``; ``corpus_bytes`` of the training recordings; ``kit_bytes``; ``items`` and their ``share`` of the
        training items; ``uar`` on the test voices of ``full``, ``distilled``, ``random`` and ``device``; what the verbs
        printed as ``training`` and ``bench``; ``events`` that were heard in ``clip``, a path, spoken as
        ``clip_emotion``; ``report``, the page; ``seconds`` of the whole demo.

    Raises:
        RunError: A command failed; its own error stands above.
    """
    started = time.monotonic()
    run, kit, model = folder / "run", folder / "demo.edgeser", folder / "model"
    call, settings = Caller(), WITH_ENCODER if encoder else DISTIL
    budget = call("distill", "--corpus", "demo", *settings, "--out", str(run), *(["--resume"] if run.exists() else []))
    figures = call("evaluate", str(run), "--full", "--baselines", "--seeds", "2")
    report = call("report", str(run))["report"]
    packed = call("pack", str(run), "--target", "rpi4", "--out", str(kit))
    test = ("--test", str(load_corpus("demo").folder), "--corpus", "demo")
    training = call("train-on-device", str(kit), "--out", str(model), *test)
    bench = call("bench", str(model))
    clip = make_split(load_corpus("demo"), None).test[0]
    events = call.lines("listen", str(model), "--wav", str(clip.path))
    return {
        "folder": str(folder),
        "corpus_bytes": Run(run).description()["corpus_bytes"],
        "kit_bytes": packed["bytes"],
        "items": budget["items"],
        "share": budget["share"],
        "uar": {
            "full": figures["full"]["uar_mean"],
            "distilled": figures["distilled"]["uar_mean"],
            "random": figures["baselines"]["random"]["uar_mean"],
            "device": training["uar"],
        },
        "training": training,
        "bench": bench,
        "events": events,
        "clip": str(clip.path),
        "clip_emotion": clip.emotion,
        "report": report,
        "seconds": round(time.monotonic() - started, 1),
    }


class Caller:
    """Runs ``edgeser`` as a user would, in a process of its own."""

    def __call__(self, *words: str) -> dict[str, Any]:
        """The JSON object that the command prints."""
        return self.lines(*words)[-1]

    def lines(self, *words: str) -> list[dict[str, Any]]:
        """Every JSON line that the command prints."""
        note(f"$ edgeser {shlex.join(words)}")
        command = [sys.executable, "-P", "-m", "edgeser", *words, "--json"]  # -P: whatever lies in the current folder
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            try:
                printed, _ = child.communicate()
            except KeyboardInterrupt:
                if _end(child) == INTERRUPTED:  # it has said so
                    raise SystemExit(INTERRUPTED) from None
                raise
        if child.returncode:
            raise RunError(
                f"the demo's command {words[0]} failed with code {child.returncode}", "its own error stands above"
            )
        return [json.loads(line) for line in printed.splitlines() if line.strip()]


def _end(child: subprocess.Popen[str]) -> int:
    """Wait for a command after Ctrl-C, which reaches it too; one that has not got it is told."""
    try:
        return child.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGINT)
        return child.wait()


def summary_table(summary: Mapping[str, Any]) -> Group:
    """The table that the demo ends with, and three commands to try next."""
    table = Sheet("", "", title="edgeser on its synthetic demo corpus")
    rows = {
        "training recordings -> kit": f"{summary['corpus_bytes'] / 1e6:.2f} MB -> {summary['kit_bytes'] / 1e6:.2f} MB",
        "distilled items": f"{summary['items']} items ({summary['share']:.1%} as many as training clips)",
        "UAR, all real clips": f"{summary['uar']['full']:.3f}",
        "UAR, distilled set": f"{summary['uar']['distilled']:.3f}",
        "UAR, as many random clips": f"{summary['uar']['random']:.3f}",
        "UAR, trained from the kit without torch": f"{summary['uar']['device']:.3f}",
        "training from the kit": f"{summary['training']['seconds']:.1f} s, {summary['training']['peak_rss_mb']:.0f} MB",
    }
    for result in summary["bench"]["results"]:
        threads = counted(result["threads"], "thread")
        name = f"{result['format']} {result['precision']}, {result['runtime']}, {threads}"
        rows[name] = (
            f"{result['bytes'] / 1000:.0f} kB, {result['model_ms_p50']:.2f} ms a window (p95 {result['p95']:.2f})"
        )
    heard = (summary["events"][-1]["emotion"] if summary["events"] else None) or "no emotion"
    rows["listen: last event in one test clip"] = f"{heard} (spoken as {summary['clip_emotion']})"
    rows["machine"] = machine_words(summary["bench"]["machine"])
    for name, value in rows.items():
        table.add(name, value)
    folder = Path(summary["folder"])
    closing = (
        f"Everything is in {folder} ({summary['seconds']:.0f} s); the report, for a browser: {summary['report']}. "
        "The voices are synthetic: these figures show the tool, "
        "not how well emotions are recognised.\nTry next:\n"
        f"  edgeser inspect {folder / 'demo.edgeser'}\n"
        f"  edgeser listen {folder / 'model'} --wav {summary['clip']}\n"
        "  edgeser distill DIR --corpus ravdess --ipc 6 --out runs/mine"
    )
    return Group(table, closing)
