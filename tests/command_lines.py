"""Command lines made from the program's own tree of verbs and options: right ones, then spoilt in one to three ways."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from device.kits import write_kit

from edgeser.cli.app import command as program
from edgeser.cli.options import READERS
from edgeser_device.kit.kit import read_kit
from edgeser_device.kit.signature import write_pair
from edgeser_device.train.train import Settings, train

NUMBERS = (
    "nan", "inf", "-inf", "1e999", "", " ", "1,5", "\uff10", "1_0", "0x10", "1e", "--", "½", "9" * 400, "-1", "0",
    "1e300",
    "1" * 17, "0.5", "3", "\udcff",
)  # fmt: skip
"""Words for a number; all but the last few are none."""
NO_NUMBERS = (
    "nan",
    "NaN",
    "inf",
    "-inf",
    "infinity",
    "1e999",
    "-1e999",
    "",
    " ",
    "1 ",
    "1,5",
    "\uff10",
    "\u0663",
    "1_0",
    "x",
)
NAMES = (
    "herding", "kcenter", "hard", "soft", "quick", "official",
    "fold:1", "fold:9", "seed:1", "folder", "demo", "ravdess",
    "edgenet", "cnn6:0.1", "cnn6:nan", "rpi4", "rpi5", "onnx", "tflite", "litert", "onnxruntime", "level", "off",
    "silero", "full", "head", "ray", "local", "noise", "mix", "crowd", "anger=joy", "anger=", "3.11", "127.0.0.1:0",
    "h:99999", "original", "generator", "lean", "arecord", "--web",
)  # fmt: skip
"""Words that mean something to one option or another."""
WORDS = ("", " ", "é", "e\u0301", "../x", "a/b", "-", "--", "line\nbreak", "x" * 300, "\udcff", "[red]", "%s", "nan")
CLASSES = ("anger", "neutral", "sadness")


@dataclass(frozen=True)
class Place:
    """Inputs in a folder: a corpus, a run, a kit, a model, keys, a recording, and what is none of these.

    Attributes:
        folder: Where they are, and where command lines are run.
        inputs: Files that no command line may change, by their contents.
    """

    folder: Path
    inputs: dict[Path, bytes] = field(default_factory=dict)

    def require_untouched(self) -> None:
        """Check that the inputs are what they were."""
        for path, content in self.inputs.items():
            assert path.read_bytes() == content, f"{path} was overwritten"


def make_place(folder: Path) -> Place:
    """Make all inputs; takes two seconds."""
    for row, emotion in enumerate(CLASSES):
        for column, speaker in enumerate("abcde"):
            path = folder / "corpus" / emotion / f"{speaker}_1.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            times = np.arange(8000) / 16000
            tone = 0.3 * np.sin(2 * np.pi * (200 + 90 * row + 20 * column) * times)
            soundfile.write(path, tone + np.random.default_rng(row).normal(0, 0.02, 8000), 16000)
    kit = Path(write_kit(folder).path)
    train(read_kit(kit), folder / "model", Settings(steps=2, threads=1))
    write_pair(folder / "lab", 30)
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("not audio")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n of somebody")
    (folder / "page.html").write_text("<!doctype html><p>mine</p>")
    (folder / "settings.toml").write_text("gate = nan\n")
    (folder / "broken.toml").write_text("gate = = 1\n")
    (folder / "vectors.npz").write_bytes(b"PK\3\4 none")
    (folder / "loop").symlink_to("loop")
    kept = [path for path in folder.rglob("*") if path.is_file() and not {"model"} & set(path.parts)]
    return Place(folder, {path: path.read_bytes() for path in kept if "run" not in path.parts})


PATHS = (
    "corpus", "corpus/anger", "corpus/anger/a_1.wav", "run", "run/distilled.safetensors", "test.edgeser", "model",
    "model/student.onnx", "lab.key", "lab.pub", "empty", "notes.txt", "picture.png", "page.html", "settings.toml",
    "broken.toml", "vectors.npz", "loop", "nowhere", "nowhere/below", "notes.txt/below", "x" * 300, "~nobody9/x", "",
    "latin-\udce9.wav", "new.svg", "new.html", "/dev/null", "/proc/self/mem", "..", ".",
)  # fmt: skip
"""Words for a path: of the place's own things, of what is in the way, and of nothing."""

