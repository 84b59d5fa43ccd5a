"""The audit table: what sets of several methods give away, beside random recordings, the planted leak and noise.

    python benchmarks/audit.py CORPORA --corpus ravdess --ipc 6 --methods mtt invert:noise --set experts.count=2

A method is a column: METHOD, METHOD:START or METHOD:SETTING=VALUE. Every method is distilled on all training clips and
on the same halves of them; what does not depend on the method is made once for all: the label experts of every half,
and the sets of random recordings and of noise. ``--unshadowed`` names methods that are attacked without shadow runs:
all but membership, in minutes. All results are kept in ``--out`` and what is there is not made again, so a table can be
stopped at any time. JSON is printed on stdout, the tables on stderr; ``--markdown`` writes a page. The exit code is 1
where an attack misses the planted leak.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit_tables import page, sheets
from distillation_runs import (
    Request,
    digest,
    distil,
    experts_folder,
    fingerprint,
    keep_experts,
    prepare_run,
    read,
    say,
)
from rich.console import Console

from edgeser.config.settings import SETTINGS, Settings, value_of
from edgeser.config.values import changed, values_of
from edgeser.errors import SettingsError
from edgeser.privacy.attack_lines import control_lines
from edgeser.privacy.audit import AuditPlan, audit, prepare_audit
from edgeser.privacy.shadows import ShadowPlan
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.machine import available_cores
from edgeser_export.utilities.errors import EdgeserError
from edgeser_export.utilities.files import write_bytes, write_json

SHARED_SETS = ("random_bank", "noise")
"""Sets of a shadow that do not depend on the run's method."""
OF_HALVES = (
    "corpus", "split", "seed", "arch", "width", "ipc", "labels", "views", "experts.temperature",
    "experts.count", "experts.arch", "experts.width", "experts.steps", "steps", "batch", "peak_rate", "weight_decay",
)  # fmt: skip
"""Settings that decide what the methods share."""


@dataclass(frozen=True)
class Halves:
    """The sets and experts that audits of one corpus share, kept by shadow.

    Attributes:
        folder: The folder that they are kept in.
        shadows: Number of shadows.
    """

    folder: Path
    shadows: int

    def lend(self, plan: ShadowPlan) -> None:
        """Put what is known into the folder of an audit's shadows."""
        for kept, own in self._pairs(plan):
            if kept.is_file() and not own.exists():
                write_bytes(own, kept.read_bytes())

    def keep(self, plan: ShadowPlan) -> None:
        """Keep what an audit has made."""
        for kept, own in self._pairs(plan):
            if own.is_file() and not kept.exists():
                write_bytes(kept, own.read_bytes())

    def _pairs(self, plan: ShadowPlan) -> list[tuple[Path, Path]]:
        names = [f"label-expert-{number}.safetensors" for number in range(plan.settings.experts.count)]
        pairs = []
        for shadow in range(self.shadows):
            kept, own = self.folder / f"{shadow:02d}", plan.folder / f"{shadow:02d}"
            pairs += [(kept / name, own / "trajectories" / name) for name in names]
            pairs += [(kept / f"{name}.safetensors", plan.kept(shadow, name)) for name in SHARED_SETS]
        return pairs


def main() -> None:
    """Make what is missing and print the tables."""
    arguments = parser().parse_args()
    try:
        request = Request(
            arguments.folder, arguments.out, 1, 1, (), overrides_of(arguments.set), Workers(arguments.jobs)
        )
        result = measure(request, arguments)
    except EdgeserError as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")
    write_json(arguments.out / f"{arguments.corpus}.json", result)
    if arguments.markdown:
        write_bytes(arguments.markdown, page(result).encode())
    print(json.dumps(result, indent=2))
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 240, highlight=False, markup=False)
    for sheet in sheets(result):
        console.print(sheet.rich())
    missed = missed_leaks(result["methods"])
    for line in missed:
        say(f"misses the planted leak: {line}")
    sys.exit(bool(missed))


