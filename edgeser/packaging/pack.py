"""From a run folder to a kit: one file that holds all that a board needs to train.

    report = pack_kit(Path("run"), "rpi4", Path("emotions.edgeser"))

The same run packed for the same target gives the same bytes: no date, no path and no host name is stored, and no name
of a person: of a published corpus the test speakers' codes, of one's own recordings hashes of their names. The
manifest's keys are schema, edgeser, target, labels, frontend, schedule, student, budgets, provenance, results, members,
and where there are any wheels and signer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from edgeser.config.values import values_of
from edgeser.corpora.corpus import UNSTATED
from edgeser.corpora.fingerprint import is_own, speaker_hashes
from edgeser.encoders.store import card_bytes, open_encoder
from edgeser.errors import RunError
from edgeser.packaging.card import write_card
from edgeser.packaging.targets import Target, find_target
from edgeser.packaging.wheels import Wheels
from edgeser.privacy.audit_summary import read_digest
from edgeser.run import Run
from edgeser_device.data.distilled import DistilledSet
from edgeser_device.data.generated import DESCRIPTION, PROBE, Description, views_of
from edgeser_device.data.stored import StoredSet
from edgeser_device.encoder import EncoderCard
from edgeser_device.errors import EncoderError
from edgeser_device.frontend import FrontendSpec
from edgeser_device.kit.archive import join, pack, write_arrays, write_json_bytes
from edgeser_device.kit.golden import compute_golden
from edgeser_device.kit.kit import (
    ENCODER,
    ENCODER_CARD,
    FRONTEND,
    GOLDEN,
    INITIAL,
    INSTALL,
    MANIFEST,
    OUTSIDE,
    SCHEMA,
    SEED,
    SIGNATURE,
    STUDENT,
    WHEELS,
    Kit,
    frontend_arrays,
    read_kit,
    statistics_name,
    step_name,
)
from edgeser_device.kit.signature import ALGORITHM, PrivateKey, sign
from edgeser_device.model.model import CARD, DISTILLED
from edgeser_device.train.steps import least_memory_mb
from edgeser_device.train.trainer import TrainingSession
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.op_graph import Graph, Weights
from edgeser_export.utilities.errors import EdgeserError
from edgeser_export.utilities.files import write_bytes
from edgeser_export.utilities.outside import tidy

Members = dict[str, bytes]
RESULT_KEYS = (
    "full", "full_best", "distilled", "init", "baselines", "seeds", "split", "varies", "student", "schedule", "machine",
)  # fmt: skip
"""Keys of an evaluation that go into a kit."""
CORPUS_KEYS = (
    "name", "title", "language", "licence", "licence_url", "citation", "kind", "consent", "notes", "fingerprint",
)  # fmt: skip
"""Keys of run.json's corpus that go into a kit: its card, without its place."""
PARTS = ("train", "dev", "test")


