"""Reading a kit: sizes before reading, hashes before parsing, nothing unpacked.

    kit = read_kit(Path("emotions.edgeser"))
    kit.distilled, kit.graph, kit.weights, kit.step, kit.golden, kit.card

A kit is a zip archive whose ``manifest.json`` states the version of the format and the SHA-256 of every other member.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.archive import AGAIN, MAX_ARCHIVE_BYTES, read_archive, read_arrays
from edgeser_device.distilled import DistilledSet
from edgeser_device.errors import KitDamaged, KitError, KitSchemaError
from edgeser_device.frontend import FrontendSpec, hann_window, mel_filters
from edgeser_device.golden import Golden
from edgeser_export.graph import Graph

SCHEMA = 1
"""Version of the kit's format."""
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
"""May stand beside the manifest without being listed in it."""
MAX_MANIFEST_BYTES = 1 << 20
DISTILLED, INITIAL, STUDENT = "distilled.safetensors", "init.safetensors", "student.json"
FRONTEND, GOLDEN, CARD, INSTALL = "frontend.npz", "golden.npz", "card.md", "install.sh"
REQUIRED = (DISTILLED, INITIAL, STUDENT, FRONTEND, GOLDEN, CARD, INSTALL)
FRONTEND_TOLERANCE = 1e-9
"""Between two machines only the last bits of cosines and powers differ; a changed formula differs by far more."""


def step_name(optimiser: str, batch: int) -> str:
    """Name of the member that holds the training step."""
    return f"steps/{optimiser}-full-{batch}.onnx"


def statistics_name(batch: int) -> str:
    """Name of the member that computes the batch normalisations' statistics."""
    return f"steps/statistics-{batch}.onnx"


@dataclass(frozen=True)
class Kit:
    """A kit whose members have the hashes that its manifest states.

    Attributes:
        path: Where it was read.
        sha256: Of the whole file, hexadecimal.
        manifest: See :mod:`edgeser.pack`, which writes it.
        members: Content by name, the manifest too.
    """

    path: Path
    sha256: str
    manifest: Mapping[str, Any]
    members: Mapping[str, bytes]

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(map(len, self.members.values()))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The emotions in the order of the classes."""
        return self.distilled.names

    @cached_property
    def distilled(self) -> DistilledSet:
        """What the student trains on."""
        return DistilledSet.from_bytes(self.members[DISTILLED])

    @cached_property
    def graph(self) -> Graph:
        """The student."""
        return Graph.from_json(_parse_json(self.members[STUDENT], STUDENT))

    @cached_property
    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The fixed initial weights."""
        return read_weights(self.members[INITIAL], self.graph, INITIAL)

    @property
    def step(self) -> bytes:
        """The training step as ONNX."""
        return self.members[step_name(self.distilled.schedule.optimiser, self.distilled.schedule.batch)]

    @property
    def statistics_step(self) -> bytes:
        """The statistics of a batch as ONNX."""
        return self.members[statistics_name(self.distilled.schedule.batch)]

    @cached_property
    def golden(self) -> Golden:
        """What this machine must compute."""
        return Golden.from_bytes(self.members[GOLDEN])

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return self.members[CARD].decode("utf-8", errors="replace")