BASES: dict[str, tuple[str, ...]] = {
    "distill": (
        "corpus", "--corpus", "folder", "--ipc", "1", "--method", "random", "--jobs", "1", "--out", "out/run",
        "--width",
        "0.25", "--views", "4", "--set", "experts.count=1", "--set", "experts.steps=4", "--steps", "6",
    ),
    "evaluate": ("run", "--seeds", "1", "--jobs", "1"),
    "compare": ("run", "run"),
    "audit": ("run", "--shadows", "0", "--jobs", "1"),
    "report": ("corpus", "--jobs", "1"),
    "pack": ("run", "--target", "rpi4", "--out", "out/packed.edgeser"),
    "inspect": ("test.edgeser",),
    "keygen": ("lab",),
    "deploy": ("test.edgeser", "pi@127.0.0.1", "--port", "1", "--dry-run"),
    "train-on-device": ("test.edgeser", "--out", "out/model", "--steps", "1", "--threads", "1"),
    "rollback": ("model",),
    "export": ("model", "--format", "onnx", "--out", "out/files"),
    "predict": ("model", "corpus/anger/a_1.wav"),
    "bench": ("model", "--runtime", "none"),
    "listen": ("model", "--wav", "corpus/anger/a_1.wav", "--gate", "level"),
    "record": ("--label", "joy", "--out", "out/clips", "--wav", "corpus/anger/a_1.wav", "--gate", "level"),
    "data list": (),
    "encoder list": (),
    "encoder fetch": ("none-such",),
    "encoder add": ("corpus/anger/a_1.wav",),
    "encoder inspect": ("none-such",),
    "methods": ("mtt",),
    "data check": ("corpus", "--corpus", "folder", "--jobs", "1"),
    "data download": ("iemocap", "--out", "out/data"),
    "device status": ("--folder", "empty"),
    "device install": ("test.edgeser", "--folder", "empty"),
    "device rollback": ("--folder", "empty"),
    "device check": ("--folder", "empty"),
    "device trust": ("lab.key",),
    "device service": ("--folder", "empty"),
}  # fmt: skip
"""A line of each verb that ends in seconds and reaches nothing outside its folder.

``doctor`` looks at the machine, ``demo`` takes minutes, and ``serve`` has no end.
"""
KEPT = {"--wav", "--dry-run", "--folder", "--shadows", "--port", "--jobs"}
"""Options that keep a line short and at home: they are not left out."""
ENDLESS = {"--loop", "--realtime", "--service", "--wheels", "--help", "--mqtt"}
"""Options that a right line could not have: it would go on for ever, or reach the network."""


def verbs() -> dict[str, Any]:
    """The commands of the program by the words that call them."""
    found: dict[str, Any] = {}

    def walk(command: Any, words: tuple[str, ...]) -> None:
        below = getattr(command, "commands", None)
        if below is None:
            found[" ".join(words)] = command
        for name, each in (below or {}).items():
            walk(each, (*words, name))

    walk(program(), ())
    return found


def options(command: Any) -> Iterator[tuple[str, Any]]:
    """The options of a command, each by its first flag, with click's parameter."""
    for parameter in command.params:
        if parameter.param_type_name == "option":
            yield parameter.opts[0], parameter


def is_numeric(parameter: Any) -> bool:
    """Whether a parameter takes a number."""
    return parameter.type.name.partition(" ")[0] in set(READERS) - {"path"}


def wrong_lines(count: int, seed: int) -> list[list[str]]:
    """Command lines of all verbs in turn, each spoilt in one to three ways."""
    chance, known = random.Random(seed), verbs()
    lines = []
    while len(lines) < count:
        for verb in BASES:
            line = [*BASES[verb]]
            for _ in range(chance.choice((1, 1, 2, 3))):
                chance.choice((_add, _add, _add, _add, _replace, _leave_out, _strange))(line, known[verb], chance)
            lines.append([*verb.split(), *line])
    return lines[:count]


def _word(parameter: Any, chance: random.Random) -> str:
    if is_numeric(parameter):
        return chance.choice((*NUMBERS, "1", "2", "4", "0.1", "0.25", "0.9"))
    return chance.choice(PATHS if parameter.type.name == "path" else (*NAMES, *NAMES, *WORDS))


def _add(line: list[str], command: Any, chance: random.Random) -> None:
    """Add an option, right or wrong; it may be there already."""
    found = [(flag, one) for flag, one in options(command) if flag not in ENDLESS | KEPT]
    if found:
        flag, parameter = chance.choice(found)
        line += [flag] if parameter.is_flag else [flag, _word(parameter, chance)]


def _replace(line: list[str], command: Any, chance: random.Random) -> None:
    """Put something else in the place of a value."""
    values = [at for at, word in enumerate(line) if not word.startswith("--") and line[at - 1] not in KEPT]
    if values:
        line[chance.choice(values)] = chance.choice((*PATHS, *WORDS, *NUMBERS))


def _leave_out(line: list[str], command: Any, chance: random.Random) -> None:
    """Leave out a word: a value, a flag or an argument."""
    places = [at for at, word in enumerate(line) if word not in KEPT and line[at - 1] not in KEPT]
    if places:
        del line[chance.choice(places)]


def _strange(line: list[str], command: Any, chance: random.Random) -> None:
    """Add a word that nobody expects."""
    line.insert(chance.randint(0, len(line)), chance.choice((*WORDS, "--no-such-flag", "-x", "extra", "--out=", "@x")))