@dataclass(frozen=True)
class PackReport:
    """A report of the kit that was written.

    Attributes:
        path: The kit.
        bytes: Its size.
        sha256: Hash of the file, hexadecimal.
        target: The board.
        least_memory_mb: Below this no training from the kit fits; what it takes is more, and is measured on the board.
        members: Bytes of each member before compression.
        signer: Id of the key that signed it.
        corpus_bytes: Size of the recordings that the run was distilled from, where it is known.
        window_ms: Estimated time of one window on one core of the board, from multiply-accumulates; without its mels.
        hop_ms: The time from one window to the next.
    """

    path: Path
    bytes: int
    sha256: str
    target: str
    least_memory_mb: int
    members: Mapping[str, int]
    signer: str | None = None
    corpus_bytes: int | None = None
    window_ms: float = 0.0
    hop_ms: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; "ratio" is the recordings' size over the kit's without wheels."""
        wheels = sum(size for name, size in self.members.items() if name.startswith(WHEELS))
        ratio = round(self.corpus_bytes / (self.bytes - wheels), 1) if self.corpus_bytes else None
        return {**asdict(self), "path": str(self.path), "members": dict(self.members), "ratio": ratio}


@dataclass(frozen=True)
class Parts:
    """The parts that a kit is made of.

    Attributes:
        description: run.json.
        config: config.toml, without paths.
        results: The part of metrics.json that is kept; empty where the run was not evaluated.
        graph: The student.
        weights: Its fixed initial weights.
        distilled: The set that the student trains on; with a generator the probe.
        frontend: The rules by which sound is cut into frames and windows.
        generator: The files of a shipped generator by their names in the kit; empty without.
        encoder: The card of the encoder that the items are vectors of, and its file; None with log-mels.
    """

    description: Mapping[str, Any]
    config: Mapping[str, Any]
    results: Mapping[str, Any]
    graph: Graph
    weights: Weights
    distilled: StoredSet
    frontend: FrontendSpec
    generator: Mapping[str, bytes] = field(default_factory=dict)
    encoder: tuple[EncoderCard, bytes] | None = None


def pack_kit(
    run_folder: Path,
    target: str,
    out: Path,
    key: PrivateKey | None = None,
    wheels: Wheels | None = None,
    embed: bool = True,
) -> PackReport:
    """Pack a run for a board; the kit is read back before it takes its name.

    Args:
        run_folder: The folder that ``edgeser distill`` wrote.
        target: A row of ``TARGETS``.
        out: The file to write, atomically.
        key: Signs the manifest.
        wheels: Put in for an installation without a network; see :mod:`edgeser.packaging.wheels`.
        embed: Whether the kit brings the file of its encoder, where it has one, or only the card.

    Raises:
        EncoderError: The run's encoder is not on this machine, or names data outside its file.
        RunError: The run is missing, incomplete or damaged.
        SettingsError: Unknown target, or a student that cannot be trained in its memory.
        StorageError: ``out`` cannot be written.
    """
    row = find_target(target)
    parts = read_parts(Path(run_folder))
    student = parts.description["student"]
    least = least_memory_mb(parts.graph, parts.distilled.schedule.batch)
    row.require_memory(least, f"{student['architecture']} at width {student['width']:g}")
    if parts.encoder and not embed:
        parts = replace(parts, encoder=(parts.encoder[0], b""))
    data = build_kit(parts, row, key, wheels)
    read: list[Kit] = []
    keys = () if key is None else (key.public,)
    write_bytes(Path(out), data, lambda draft: read.append(read_kit(draft, keys)))
    kit = read[0]
    sizes = {MANIFEST: len(kit.members[MANIFEST])}
    sizes |= {name: entry["bytes"] for name, entry in kit.manifest["members"].items()}
    signer = None if key is None else key.public.id
    corpus_bytes = kit.manifest["budgets"]["corpus_bytes"]
    work = kit.graph.multiply_accumulates + (kit.encoder.multiply_accumulates if kit.encoder else 0)
    hop_ms = 1000 * kit.frontend.window_hop * kit.frontend.hop / kit.frontend.rate
    times = row.window_ms(work), round(hop_ms, 2)
    return PackReport(Path(out), len(data), kit.sha256, row.name, least, sizes, signer, corpus_bytes, *times)


def read_parts(folder: Path) -> Parts:
    """The parts of a finished run.

    Raises:
        RunError: A part is missing or damaged.
    """
    run = Run(folder)
    description = run.description()
    missing = {"corpus", "labels", "split", "student", "method", "seed", "budget"} - set(description)
    if missing:
        raise RunError(f"{folder / 'run.json'} lacks {', '.join(sorted(missing))}", "distil again with this version")
    try:
        graph, weights, generator, encoder = run.graph(), run.init(), run.generator(), _encoder_of(run)
        distilled: StoredSet = _probe(generator) if generator else run.stored_set()
        graph.check(weights)
    except (RunError, EncoderError):
        raise
    except EdgeserError as error:
        raise RunError(
            f"the run {folder} is damaged: {error.message}", "distil again with --resume, or from the start"
        ) from error
    if list(distilled.names) != description["labels"]:
        raise RunError(f"{folder / 'run.json'} names other emotions than the distilled set", "distil again")
    results = _measured(run, bool(generator))
    if (log_mels := distilled.log_mels) is not None:
        spec = log_mels.frontend
    elif encoder is not None:
        spec = encoder[0].frontend
    else:
        raise RunError(
            f"the run {folder} holds vectors of a file", "kits are of recordings: distil these with --encoder"
        )
    config = without_paths(values_of(run.settings()))
    return Parts(description, config, results, graph, weights, distilled, spec, generator, encoder)


def _probe(generator: dict[str, bytes]) -> DistilledSet:
    """The items that stand in for those of a generator, taken out of its files."""
    return DistilledSet.from_bytes(generator.pop(PROBE))


def _encoder_of(run: Run) -> tuple[EncoderCard, bytes] | None:
    """The encoder that a run's items are vectors of; None with log-mels.

    Raises:
        EncoderError: It is not on this machine, or names data outside its file.
    """
    name = run.settings().encoder
    if not name:
        return None
    card, data = open_encoder(name)
    if OUTSIDE in data:
        raise EncoderError(f"the encoder {card.name} names data outside its file", "add one that holds all its weights")
    return card, data


def _measured(run: Run, draws: bool) -> dict[str, Any]:
    """The figures that hold for the kit's contents; of a kit that ``draws`` its items none of the run's own items."""
    evaluated = run.metrics() or {}
    results = {key: evaluated[key] for key in RESULT_KEYS if key in evaluated}
    if draws:
        return results if "drawn" in results.get("distilled", {}) else {}
    if (audited := read_digest(run.folder)) is not None:
        results["audit"] = audited
    return results


def build_kit(run: Parts, target: Target, key: PrivateKey | None = None, wheels: Wheels | None = None) -> bytes:
    """The bytes of a kit."""
    members = (
        _student_members(run)
        | dict(run.generator)
        | _encoder_members(run)
        | {
            DISTILLED: run.distilled.to_bytes(),
            FRONTEND: write_arrays(frontend_arrays(run.frontend)),
            INSTALL: files("edgeser_device").joinpath("install.sh").read_bytes(),
        }
    )
    manifest = describe(run, target, members)
    if key is not None:
        manifest["signer"] = {"algorithm": ALGORITHM, "key": key.public.id}
    if wheels is not None:
        members |= {f"{WHEELS}{name}": data for name, data in wheels.files.items()}
        manifest["wheels"] = wheels.to_json()
    packed = {name: pack(name, data) for name, data in sorted(members.items())}
    payload = sum(
        len(stored) for name, (_, stored) in packed.items() if not name.startswith(WHEELS) and name != ENCODER
    )
    card = run.encoder and run.encoder[0]
    members[CARD] = write_card(manifest, payload, _drawn(run.generator), card).encode()
    packed[CARD] = pack(CARD, members[CARD])
    manifest["members"] = {name: _listed(members[name], stored) for name, (_, stored) in sorted(packed.items())}
    content = write_json_bytes(manifest)
    front = [pack(MANIFEST, content)]
    if key is not None:
        packed[SIGNATURE] = pack(SIGNATURE, sign(key, content))
    return join([*front, *(packed[name] for name in sorted(packed))])


def _encoder_members(run: Parts) -> Members:
    """The encoder's card, and its file where the kit brings it."""
    if run.encoder is None:
        return {}
    card, data = run.encoder
    return {ENCODER_CARD: card_bytes(card), **({ENCODER: data} if data else {})}


