"""Training on own clips: what the owner gains and what others lose, each held-out speaker as the owner in turn.

    python benchmarks/personal.py KIT... --corpus ravdess --folder DIR --part test --work DIR > result.json

Of the owner's clips two of each emotion are the own clips and the rest is the owner's test; all clips of the part's
other speakers show forgetting. Settings are chosen with ``--part dev``; the test speakers are scored once. The table
goes to stderr. Kits of one corpus, split and representation; each is trained first, under ``--work``, where that was
not done before.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from edgeser.corpora import load_corpus
from edgeser.corpora.splits import make_split
from edgeser.evaluation.intervals import standard_error
from edgeser.representation.base import Part
from edgeser.representation.encoded import Encoded
from edgeser.representation.logmel import LogMel
from edgeser.representation.split_reading import read_split
from edgeser.workers import Workers
from edgeser_device.data.vector_set import in_numbers, in_steps
from edgeser_device.kit.kit import Kit, read_kit
from edgeser_device.machine import describe_machine
from edgeser_device.model.model import load_model
from edgeser_device.personal.fine_tune import FOLDS, PersonalSettings, base_weights, forgetting, is_of, leave_out, uar
from edgeser_device.personal.own_clips import OwnClips
from edgeser_device.personal.student_parts import OF_VECTORS, PARTS, AdaptSettings, CutStudent, prepare
from edgeser_device.train.train import Settings, train
from edgeser_export.graph.op_graph import Weights

CLIPS = 2
"""Own clips of each emotion."""


@dataclass(frozen=True)
class Row:
    """A way of training on own clips, as the table names it."""

    name: str
    settings: AdaptSettings
    judged: bool = False


ROWS = (
    Row("last convolution and head, rehearsal", PARTS["tail"], judged=True),
    Row("the same without rehearsal", replace(PARTS["tail"], rehearsal_views=0)),
    Row("whole student, rehearsal", PARTS["full"]),
    Row("the same without rehearsal", replace(PARTS["full"], rehearsal_views=0)),
    Row("head only, rehearsal", PARTS["head"]),
    Row("head only, without rehearsal", replace(PARTS["head"], rehearsal_views=0)),
)
VECTOR_ROWS = (
    Row("whole head, rehearsal", OF_VECTORS["full"], judged=True),
    Row("the same without rehearsal", replace(OF_VECTORS["full"], rehearsal_views=0)),
    Row("last layer only, rehearsal", OF_VECTORS["head"]),
    Row("the same without rehearsal", replace(OF_VECTORS["head"], rehearsal_views=0)),
)
"""The same for kits of an encoder."""


@dataclass(frozen=True)
class Speech:
    """A part's clips, cut once."""

    windows: np.ndarray
    owners: np.ndarray
    classes: np.ndarray
    speakers: np.ndarray

    @classmethod
    def of(cls, part: Part) -> Speech:
        """All windows of a part."""
        windows, owners = part.windows()
        return cls(windows, owners, part.labels, np.array(part.speakers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kits", nargs="+", type=Path, metavar="KIT")
    parser.add_argument("--corpus", default="ravdess")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--part", choices=("dev", "test"), required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=1, help="draws of own clips for each owner")
    parser.add_argument("--judged", type=int, default=99, help="kits on which leaving clips out is tried as well")
    given = parser.parse_args()
    speech, found = None, []
    for number, path in enumerate(given.kits):
        kit = read_kit(path)
        speech = speech or read_speech(kit, given.corpus, given.folder, given.part)
        rows = measure_kit(kit, given.work / path.stem, speech, given.draws, judged=number < given.judged)
        found += [{"kit": path.name, **each} for each in rows]
        print(f"{path.name} done\n{table(summarise(found))}", file=sys.stderr, flush=True)
    settings = {row.name: asdict(row.settings) for row in (*ROWS, *VECTOR_ROWS)}
    result = {"machine": describe_machine(), "part": given.part, "clips_an_emotion": CLIPS, "settings": settings}
    print(json.dumps(result | {"rows": summarise(found), "each": found}, indent=1))


def read_speech(kit: Kit, corpus: str, folder: Path, part: str) -> Speech:
    loaded = load_corpus(corpus, folder)
    split = make_split(loaded, kit.manifest["provenance"]["split"]["name"])
    vectors = kit.distilled.vectors
    heard = LogMel(kit.frontend) if vectors is None else Encoded(vectors.scale, card=kit.encoder)
    read = read_split(loaded, split, heard.reader(), Workers(1))
    rows = getattr(read, part)
    return Speech.of(heard.part(rows, read.labels(rows), read.features(rows)))


def measure_kit(kit: Kit, folder: Path, speech: Speech, draws: int, judged: bool) -> Iterator[dict[str, Any]]:
    if not is_of(kit, folder):
        train(kit, folder, Settings(threads=1))
    base = base_weights(load_model(folder))
    for number, row in enumerate(VECTOR_ROWS if kit.encoder else ROWS):
        student = CutStudent.open(kit.graph, base, row.settings.part, threads=1)
        features = student.features(speech.windows)
        for owner in np.unique(speech.speakers):
            for draw in range(draws):
                own, rest, others = choose(speech, owner, draw)
                settings = replace(row.settings, seed=draw)
                yield {
                    "row": number,
                    "name": row.name,
                    "owner": str(owner),
                    "draw": draw,
                    **measure(kit, student, (speech, features, own, rest, others), settings, judged and row.judged),
                }


def choose(speech: Speech, owner: str, draw: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Own clips, the owner's other clips, and the clips of all others."""
    mine, random = np.flatnonzero(speech.speakers == owner), np.random.default_rng([draw, 2])
    classes = np.unique(speech.classes[mine])
    own = np.concatenate([random.permutation(mine[speech.classes[mine] == each])[:CLIPS] for each in classes])
    return np.sort(own), np.setdiff1d(mine, own), np.flatnonzero(speech.speakers != owner)


def measure(
    kit: Kit, student: CutStudent, given: tuple[Any, ...], settings: AdaptSettings, judged: bool
) -> dict[str, Any]:
    speech, features, chosen, rest, others = given
    began, cpu = time.monotonic(), time.process_time()
    own = own_clips(kit, speech, chosen)
    material = prepare(student, own, kit.distilled, settings)
    trial = leave_out(student, own, kit.labels, material, settings, FOLDS[settings.part]) if judged else None
    upper = student.train(material.training_data(), settings)
    forgot = forgetting(student, upper, kit.distilled, settings)
    row: dict[str, Any] = {"wall_s": time.monotonic() - began, "cpu_s": time.process_time() - cpu}
    before, after = (score(student, speech, features, weights) for weights in (None, upper))
    for name, clips in (("own", rest), ("others", others)):
        pair = [uar(each[clips], speech.classes[clips]) for each in (before, after)]
        row |= {f"{name}_before": pair[0], f"{name}_after": pair[1]}
    row["set_lost"] = forgot.lost
    if trial is not None:
        installed = trial.better and forgot.lost <= PersonalSettings().max_forget
        row |= {"installed": installed, "trial": trial.to_json()}
        row["own_decided"] = row["own_after" if installed else "own_before"]
        row["others_decided"] = row["others_after" if installed else "others_before"]
    return row


def own_clips(kit: Kit, speech: Speech, chosen: np.ndarray) -> OwnClips:
    kept = np.isin(speech.owners, chosen)
    owners = np.searchsorted(chosen, speech.owners[kept])
    windows = speech.windows[kept]
    if kit.encoder:  # as a model keeps them
        windows = in_numbers(*in_steps(windows[:, :, 0, 0]))
    items = windows.reshape(len(windows), *kit.distilled.items().shape[1:])
    return OwnClips(tuple(map(str, chosen)), speech.classes[chosen], items, owners)


def score(student: CutStudent, speech: Speech, features: np.ndarray, upper: Weights | None) -> np.ndarray:
    """Mean probabilities of each clip."""
    each = student.probabilities(features, upper)
    total = np.zeros((len(speech.classes), each.shape[1]))
    np.add.at(total, speech.owners, each)
    return total / np.bincount(speech.owners)[:, None]


def summarise(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for number in sorted({entry["row"] for entry in found}):
        each = [entry for entry in found if entry["row"] == number]
        gains = [entry["own_after"] - entry["own_before"] for entry in each]
        summary: dict[str, Any] = {
            "name": each[0]["name"],
            "owners": len(each),
            "gain_standard_error": standard_error(gains),
        }
        keys = ("own_before", "own_after", "others_before", "others_after", "set_lost", "cpu_s", "wall_s")
        decided = ("own_decided", "others_decided", "installed")
        for key in (*keys, *decided):
            values = [float(entry[key]) for entry in each if key in entry]
            summary |= {key: mean(values)} if values else {}
        decisions = [entry for entry in each if "installed" in entry]
        if decisions:
            summary |= {
                "decisions": len(decisions),
                "own_before_decided": mean(entry["own_before"] for entry in decisions),
                "others_before_decided": mean(entry["others_before"] for entry in decisions),
                "judged_cpu_s": mean(entry["cpu_s"] for entry in decisions),
            }
        rows.append(summary)
    return rows


def table(rows: list[Mapping[str, Any]]) -> str:
    lines = ["| trained | owner before | after | gain | others before | after | change | CPU s |", "|---|" + "---|" * 7]
    for row in rows:
        gain, change = row["own_after"] - row["own_before"], row["others_after"] - row["others_before"]
        error = "" if row["gain_standard_error"] is None else f" ± {100 * row['gain_standard_error']:.1f}"
        lines.append(
            f"| {row['name']} | {row['own_before']:.3f} | {row['own_after']:.3f} | {100 * gain:+.1f}{error} "
            f"| {row['others_before']:.3f} | {row['others_after']:.3f} | {100 * change:+.1f} | {row['cpu_s']:.1f} |"
        )
        if "installed" in row:
            own, others = row["own_before_decided"], row["others_before_decided"]
            gain, change = row["own_decided"] - own, row["others_decided"] - others
            lines.append(
                f"| as decided by leaving out, {row['installed']:.0%} of {row['decisions']} installed | {own:.3f} "
                f"| {row['own_decided']:.3f} | {100 * gain:+.1f} | {others:.3f} | {row['others_decided']:.3f} "
                f"| {100 * change:+.1f} | {row['judged_cpu_s']:.1f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
