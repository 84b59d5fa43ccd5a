"""A model folder: what training writes, and what prediction, benchmark and listening read.

    model = load_model(Path("model"))
    model.labels, model.frontend, model.graph, model.file("onnx")

The folder holds model.json, weights.safetensors, distilled.safetensors, student.onnx, student.tflite, parity.json and
card.md. model.json lists the SHA-256 of each; a file that differs is refused before a runtime sees it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.encoder import EncoderCard
from edgeser_device.errors import ModelError
from edgeser_device.frontend import FrontendSpec
from edgeser_export.graph.op_graph import Graph
from edgeser_export.graph.transform import recogniser
from edgeser_export.outputs import require_output
from edgeser_export.utilities.errors import EdgeserError, OutputTaken
from edgeser_export.utilities.files import exchange_folders, hold, sha256, write_json
from edgeser_export.writers.formats import FORMATS, find_format

if TYPE_CHECKING:
    from edgeser_device.data.stored import StoredSet

SCHEMA = 2
"""Version of the folder's format; in 1 normalisation, temperature and softmax were not in the files."""
DESCRIPTION, WEIGHTS = "model.json", "weights.safetensors"
DISTILLED, CARD = "distilled.safetensors", "card.md"
"""The set that the student is trained on, and the model card for people: files that the kit holds, too."""
TESTED = "tested"
"""Key of the description: what the model reached on recordings on this machine, where that was measured."""
BASE = "base.safetensors"
"""The weights before training on own clips; only where that was done."""
OWN = "own.safetensors"
"""The vectors of own clips that a model with an encoder has learnt; may be removed."""
ADAPTED = "adapted.json"
"""The level of the user's own voice that listening learnt; only where that was asked for."""
AGAIN = "edgeser train-on-device KIT --out MODEL trains it again; or go back: edgeser rollback MODEL"


@dataclass(frozen=True)
class Model:
    """A model folder that was checked.

    Attributes:
        folder: The folder.
        description: model.json.
        labels: The emotions in the order of the classes.
        frontend: The front-end whose log-mels the student reads.
        graph: The student.
        encoder: The card of the encoder that it hears with; None where it reads log-mels.
    """

    folder: Path
    description: Mapping[str, Any]
    labels: tuple[str, ...]
    frontend: FrontendSpec
    graph: Graph
    encoder: EncoderCard | None = None

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats that are there, in the order of the table of formats."""
        return tuple(name for name, row in FORMATS.items() if row.file_name in self.description["files"])

    @property
    def temperature(self) -> float:
        """The number that the files divide logits by."""
        return float(self.description["temperature"])

    @property
    def recogniser(self) -> Graph:
        """The graph that the files compute: the student, with normalisation, temperature and softmax around it."""
        return recogniser(self.graph, self.frontend.mean, self.frontend.std, self.temperature)

    @property
    def identity(self) -> dict[str, Any]:
        """The values that tell it from other models, as plain JSON values.

        "kit" is the name of the kit's file, "steps" are those of the training from it, "own_clips" is how many clips it
        learnt after that, and "made" when it was written. Name and time are None in models of older versions.
        """
        known, training = self.description, self.description["training"]
        return {
            **{key: known.get(key) for key in ("kit", "made")},
            **{key: training[key] for key in ("kit_sha256", "steps")},
            "own_clips": sum(known["personal"]["clips"].values()) if "personal" in known else 0,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the hashes of all its files, hexadecimal: that of what it answers with."""
        return sha256(json.dumps(self.description["files"], sort_keys=True).encode()).hexdigest()

    @property
    def words(self) -> str:
        """The same in a line for people."""
        found = self.identity
        kit = f"{found['kit'] or 'kit'} ({found['kit_sha256'][:12]})"
        clips = f"{found['own_clips'] or 'no'} own clip{'s' * (found['own_clips'] != 1)}"
        return f"{kit}, {found['steps']} steps, {clips}" + (f", made {found['made']}" if found["made"] else "")

    @cached_property
    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The trained weights."""
        from edgeser_device.kit.kit import read_weights  # what reads kits takes 1 MB, which no inference needs

        return read_weights(self.read(WEIGHTS), self.graph, WEIGHTS)

    @cached_property
    def distilled(self) -> StoredSet:
        """The set that the student was trained on."""
        from edgeser_device.data.stored import read_set

        return read_set(self.read(DISTILLED), of_vectors=self.encoder is not None)

    def file(self, name: str) -> bytes:
        """The content of the student's file in the format ``name``."""
        row = find_format(name)
        if row.file_name not in self.description["files"]:
            raise ModelError(f"the model {self.folder} has no {row.file_name}", f"it has: {', '.join(self.formats)}")
        return self.read(row.file_name)

    def read(self, name: str) -> bytes:
        """The content of a file of the folder.

        Raises:
            ModelError: It is missing, or not what model.json states.
        """
        try:
            data = (self.folder / name).read_bytes()
        except OSError as error:
            raise ModelError(f"{self.folder / name} cannot be read: {error.strerror}", AGAIN) from error
        if sha256(data).hexdigest() != self.description["files"].get(name):
            raise ModelError(f"{self.folder / name} is not the file that was written", AGAIN)
        return data


