"""Reading a kit: sizes before reading, hashes before unpacking and parsing, nothing written to a disk.

    kit = read_kit(Path("emotions.edgeser"))
    kit.distilled, kit.graph, kit.weights, kit.step, kit.golden, kit.card

A kit is a zip archive whose ``manifest.json`` states the version of the format and the SHA-256 of every other member,
as it is stored and as it is unpacked. With a key, the manifest's signature is verified before it is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.distilled import DistilledSet, metadata_of
from edgeser_device.data.stored import StoredSet, read_set
from edgeser_device.encoder import MOST_BYTES, EncoderCard
from edgeser_device.errors import EncoderError, KitDamaged, KitError, KitSchemaError
from edgeser_device.frontend import FrontendSpec, hann_window, mel_filters
from edgeser_device.kit.archive import AGAIN, Archive, open_archive, parse_json, read_arrays, unpack, write_json_bytes
from edgeser_device.kit.golden import Golden
from edgeser_device.kit.manifest import check_manifest
from edgeser_device.kit.signature import PublicKey, require_signature
from edgeser_device.model.model import CARD, DISTILLED
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.op_graph import Graph
from edgeser_export.utilities.errors import EdgeserError
from edgeser_export.utilities.files import sha256
from edgeser_export.utilities.outside import is_text

SCHEMA = 2
"""Version of the kit's format."""
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
"""Stands beside the manifest without being listed in it: 64 bytes, Ed25519 over the manifest's bytes."""
MAX_MANIFEST_BYTES = 1 << 20
PLAIN_WORD, HASH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"), re.compile(r"[0-9a-f]{64}")
"""The forms of an encoder's name, which names a folder, and of its hash."""
INITIAL, STUDENT = "init.safetensors", "student.json"
FRONTEND, GOLDEN, INSTALL = "frontend.npz", "golden.npz", "install.sh"
ENCODER, ENCODER_CARD = "encoder.onnx", "encoder.toml"
"""The encoder whose vectors the items are: its card, and its file where the kit brings it; neither with log-mels."""
REQUIRED = (DISTILLED, INITIAL, STUDENT, FRONTEND, GOLDEN, CARD, INSTALL)
WHEELS = "wheels/"
"""Members below this are for the installation: their hashes are compared, and they are never held in memory. The same
holds for an encoder, which no training needs."""
SEED = "seed"
"""The key of the metadata of initial weights that are not stored: what they are drawn from, a whole number."""
OUTSIDE = b"location"
"""The key with which an ONNX file names another file, or an address in memory, for a tensor's values. A key's bytes lie
together however the file is written, so that a file without them names none; those that edgeser writes have none."""
CHANGED = "get it again from its maker, not from this copy, and use it only if --trust KEY.pub accepts it"
"""Hint for a kit that was changed after it was signed, perhaps with intent."""
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
        path: The file that it was read from.
        sha256: Hash of the whole file, hexadecimal.
        manifest: See :mod:`edgeser.packaging.pack`, which writes it, and :mod:`edgeser_device.kit.manifest`.
        members: Content by name, the manifest too, but no wheels and no encoder.
        is_signed: Whether a signature stands in it; that it is good was checked only with a key.
    """

    path: Path
    sha256: str
    manifest: Mapping[str, Any]
    members: Mapping[str, bytes]
    is_signed: bool = False

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(map(len, self.members.values()))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The emotions in the order of the classes."""
        return self.distilled.names

    @cached_property
    def encoder(self) -> EncoderCard | None:
        """The card of the encoder that a model of this kit hears with; None where it reads log-mels."""
        card = self.members.get(ENCODER_CARD)
        return None if card is None else read_card(card)

    @property
    def frontend(self) -> FrontendSpec:
        """The rules by which a model of this kit cuts sound into frames and windows."""
        return self.encoder.frontend if self.encoder else self.log_mels("levels are").frontend

    @cached_property
    def distilled(self) -> StoredSet:
        """The set that the student trains on."""
        return read_set(self.members[DISTILLED], of_vectors=self.encoder is not None)

    def log_mels(self, work: str) -> DistilledSet:
        """The set of a kit of log-mels.

        Raises:
            KitError: The kit holds vectors; ``work``, such as "own clips are", is not done with these.
        """
        found = self.distilled.log_mels
        if found is None:
            raise KitError(
                f"{self.path} holds vectors of an encoder, and {work} of log-mels only", "use a kit without an encoder"
            )
        return found

    def read_encoder(self) -> bytes | None:
        """The file of the encoder, read from the kit again; None where the kit does not bring it.

        Raises:
            KitDamaged: The file of the kit was changed since it was read.
            KitError: The encoder names data outside the kit.
        """
        stated = self.manifest["members"].get(ENCODER)
        if stated is None:
            return None
        with open_archive(self.path, first=MANIFEST) as archive:
            content = read_member(archive, ENCODER, stated)
        _require_no_outside(ENCODER, content or b"")
        return content

    @cached_property
    def graph(self) -> Graph:
        """The student."""
        return Graph.from_json(parse_json(self.members[STUDENT], STUDENT))

    @cached_property
    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The fixed initial weights."""
        return _initial_weights(self.members[INITIAL], self.graph)

    @property
    def uar_packed(self) -> float | None:
        """Unweighted average recall of its students on the test speakers, measured before packing; None if not."""
        found = (self.manifest["results"].get("distilled") or {}).get("uar_mean")
        return float(found) if isinstance(found, int | float) else None

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
        """The values that this machine must compute."""
        return Golden.from_bytes(self.members[GOLDEN])

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return self.members[CARD].decode("utf-8")


def read_kit(path: Path, keys: Iterable[PublicKey] = ()) -> Kit:
    """Read a kit and check that its parts are whole and fit each other.

    Args:
        path: The file.
        keys: The kit must be signed with each of them; none for a kit whose origin does not matter.

    Raises:
        KitError: Missing, or its parts do not fit each other, or an ONNX file in it names files outside the kit.
        KitDamaged: Truncated, or a member has another hash than the manifest states.
        KitSchemaError: Made for another version of the format.
        KitUntrusted: Not signed, or with another key than asked for.
        MissingExtra: A signature is to be checked, and ``cryptography`` is not installed.
        DistilledSetError: The distilled set in it is malformed.
        GraphError: The student in it is malformed.
    """
    path = Path(path)
    if not path.is_file():
        raise KitError(f"there is no kit {path}", "check the path; edgeser pack writes one")
    try:
        with open_archive(path, first=MANIFEST) as archive:
            kit = _read(path, archive, tuple(keys))
    except OSError as error:
        if isinstance(error, EdgeserError):
            raise
        raise KitError(f"{path} cannot be read: {error.strerror}", "check the permissions and the card") from error
    _check_agreement(kit)
    return kit


def is_kit(path: Path) -> bool:
    """Whether a file is a kit, of whichever version.

    Raises:
        KitError: It is no archive that edgeser writes.
        OSError: It cannot be read.
    """
    with open_archive(path, first=MANIFEST) as archive:
        manifest = parse_json(_manifest_bytes(archive), MANIFEST)
    return isinstance(manifest, dict) and {"schema", "members"} <= set(manifest)


def _read(path: Path, archive: Archive, keys: tuple[PublicKey, ...]) -> Kit:
    content = _manifest_bytes(archive)
    signature = archive.read(SIGNATURE) if SIGNATURE in archive.entries else None
    for key in keys:  # before anything of the manifest is believed
        require_signature(key, content, signature)
    manifest = _parse_manifest(content)
    if (signature is not None) != ("signer" in manifest):
        raise KitDamaged("the kit's signature was removed or added later", CHANGED)
    try:
        members = {MANIFEST: content, **_read_members(manifest, archive)}
    except KitDamaged as error:
        raise KitDamaged(error.message, error.hint if signature is None else CHANGED) from error
    return Kit(path, hash_file(path), manifest, members, signature is not None)


def hash_file(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _manifest_bytes(archive: Archive) -> bytes:
    if MANIFEST not in archive.entries:
        raise KitError("an archive without a manifest", "this is not a kit; edgeser pack writes one")
    if archive.entries[MANIFEST].file_size > MAX_MANIFEST_BYTES:
        raise KitError("a kit with an enormous manifest", "get the kit from someone you trust")
    return archive.read(MANIFEST)


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


def _initial_weights(data: bytes, graph: Graph) -> dict[str, NDArray[np.float32]]:
    """The initial weights, or those of the seed that stands for them; errors as :func:`read_weights`."""
    try:
        seed = int(metadata_of(data)[SEED])
    except (ValueError, TypeError, KeyError):
        return read_weights(data, graph, INITIAL)
    if not 0 <= seed < 1 << 63:
        raise KitDamaged(f"{INITIAL} names an impossible seed", AGAIN)
    return initial_weights(graph, seed)


def read_card(content: bytes) -> EncoderCard:
    """An encoder's card in TOML.

    Raises:
        KitDamaged: It is malformed.
    """
    import tomllib  # only kits of encoders need it

    try:
        card = EncoderCard.from_json(tomllib.loads(content.decode("utf-8")))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError, EncoderError) as error:
        raise KitDamaged(f"{ENCODER_CARD} cannot be read: {error}", AGAIN) from error
    texts = (card.name, card.title, card.source, card.licence)
    if not all(map(is_text, texts)) or not PLAIN_WORD.fullmatch(card.name) or not HASH.fullmatch(card.sha256):
        raise KitDamaged(f"{ENCODER_CARD} holds an impossible text", AGAIN)
    return card


def frontend_arrays(spec: FrontendSpec) -> dict[str, NDArray[np.float64]]:
    """The constants of a front-end, stored beside its numbers: window (n_fft,) and filters (mels, n_fft // 2 + 1)."""
    return {"window": hann_window(spec.n_fft), "filters": mel_filters(spec)}


def _parse_manifest(content: bytes) -> Mapping[str, Any]:
    manifest = parse_json(content, MANIFEST)
    if not isinstance(manifest, dict) or "schema" not in manifest:
        raise KitError("a manifest without a version", "this is not a kit; edgeser pack writes one")
    if type(manifest["schema"]) is not int or manifest["schema"] != SCHEMA:
        raise KitSchemaError(
            f"a kit of format {str(manifest['schema'])[:40]!r}; this version reads format {SCHEMA}",
            "pack the kit again with this version of edgeser, or install the version that packed it",
        )
    check_manifest(manifest)
    if write_json_bytes(manifest) != content:
        raise KitDamaged("the kit's manifest is not written as edgeser writes it", AGAIN)
    return manifest


def _read_members(manifest: Mapping[str, Any], archive: Archive) -> dict[str, bytes]:
    """Every member but the wheels, each compared with both of its hashes; wheels are compared and not kept."""
    listed, found = manifest["members"], set(archive.entries) - {MANIFEST, SIGNATURE}
    for name in sorted(set(listed) - found):
        raise KitDamaged(f"the kit lacks {name}", AGAIN)
    for name in sorted(found - set(listed)):
        raise KitDamaged(f"the kit holds {name}, which its manifest does not know", AGAIN)
    for name in sorted(set(REQUIRED) - found):
        raise KitError(f"the kit lacks {name}", "pack the kit again")
    members = {}
    for name in sorted(found):
        content = read_member(archive, name, listed[name], keep=name != ENCODER and not name.startswith(WHEELS))
        if content is not None:
            members[name] = content
    return members


def read_member(archive: Archive, name: str, stated: Mapping[str, Any], keep: bool = True) -> bytes | None:
    """The content of a member; with ``keep`` false its stored bytes are only hashed, a piece at a time.

    Raises:
        KitDamaged: It is not what the manifest states; nothing was unpacked then.
    """
    entry, digest, pieces = archive.entries[name], sha256(), []
    damaged = KitDamaged(f"{name} is not what the kit's manifest states", AGAIN)
    if (entry.file_size, entry.compress_size) != (stated["bytes"], stated["packed_bytes"]):
        raise damaged
    for piece in archive.chunks(name):
        digest.update(piece)
        if keep:
            pieces.append(piece)
    if digest.hexdigest() != stated["packed_sha256"]:
        raise damaged
    content = unpack(entry, b"".join(pieces)) if keep else None
    if content is not None and sha256(content).hexdigest() != stated["sha256"]:
        raise damaged
    return content


def _check_agreement(kit: Kit) -> None:
    again = "pack the kit again"
    _check_encoder(kit)
    distilled, spec = kit.distilled, kit.frontend
    if kit.manifest.get("labels") != list(distilled.names) or kit.manifest.get("frontend") != spec.to_json():
        raise KitError("the kit's manifest and its distilled set name other emotions or another front-end", again)
    if kit.graph.input_shape != distilled.input_shape:
        raise KitError(f"the student reads {kit.graph.input_shape}, the items are {distilled.input_shape}", again)
    if kit.graph.shapes[kit.graph.output] != (len(distilled.names),):
        raise KitError(f"the student has another number of outputs than the {len(distilled.names)} emotions", again)
    schedule = distilled.schedule
    needed = [step_name(schedule.optimiser, schedule.batch)]
    needed += [statistics_name(schedule.batch)] if kit.graph.statistics else []
    for name in needed:
        if name not in kit.members:
            raise KitError(f"the kit lacks {name}", again)
    _check_graphs(kit)
    kit.weights  # noqa: B018  reading them is the check
    if kit.golden.logits.shape[1] != len(distilled.names):
        raise KitError("the kit's golden values are of another student", again)
    _check_texts(kit)
    stored = read_arrays(kit.members[FRONTEND])
    shapes = {"window": (spec.n_fft,), "filters": (spec.mels, spec.n_fft // 2 + 1)}
    same = {name: array.shape for name, array in stored.items()} == shapes and all(
        np.allclose(stored[name], array, rtol=0, atol=FRONTEND_TOLERANCE)
        for name, array in frontend_arrays(spec).items()
    )
    if not same:
        raise KitError("this version computes another front-end than the one that packed the kit", again)


def _check_graphs(kit: Kit) -> None:
    """A runtime would read, for a tensor that lies elsewhere, whatever file the kit's maker names."""
    for name, content in kit.members.items():
        if name.endswith(".onnx"):
            _require_no_outside(name, content)


def _require_no_outside(name: str, content: bytes) -> None:
    if OUTSIDE in content:
        raise KitError(f"{name} names data outside the kit", "get the kit from someone you trust")


def _check_encoder(kit: Kit) -> None:
    """The card belongs to the set, and the file, where the kit brings one, to the card."""
    card, listed = kit.encoder, kit.manifest["members"].get(ENCODER)
    if card is None:
        if listed is not None:
            raise KitError(f"the kit brings an encoder without {ENCODER_CARD}", "pack the kit again")
        return
    if card.size != kit.distilled.input_shape[0]:
        raise KitError(f"the items are no vectors of the encoder {card.name}", "pack the kit again")
    if listed is not None and (listed["sha256"] != card.sha256 or listed["bytes"] > MOST_BYTES):
        raise KitDamaged(f"the kit's encoder is not the file that {ENCODER_CARD} names", AGAIN)


def _check_texts(kit: Kit) -> None:
    card = kit.members[CARD].decode("utf-8", errors="surrogateescape")  # bytes that are no UTF-8 cannot be printed then
    if len(card) > MAX_MANIFEST_BYTES or not all(map(is_text, card.split("\n"))):
        raise KitError("the kit's card is not plain text", "get the kit from someone you trust")