def read_kit(path: Path) -> Kit:
    """Read a kit and check that its parts are whole and fit each other.

    Raises:
        KitError: Missing, or its parts do not fit each other.
        KitDamaged: Truncated, or a member has another hash than the manifest states.
        KitSchemaError: Made for another version of the format.
        DistilledSetError: The distilled set in it is malformed.
        GraphError: The student in it is malformed.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise KitError(f"there is no kit {path}", "check the path; edgeser pack writes one")
        if path.stat().st_size > MAX_ARCHIVE_BYTES:
            raise KitError(f"{path} is too large for a kit", f"a kit has at most {MAX_ARCHIVE_BYTES >> 20} MB")
        data = path.read_bytes()
    except OSError as error:
        raise KitError(f"{path} cannot be read: {error.strerror}", "check the permissions and the card") from error
    members = read_archive(data)
    manifest = _read_manifest(members)
    _check_members(manifest, members)
    kit = Kit(path, sha256(data).hexdigest(), manifest, members)
    _check_agreement(kit)
    return kit


def read_weights(data: bytes, graph: Graph, name: str) -> dict[str, NDArray[np.float32]]:
    """Weights of a student from a safetensors file.

    Raises:
        KitDamaged: Not a safetensors file.
        GraphError: Not the weights of this student.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        weights = load(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise KitDamaged(f"{name} cannot be read: {error}", AGAIN) from error
    graph.check(weights)
    return {key: weights[key] for key in (*graph.parameters, *graph.statistics)}


def frontend_arrays(spec: FrontendSpec) -> dict[str, NDArray[np.float64]]:
    """The constants of a front-end, stored beside its numbers: window (n_fft,) and filters (mels, n_fft // 2 + 1)."""
    return {"window": hann_window(spec.n_fft), "filters": mel_filters(spec)}


def _read_manifest(members: Mapping[str, bytes]) -> Mapping[str, Any]:
    content = members.get(MANIFEST)
    if content is None:
        raise KitError("an archive without a manifest", "this is not a kit; edgeser pack writes one")
    if len(content) > MAX_MANIFEST_BYTES:
        raise KitError("a kit with an enormous manifest", "get the kit from someone you trust")
    manifest = _parse_json(content, MANIFEST)
    if not isinstance(manifest, dict) or "schema" not in manifest:
        raise KitError("a manifest without a version", "this is not a kit; edgeser pack writes one")
    if manifest["schema"] != SCHEMA:
        raise KitSchemaError(
            f"a kit of format {manifest['schema']!r}; this version reads format {SCHEMA}",
            "pack the kit again with this version of edgeser, or install the version that packed it",
        )
    parts = ("target", "student", "budgets", "provenance", "results")
    if not all(isinstance(manifest.get(part), dict) for part in parts):
        raise KitError("an incomplete manifest", "pack the kit again")
    threads = manifest["target"].get("threads")
    if not isinstance(threads, int) or not 0 < threads <= 256:
        raise KitError(f"a target with {threads!r} threads", "pack the kit again")
    return manifest


def _check_members(manifest: Mapping[str, Any], members: Mapping[str, bytes]) -> None:
    listed = manifest.get("members")
    if not isinstance(listed, dict) or not all(isinstance(entry, dict) for entry in listed.values()):
        raise KitError("a manifest that lists no members", "pack the kit again")
    found = set(members) - {MANIFEST, SIGNATURE}
    for name in sorted(set(listed) - found):
        raise KitDamaged(f"the kit lacks {name}", AGAIN)
    for name in sorted(found - set(listed)):
        raise KitDamaged(f"the kit holds {name}, which its manifest does not know", AGAIN)
    for name, entry in listed.items():
        if entry.get("bytes") != len(members[name]) or entry.get("sha256") != sha256(members[name]).hexdigest():
            raise KitDamaged(f"{name} is not what the kit's manifest states", AGAIN)
    for name in sorted(set(REQUIRED) - found):
        raise KitError(f"the kit lacks {name}", "pack the kit again")


def _check_agreement(kit: Kit) -> None:
    again = "pack the kit again"
    distilled, spec = kit.distilled, kit.distilled.frontend
    if kit.manifest.get("labels") != list(distilled.names) or kit.manifest.get("frontend") != spec.to_json():
        raise KitError("the kit's manifest and its distilled set name other emotions or another front-end", again)
    if kit.graph.input_shape != (1, spec.mels, spec.frames):
        raise KitError(
            f"the student reads {kit.graph.input_shape}, the items are (1, {spec.mels}, {spec.frames})", again
        )
    if kit.graph.shapes[kit.graph.output] != (len(distilled.names),):
        raise KitError(f"the student has another number of outputs than the {len(distilled.names)} emotions", again)
    schedule = distilled.schedule
    needed = [step_name(schedule.optimiser, schedule.batch)]
    needed += [statistics_name(schedule.batch)] if kit.graph.statistics else []
    for name in needed:
        if name not in kit.members:
            raise KitError(f"the kit lacks {name}", again)
    kit.weights  # noqa: B018  reading them is the check
    if kit.golden.logits.shape[1] != len(distilled.names):
        raise KitError("the kit's golden values are of another student", again)
    stored = read_arrays(kit.members[FRONTEND])
    for name, array in frontend_arrays(spec).items():
        other = stored.get(name)
        if (
            other is None
            or other.shape != array.shape
            or not np.allclose(other, array, rtol=0, atol=FRONTEND_TOLERANCE)
        ):
            raise KitError(
                f"this version computes another {name} for the front-end than the one that packed the kit", again
            )


def _parse_json(content: bytes, name: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise KitDamaged(f"{name} is not JSON: {error}", AGAIN) from error