def load_model(folder: Path) -> Model:
    """Open a model folder.

    Raises:
        ModelError: Missing, incomplete, or of another version.
        FrontendError: Its front-end is malformed.
        EncoderError: Its encoder's card is malformed.
        GraphError: Its student is malformed.
    """
    folder = Path(folder)
    path = folder / DESCRIPTION
    if not path.is_file():
        raise ModelError(f"{folder} is not a model folder", "edgeser train-on-device KIT --out MODEL writes one")
    try:
        description = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", AGAIN) from error
    if not isinstance(description, dict) or description.get("schema") != SCHEMA:
        raise ModelError(f"{folder} was written by another version of edgeser: train again from the kit", AGAIN)
    labels, listed = description.get("labels"), description.get("files")
    named = isinstance(labels, list) and all(isinstance(name, str) for name in labels)
    if not isinstance(listed, dict) or not isinstance(labels, list) or not named:
        raise ModelError(f"{path} is incomplete", AGAIN)
    stated = description.get("temperature")
    if not isinstance(stated, int | float) or isinstance(stated, bool) or not 0.01 <= stated <= 100:
        raise ModelError(f"the temperature of {folder} is {stated!r}, not a number from 0.01 to 100", AGAIN)
    graph = Graph.from_json(description.get("student"))
    spec = FrontendSpec.from_json(description.get("frontend"))
    encoder = EncoderCard.from_json(description["encoder"]) if "encoder" in description else None
    shape = (1, spec.mels, spec.frames) if encoder is None else (encoder.size, 1, 1)
    if graph.input_shape != shape or graph.shapes[graph.output] != (len(labels),):
        raise ModelError(f"the student, the front-end and the labels of {folder} do not fit each other", AGAIN)
    return Model(folder, description, tuple(labels), spec, graph, encoder)


def only_writer(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes from writing a model folder and its checkpoint for the length of a block.

    Raises:
        ModelError: Another process is writing them.
        StorageError: The folder above cannot be written.
    """
    taken = ModelError(f"another process is writing {folder}", "wait until it has ended, or choose another --out")
    return hold(folder.parent / f".{folder.name}.lock", taken)


def record_test(folder: Path, score: Mapping[str, Any]) -> None:
    """Keep with a model what it reached on recordings on this machine; a newer score takes its place.

    Args:
        folder: The model's.
        score: "uar", 0 to 1, and what it was measured on, as plain JSON values.

    Raises:
        ModelError: It is no model, or another process is writing it.
        StorageError: The folder cannot be written.
    """
    folder = Path(os.path.realpath(folder))
    with only_writer(folder):
        write_json(folder / DESCRIPTION, {**load_model(folder).description, TESTED: dict(score)})


def file_metadata(
    labels: tuple[str, ...], spec: FrontendSpec, temperature: float, kit_sha256: str, encoder: EncoderCard | None = None
) -> dict[str, str]:
    """The metadata of every file for a runtime, so that it can be used without this program."""
    reads = f"log-mel levels in dB, {spec.mels} x {spec.frames}"
    folded = f"normalisation (mean {spec.mean:.9g} dB, deviation {spec.std:.9g} dB), temperature, softmax"
    if encoder is not None:
        reads = f"vectors of the encoder {encoder.name} ({encoder.sha256}) in standard deviations, {encoder.size}"
        folded = "temperature, softmax"
    return {
        "labels": ",".join(labels),
        "frontend": json.dumps(spec.to_json(), sort_keys=True),
        "temperature": f"{temperature:.9g}",
        "input": reads,
        "output": "probabilities",
        "folded": folded,
        "kit_sha256": kit_sha256,
    }


def describe_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a draft, by name."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name != DESCRIPTION)
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in paths}


def require_replaceable(folder: Path) -> None:
    """Check that a model may be written at ``folder``: nothing that training did not write is ever removed.

    Raises:
        OutputTaken: A file is there; or a folder that is neither empty nor a model, or holds something else too.
    """
    require_output(folder, "model", _is_model)


def _is_model(folder: Path) -> bool:
    description = json.loads((folder / DESCRIPTION).read_bytes())
    strange = {path.name for path in folder.iterdir()} - {DESCRIPTION, ADAPTED, *description["files"]}
    if strange:
        raise OutputTaken(
            f"{folder} holds {min(strange)!r}, which training did not write and would remove",
            "move it elsewhere, or choose another --out",
        )
    return "schema" in description


def previous_path(folder: Path) -> Path:
    """The folder in which the model before the present one is kept."""
    return folder.parent / f"{folder.name}.previous"


def rollback(folder: Path) -> tuple[Model, Model | None]:
    """Exchange the model with the one before it; a second call undoes the first.

    Returns:
        The model that is in place now, and the one that was put aside; None where that cannot be read.

    Raises:
        ModelError: No earlier model is kept, another process is writing, or something else than a model stands there.
        StorageError: The folder cannot be written.
    """
    folder = Path(os.path.realpath(folder))
    previous = previous_path(folder)
    if not (previous / DESCRIPTION).is_file():
        raise ModelError(f"no earlier model is kept for {folder}", "one is kept when a newer training replaces it")
    with only_writer(folder):
        for place in (folder, previous):
            require_replaceable(place)
        load_model(previous)
        exchange_folders(previous, folder)
        aside = None
        with suppress(EdgeserError):
            aside = load_model(previous)
        return load_model(folder), aside
