"""The run: the folder that a host command writes.

run/config.toml             the settings, enough to repeat it
run/run.json                corpus, split, labels, student, budget
run/log.jsonl               one line an event, with the time in seconds since 1970
run/trajectories/           experts; each is written when it is done, and reused
run/checkpoint/             the state of the method's loop
run/student.json            the op graph
run/generator/              the generator and the experts that label, as ONNX (gan); generator.safetensors of vectors
run/init.safetensors        the fixed initialisation
run/distilled.safetensors   the distilled set; written last
run/metrics.json            what evaluate measured
run/report.html             what report wrote of all this
"""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeser.config.settings import JOINED, Settings
from edgeser.config.values import differences, read_run_settings, to_toml
from edgeser.errors import RunError, SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeser_device.data.stored import StoredSet
from edgeser_device.data.distilled import DistilledSet
from edgeser_device.data.generated import DESCRIPTION, GENERATOR, PROBE, labeller_name
from edgeser_export.graph.op_graph import Graph, Weights
from edgeser_export.utilities.files import append_line, hold, write_bytes, write_json

CORPORA_FILE = "corpora.toml"
"""The file of a run that names its several corpora."""


@dataclass(frozen=True)
class Run:
    """A run folder, by name only: nothing is read until asked."""

    folder: Path

    @property
    def trajectories(self) -> Path:
        """The folder of the experts."""
        return self.folder / "trajectories"

    @property
    def checkpoint(self) -> Path:
        """The state of the method's loop."""
        return self.folder / "checkpoint" / "state.safetensors"

    @property
    def is_finished(self) -> bool:
        """Whether the distilled set was written."""
        return (self.folder / "distilled.safetensors").is_file()

    def settings(self) -> Settings:
        """The settings that the run was made with, as resolved; of runs of older versions as the user gave them."""
        found = self._settings()[0]
        own = str((self.folder / CORPORA_FILE).resolve())
        return replace(found, folder=own) if found.corpus == JOINED else found

    def given(self) -> Settings:
        """The settings as the user gave them."""
        return self._settings()[1]

    def description(self) -> dict[str, Any]:
        """The contents of run.json."""
        found = self._json("run.json")
        return {**found, "start": "aligned"} if found.get("start") == "duet" else found  # its name before 0.2

    def metrics(self) -> dict[str, Any] | None:
        """The figures that evaluate measured, if it was run."""
        return self._json("metrics.json") if (self.folder / "metrics.json").is_file() else None

    def graph(self) -> Graph:
        """The student's op graph."""
        return Graph.from_json(self._json("student.json"))

    def init(self) -> dict[str, NDArray[np.float32]]:
        """The fixed initialisation, float32 arrays by name."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            return dict(sorted(load(self._require("init.safetensors").read_bytes()).items()))
        except SafetensorError as error:
            raise RunError(f"{self.folder}/init.safetensors is damaged: {error}", "run distill again") from error

    def stored_set(self) -> StoredSet:
        """The distilled set, of any representation.

        Raises:
            RunError: The run is not finished.
            DistilledSetError: Its set is damaged, or of an earlier version.
        """
        from edgeser.representation import representation_of

        representation = representation_of(self.settings())
        return representation.read_set(self._require("distilled.safetensors").read_bytes())

    def distilled(self) -> DistilledSet:
        """The distilled set of log-mels.

        Raises:
            RunError: The run holds vectors, or is not finished.
        """
        from edgeser.representation import representation_of

        if not representation_of(self.settings()).has_time:
            hint = "evaluate, report, compare and audit read it; kits are of log-mels"
            raise RunError(f"the run {self.folder} holds vectors, not log-mels", hint)
        return DistilledSet.from_bytes(self._require("distilled.safetensors").read_bytes())

    def generator(self) -> dict[str, bytes]:
        """The files of the generator, by their names in the run; empty where the run ships items."""
        if self.settings().gan.ship != "generator":
            return {}
        experts = [labeller_name(number) for number in range(self.settings().experts.count)]
        return {name: self._require(name).read_bytes() for name in (GENERATOR, DESCRIPTION, PROBE, *experts)}

    def log(self, event: str, **values: Any) -> None:
        """Append one line to log.jsonl.

        Raises:
            StorageError: The disk is full.
        """
        line = json.dumps({"time": round(time.time(), 3), "event": event, **values}, allow_nan=False)
        append_line(self.folder / "log.jsonl", line)

    def events(self, event: str) -> list[dict[str, Any]]:
        """The lines of log.jsonl that tell of ``event``, the oldest first; a line that a kill cut short is no line."""
        path = self.folder / "log.jsonl"
        found = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            with suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict) and value.get("event") == event:
                    found.append(value)
        return found

    def took(self) -> dict[str, Any]:
        """Seconds by phase and memory of the process that finished the run; None for what a log does not tell."""
        finished = self.events("finished")[-1:] or [{}]
        return {key: finished[0].get(key) for key in ("seconds", "total_seconds", "peak_rss_mb")}

    def save_student(self, graph: Graph, init: Weights) -> None:
        """Write the op graph and the fixed initialisation."""
        write_json(self.folder / "student.json", graph.to_json())
        write_bytes(self.folder / "init.safetensors", safetensors_bytes(init))

    def _settings(self) -> tuple[Settings, Settings]:
        path = self._require("config.toml")
        try:
            resolved, given = read_run_settings(path)
        except SettingsError as error:
            raise RunError(f"{path} cannot be used: {error}", "distil again, into another --out") from error
        return resolved, given

    def _json(self, name: str) -> dict[str, Any]:
        path = self._require(name)
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"{path} is not JSON: {error}", "run distill again") from error
        if not isinstance(value, dict):
            raise RunError(f"{path} is not a JSON object", "run distill again")
        return value

    def _require(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            what = "is not there" if not self.folder.is_dir() else f"holds no {name}"
            raise RunError(f"the run {self.folder} {what}", "make it with: edgeser distill DIR --corpus NAME --out RUN")
        return path


def open_run(folder: Path, settings: Settings, resume: bool, given: Settings | None = None) -> Run:
    """A run folder for settings: a new one, or with ``resume`` the one that was interrupted.

    Args:
        folder: The run's folder.
        settings: The settings as resolved.
        resume: Whether the folder may hold the beginning of this run.
        given: The settings as the user gave them, if they are others.

    Raises:
        RunError: As :func:`require_usable`.
    """
    given = given or settings
    require_usable(folder, given, resume)
    write_bytes(folder / "config.toml", to_toml(settings, given).encode())
    return Run(folder)


def only_writer(run: Run) -> AbstractContextManager[None]:
    """Keep other processes from writing a run for the length of a block.

    Raises:
        RunError: Another process writes it.
    """
    taken = RunError(f"another process writes the run {run.folder}", "wait for it, or choose another --out")
    return hold(run.folder / ".lock", taken)


def require_usable(folder: Path, settings: Settings, resume: bool) -> Settings:
    """Check that a run of ``settings`` can be written to a folder; nothing is written.

    Returns:
        The settings; of a run that was begun as it resolved them, so that what was decided stays.

    Raises:
        RunError: The folder holds another run, or a run and ``resume`` was not asked for.
    """
    run = Run(folder)
    if (folder / "config.toml").is_file():
        if not resume:
            raise RunError(f"{folder} already holds a run", "add --resume to go on with it, or choose another --out")
        changed = differences(run.given(), settings)
        if changed:
            raise RunError(
                f"the run {folder} was made with other settings: {'; '.join(changed)}",
                "give the same settings, or choose another --out",
            )
        return replace(run.settings(), folder=settings.folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists and is not a run", "choose another --out")
    return settings


def safetensors_bytes(arrays: Weights) -> bytes:
    """Arrays as one safetensors file, in the order of their names."""
    import numpy as np
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)})
