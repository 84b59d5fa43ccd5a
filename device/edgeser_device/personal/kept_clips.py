"""Own clips as a model with an encoder keeps them: vectors in 8 bits, each with its class and the hash of its samples.

    kept = read_kept(load_model(folder))        # {hash: (class, vectors)}; empty where there are none
    remove_kept(folder)                         # from the model and from the one before it

A clip that is kept is not heard again, and its recording may be deleted. A vector is no sound, but it tells how its
speaker spoke: it stays on the board, and no kit holds it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from edgeser_device.data.vector_set import in_numbers, in_steps
from edgeser_device.errors import ModelError
from edgeser_device.model.model import DESCRIPTION, OWN, Model, load_model, only_writer, previous_path
from edgeser_device.personal.own_clips import NOTHING, Kept, OwnClips
from edgeser_export.utilities.files import remove_file, write_json


def kept_bytes(own: OwnClips) -> bytes:
    """Clips as a safetensors file."""
    from safetensors.numpy import save

    levels, step = in_steps(own.windows[:, :, 0])
    digests = np.frombuffer(bytes.fromhex("".join(own.digests)), np.uint8).reshape(len(own), -1)
    counts = np.bincount(own.owners, minlength=len(own)).astype(np.int32)
    return save(
        {"levels": levels, "step": step, "classes": own.classes.astype(np.uint8), "counts": counts, "digests": digests}
    )


def read_kept(model: Model) -> Kept:
    """The clips that a model keeps; none where it has learnt none, or where they were removed.

    Raises:
        ModelError: The file is damaged.
    """
    if OWN not in model.description["files"] or not (model.folder / OWN).exists():
        return NOTHING
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        found = load(model.read(OWN))
        vectors = in_numbers(found["levels"], found["step"])[:, :, None]
        cut = np.split(vectors, np.cumsum(found["counts"])[:-1])
        rows = zip(found["digests"], found["classes"], cut, strict=True)
        clips = {bytes(digest).hex(): (int(number), windows) for digest, number, windows in rows}
    except (SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        raise _damaged(model.folder / OWN) from error
    fits = all(
        number < len(model.labels) and windows.shape[1:] == model.graph.input_shape[:2]
        for number, windows in clips.values()
    )
    if not fits or not all(len(windows) for _, windows in clips.values()):
        raise _damaged(model.folder / OWN)
    return clips


def remove_kept(folder: Path) -> int:
    """Remove the clips that a model and the one before it keep; how many models kept some. What they learnt stays.

    Raises:
        ModelError: No model stands there, or another process is writing it.
        StorageError: The folder cannot be written.
    """
    folder, removed = Path(os.path.realpath(folder)), 0
    with only_writer(folder):
        for place in (folder, previous_path(folder)):
            if not (place / DESCRIPTION).is_file():
                continue
            description = dict(load_model(place).description)
            files = {name: digest for name, digest in description["files"].items() if name != OWN}
            removed += len(files) < len(description["files"])
            remove_file(place / OWN)
            write_json(place / DESCRIPTION, {**description, "files": files})
    return removed


def _damaged(path: Path) -> ModelError:
    return ModelError(f"{path} cannot be read", "remove the clips that are kept: train-on-device with --forget-clips")