def _listed(content: bytes, stored: bytes) -> dict[str, Any]:
    return {
        "bytes": len(content),
        "sha256": sha256(content).hexdigest(),
        "packed_bytes": len(stored),
        "packed_sha256": sha256(stored).hexdigest(),
    }


def describe(run: Parts, target: Target, members: Mapping[str, bytes]) -> dict[str, Any]:
    """The manifest without its list of members."""
    from edgeser import __version__

    budget, distilled = run.description["budget"], run.distilled
    corpus = describe_corpus(run.description["corpus"])
    results = dict(run.results)
    if "split" in results:
        results["split"] = without_names(results["split"], corpus)
    return {
        "schema": SCHEMA,
        "edgeser": __version__,
        "target": target.to_json(),
        "labels": list(distilled.names),
        "frontend": run.frontend.to_json(),
        "schedule": distilled.schedule.to_json(),
        "student": {
            **{key: run.description["student"][key] for key in ("architecture", "width")},
            "parameters": run.graph.parameter_count,
            "multiply_accumulates": run.graph.multiply_accumulates,
        },
        "budgets": {
            "ipc": budget.get("ipc", distilled.per_class),
            "share": budget.get("share"),
            "train_items": budget.get("train_items"),
            "corpus_bytes": run.description.get("corpus_bytes"),
            **_stored(run, members),
        },
        "provenance": {
            "edgeser": run.description.get("edgeser"),
            "method": run.description["method"],
            "seed": run.description["seed"],
            "corpus": corpus,
            "split": without_names(without_paths(run.description["split"]), corpus),
            "config": _decided_start(run),
            **{key: run.description[key] for key in ("privacy", "dp") if run.description.get(key, "none") != "none"},
        },
        "results": results,
    }