def measure(request: Request, arguments: argparse.Namespace) -> dict[str, Any]:
    """Audits of all methods as one JSON object.

    Raises:
        EdgeserError: A setting does not fit, the corpus is not there, or a distillation failed.
    """
    found = {}
    wanted = {**dict.fromkeys(arguments.unshadowed, 0), **dict.fromkeys(arguments.methods, arguments.shadows)}
    for label, shadows in sorted(wanted.items(), key=lambda each: -each[1]):
        settings = settings_of_column(label, arguments, request)
        path = request.out / f"{name_of(label, settings)}.json"
        kept = read(path)
        if kept.get("shadows") != shadows:
            kept = {"shadows": shadows, "audit": audit_of(label, settings, shadows, request)}
            write_json(path, kept)
        found[label] = kept["audit"]
    return {
        "corpus": arguments.corpus,
        "shadows": arguments.shadows,
        "settings": dict(request.overrides),
        "command": command_words(arguments),
        "methods": found,
    }


def audit_of(label: str, settings: Settings, shadows: int, request: Request) -> dict[str, Any]:
    """Distil and audit one method, with what the others have made already."""
    run = prepare_run(request.out / "runs" / name_of(label, settings), settings, tuple(values_of(settings)), request)
    say(f"{label}: distilling")
    distil([run], 1, request.workers.jobs)
    keep_experts(run, experts_folder(run.given(), request))
    plan = AuditPlan(shadows, resume=True, sounds=False)
    opened, shadow_plan = prepare_audit(run, plan, request.workers)
    halves = Halves(request.out / "halves" / halves_name(shadow_plan.settings, run), shadows)
    halves.lend(shadow_plan)
    say(f"{label}: {len(shadow_plan.missing(shadows))} of {shadows} shadows to make")
    del opened
    try:
        return audit(run, plan, request.workers)
    finally:
        halves.keep(shadow_plan)


def name_of(label: str, settings: Settings) -> str:
    """A name for a column's files."""
    plain = label.replace(":", "-").replace("=", "-")
    return f"{settings.corpus}-{plain}-{fingerprint(values_of(settings))}"


def halves_name(settings: Settings, run: Run) -> str:
    """A name that halves of other settings or clips do not have."""
    description = run.description()
    values = {key: value_of(settings, key) for key in OF_HALVES}
    known = {"fingerprint": description["corpus"]["fingerprint"], "edgeser": description["edgeser"], **values}
    return f"{settings.corpus}-{digest(known)}"


def settings_of_column(label: str, arguments: argparse.Namespace, request: Request) -> Settings:
    """The settings of a column."""
    method, *parts = label.split(":")
    own = overrides_of([part if "=" in part else f"start={part}" for part in parts])
    folder = str((request.corpora / arguments.corpus).resolve()) if arguments.corpus != "demo" else ""
    place = {"corpus": arguments.corpus, "folder": folder, "ipc": arguments.ipc}
    return changed(request.settings(method, place), own)


def overrides_of(texts: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE as settings.

    Raises:
        SettingsError: There is no such setting, or the value does not fit.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, _, value = text.partition("=")
        if key not in SETTINGS:
            raise SettingsError(f"--set {text} is no setting", "write --set KEY=VALUE, such as experts.count=2")
        found[key] = SETTINGS[key].parse(value)
        SETTINGS[key].check(found[key])
    return found


def missed_leaks(methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The figures of the planted leak that are not above chance."""
    return [
        f"{label}: {line['attack']} ({line['threat_model']})"
        for label, found in methods.items()
        for line in control_lines(found)
        if not line["finds_the_leak"]
    ]


def command_words(arguments: argparse.Namespace) -> str:
    """The command that repeats the table."""
    words = ["python", "benchmarks/audit.py", "CORPORA", "--corpus", arguments.corpus, "--ipc", str(arguments.ipc)]
    words += ["--methods", *arguments.methods, "--shadows", str(arguments.shadows)]
    words += ["--unshadowed", *arguments.unshadowed] if arguments.unshadowed else []
    return shlex.join([*words, *(word for text in arguments.set for word in ("--set", text))])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("folder", type=Path, metavar="CORPORA", help="folder with one folder a corpus")
    made.add_argument("--corpus", default="ravdess", help="which of them; demo needs none")
    made.add_argument("--ipc", type=int, default=6, help="items a class")
    made.add_argument("--methods", nargs="+", default=["invert"], metavar="METHOD[:PART]", help="a column each")
    made.add_argument("--unshadowed", nargs="+", default=[], metavar="METHOD[:PART]", help="columns without membership")
    made.add_argument("--shadows", type=int, default=16, help="shadow runs of each method")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of all methods")
    made.add_argument("--out", type=Path, default=Path("audit-results"), metavar="DIR", help="where results are kept")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    made.add_argument("--jobs", type=int, default=available_cores(), help="shadows side by side")
    return made


if __name__ == "__main__":
    main()
