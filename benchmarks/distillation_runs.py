"""Files and processes of benchmarks/distillation.py: runs, their label experts, and results that are kept."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeser.config.settings import SETTINGS, Settings
from edgeser.config.values import owner, settings_of, to_toml, values_of
from edgeser.errors import RunError
from edgeser.evaluation.evaluate import Plan
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_export.utilities.files import write_bytes, write_json

OF_EXPERTS = ("corpus", "split", "batch", "experts.arch", "experts.width", "experts.steps")
"""Settings that decide how a label expert is trained."""


@dataclass(frozen=True)
class Request:
    """The request for a whole table.

    Attributes:
        corpora: Folder with one folder a corpus.
        out: The folder that results are kept in.
        seeds: Trainings of each row.
        trainings: Trainings of each distillation.
        rows: Rows besides the distilled sets.
        overrides: Settings of all trials by their keys; those of a method are of its trials alone.
        workers: The processes that compute.
    """

    corpora: Path
    out: Path
    seeds: int
    trainings: int
    rows: tuple[str, ...]
    overrides: Mapping[str, Any]
    workers: Workers

    def settings(self, method: str, values: Mapping[str, Any]) -> Settings:
        """Settings of a method: these values, and the overrides that it reads."""
        own = {key: value for key, value in self.overrides.items() if owner(key) in ("", method)}
        return settings_of({"method": method, **values, **own})

    @property
    def plan(self) -> Plan:
        """The plan by which a distilled set is measured."""
        return Plan(tuple(range(self.trainings)), ("distilled",))


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def fingerprint(values: Mapping[str, Any], without: Sequence[str] = ()) -> str:
    """Ten letters for settings; where the corpus lies is no difference, nor is a setting that has its default."""
    left_out = {"folder", *without}
    chosen = {key: value for key, value in values.items() if key not in left_out and value != SETTINGS[key].default}
    return digest(chosen)


def digest(values: Mapping[str, Any]) -> str:
    """Ten letters that other values do not have."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]


def prepare_run(folder: Path, settings: Settings, names: Sequence[str], request: Request) -> Run:
    """A run that can be distilled or gone on with, with the label experts that are there already.

    Raises:
        RunError: The folder holds a run whose settings ``names`` are others.
    """
    run = Run(folder)
    if (folder / "config.toml").is_file():
        require_same(folder, values_of(run.given()), settings, names)
        if run.checkpoint.is_file() and not run.is_finished:
            write_bytes(folder / "interrupted", b"")
    else:
        write_bytes(folder / "config.toml", to_toml(settings, settings).encode())
    for expert in sorted(experts_folder(settings, request).glob("label-expert-*.safetensors")):
        if not (run.trajectories / expert.name).exists():
            write_bytes(run.trajectories / expert.name, expert.read_bytes())
    return run


def require_same(place: Path, before: Mapping[str, Any], settings: Settings, names: Sequence[str]) -> None:
    """Check that a kept result was measured with the same settings ``names``.

    Raises:
        RunError: It was not: a default has changed since.
    """
    now = values_of(settings)
    changed = [
        f"{name}: {before[name]!r} then, {now[name]!r} now"
        for name in names
        if name in now and before.get(name, now[name]) != now[name]
    ]
    if changed:
        raise RunError(f"{place} was measured with other settings: {'; '.join(changed)}", "choose another --out")


def without_folder(settings: Settings) -> dict[str, Any]:
    """The settings by name, but for where the corpus lies."""
    return {name: value for name, value in values_of(settings).items() if name != "folder"}


def experts_folder(settings: Settings, request: Request) -> Path:
    """The folder of label experts that fit these settings, for all seeds, students, budgets and methods."""
    values = values_of(settings)
    name = f"{settings.corpus}-{digest({key: values[key] for key in OF_EXPERTS})}"
    return request.out / "experts" / name


def keep_experts(run: Run, folder: Path) -> None:
    """Keep a run's label experts for the others of its corpus."""
    for expert in sorted(run.trajectories.glob("label-expert-*.safetensors")):
        if not (folder / expert.name).exists():
            write_bytes(folder / expert.name, expert.read_bytes())


def distil(runs: Sequence[Run], together: int, jobs: int) -> None:
    """Distil, or go on with, prepared runs, ``together`` at once, each in a process with ``jobs`` workers.

    A process of its own, so that its peak of memory is its own.

    Raises:
        RunError: One failed; the others are stopped and can go on.
    """
    waiting = [run for run in runs if not run.is_finished]
    running: dict[Path, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < together:
                run = waiting.pop(0)
                running[run.folder] = start_distilling(run, jobs)
            for folder, process in list(running.items()):
                if process.poll() is not None:
                    del running[folder]
                    if process.returncode:
                        said = (folder / "stderr.txt").read_text(encoding="utf-8", errors="replace").strip()
                        raise RunError(f"{folder}: {said[-2000:]}", "what is finished is kept; start the table again")
            time.sleep(0.1)
    finally:
        for process in running.values():
            process.terminate()
            process.wait()


def start_distilling(run: Run, jobs: int) -> subprocess.Popen[bytes]:
    """Start ``edgeser distill`` on a prepared run."""
    words = ["distill", "--resume", "--out", str(run.folder), "--jobs", str(jobs), "--json"]
    with (run.folder / "stderr.txt").open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "edgeser", *words],
            env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )


def has_seeds(row: Mapping[str, Any] | None, wanted: int) -> bool:
    """Whether a row was measured with at least as many seeds as are ``wanted``."""
    return row is not None and len(row.get("uar", ())) >= wanted


def read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no file."""
    if not path.is_file():
        return {}
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def update(path: Path, key: str, value: Any) -> None:
    """Set one key of a JSON file."""
    write_json(path, {**read(path), key: value})