def _decided_start(run: Parts) -> dict[str, Any]:
    """The run's settings; where these leave the items' beginning to the budget, with what they began as."""
    start = run.config["start"] or run.description.get("start")
    return {**run.config, **({"start": start} if start else {})}


def _stored(run: Parts, members: Mapping[str, bytes]) -> dict[str, int]:
    """Items, views and bytes of what a board trains on; a generator draws these where nothing else is asked for."""
    budget, distilled = run.description["budget"], run.distilled
    if run.generator:
        size, items = _drawn(run.generator)["bytes"], budget["items"]
        return {"items": items, "views": views_of(items, distilled.schedule), "distilled_bytes": size}
    return {"items": len(distilled), "views": len(distilled.recipes), "distilled_bytes": len(members[DISTILLED])}


def _drawn(generator: Mapping[str, bytes]) -> dict[str, int]:
    """The facts of a generator for the card; empty where the kit holds items."""
    if not generator:
        return {}
    known = Description.from_bytes(generator[DESCRIPTION])
    return {
        "points": known.points,
        "labellers": known.labellers,
        "bytes": sum(len(data) for data in generator.values()),
    }


def describe_corpus(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The corpus's card; one's own recordings without a title of their own are not named after their folder."""
    found = {key: stored.get(key) for key in CORPUS_KEYS}
    places = {PurePosixPath(str(stored.get("folder") or "")).name, PureWindowsPath(str(stored.get("folder"))).name}
    if is_own(str(found["name"])) and (not found["title"] or found["title"] in map(tidy, places)):
        found["title"] = UNSTATED.title
    if stored.get("corpora"):
        parts = [
            {**describe_corpus(part), **{key: part[key] for key in ("corpus", "labels", "weight")}}
            for part in stored["corpora"]
        ]
        found |= {"corpora": parts, "title": " and ".join(str(part["title"]) for part in parts)}
    return found


def without_names(split: Mapping[str, Any], corpus: Mapping[str, Any]) -> dict[str, Any]:
    """A split with numbers of speakers instead of their names.

    The board must find the test speakers in the corpus: a published one keeps their codes as "names"; one's own keeps
    "hashes" of their names, which say nothing to those who do not have the recordings.
    """
    found = dict(split)
    for part in PARTS:
        row = split.get(part)
        if isinstance(row, Mapping) and isinstance(row.get("speakers"), list):
            found[part] = {**row, "speakers": len(row["speakers"])}
            if part == "test" and not is_own(corpus["name"]):
                found[part]["names"] = sorted(row["speakers"])
            elif part == "test" and corpus["fingerprint"]:
                found[part]["hashes"] = speaker_hashes(row["speakers"], corpus["fingerprint"])
    return found


def without_paths(value: Any) -> Any:
    """JSON values without absolute paths: where a corpus lies on one machine is nobody else's business."""
    if isinstance(value, Mapping):
        return {key: without_paths(item) for key, item in value.items() if not _is_path(key, item)}
    return [without_paths(item) for item in value if not _is_path("", item)] if isinstance(value, list) else value


def _is_path(key: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    return key in ("folder", "out") or PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()


def _initial_bytes(run: Parts) -> bytes:
    """The initial weights; of a head on vectors, which has more of them than the set has numbers, only their seed."""
    from safetensors.numpy import save

    seed = int(run.description["seed"])
    drawn = initial_weights(run.graph, seed) if run.encoder and seed >= 0 else {}
    if drawn.keys() == dict(run.weights).keys() and all((drawn[name] == run.weights[name]).all() for name in drawn):
        return save({}, metadata={SEED: str(seed)})
    return save(dict(run.weights))


def _student_members(run: Parts) -> Members:
    from edgeser_export.trainstep.step_graph import statistics_step, training_step

    schedule, graph = run.distilled.schedule, run.graph
    step = training_step(graph, schedule.batch, schedule.optimiser)
    golden = compute_golden(TrainingSession(step, threads=1), graph, run.weights, run.distilled)
    members = {
        step_name(schedule.optimiser, schedule.batch): step,
        STUDENT: write_json_bytes(graph.to_json()),
        INITIAL: _initial_bytes(run),
        GOLDEN: golden.to_bytes(),
    }
    if graph.statistics:
        members[statistics_name(schedule.batch)] = statistics_step(graph, schedule.batch)
    return members
