"""What data check passes is what distill accepts, over generated corpora with every defect that is known."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edgeser.cli.entry import main

TINY = ("--ipc", "1", "--method", "random", "--jobs", "1", "--width", "0.1", "--steps", "2", "--views", "2")
LABELS = ("anger", "neutral", "Sad", "colère", "cole\u0300re", "anger ", "laughing", "very_angry", "very angry", "Wut")
ODD_LABELS = ("an\u200eger", "=x", "x" * 60, "caf\udce9", "a#b", ".x")
SPEAKERS = ("anna", "ben", "Anna", "José", "Jose\u0301", "cem", "dora", "01", "1", "2.0", "7", "efe")
ODD_SPEAKERS = ("train", "angry", "a\u202eb", "caf\udce9", "ful l")
RATE = 16000


def sound(seed: int, seconds: float = 0.2, **options: object) -> bytes:
    """A noisy tone of its own for every seed, as a WAV file."""
    times = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(0, 0.02, len(times))
    return wav(0.3 * np.sin(2 * np.pi * (150 + 10 * seed) * times) + noise, **options)


def wav(samples: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", **options)
    return file.getvalue()


DEFECTS: dict[str, Callable[[int], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"version https://git-lfs.github.com/spec/v1\n",
    "cut in the header": lambda seed: sound(seed)[:20],
    "cut": lambda seed: sound(seed)[:3000],
    "no samples": lambda _: wav(np.zeros(0)),
    "nan": lambda _: wav(np.full(3000, np.nan, np.float32), subtype="FLOAT"),
    "silent": lambda _: wav(np.zeros(3000)),
    "constant": lambda _: wav(np.full(3000, 0.1)),
    "one sample": lambda _: wav(np.full(1, 0.1)),
    "short": lambda seed: sound(seed, 0.01),
    "clipped": lambda seed: wav(np.sign(np.sin(np.arange(3000) * (1 + seed) / 50))),
    "stereo": lambda seed: wav(np.random.default_rng(seed).normal(0, 0.1, (3000, 2))),
    "the same": lambda _: sound(0),
}


class Generated:
    """A corpus that is drawn with a seed; about half of them are sound."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = np.random.default_rng(seed)
        self.folder = folder
        self.kind = self.draw(["folder", "manifest"])
        self.odd = self.random.random() < 0.15
        self.bad = float(self.draw([0, 0, 0, 0.02, 0.05, 0.1, 0.4]))
        self.clips = 0
        labels = self.some(LABELS[:3] if self.random.random() < 0.5 else LABELS, ODD_LABELS, [1, 2, 2, 2, 3, 3, 3])
        speakers = self.some(SPEAKERS, ODD_SPEAKERS, [2, 3, 4, 5, 6, 6, 6, 7])
        full = self.random.random() < 0.9
        said = [(a, b) for a in labels for b in speakers if full or self.random.random() < 0.7]
        self.write_folder(said) if self.kind == "folder" else self.write_manifest(said)

    def draw(self, choices: Any) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def some(self, plain: tuple[str, ...], odd: tuple[str, ...], counts: list[int]) -> list[str]:
        names = [plain[at] for at in self.random.permutation(len(plain))[: self.draw(counts)]]
        return [*names, self.draw(odd)] if self.odd and self.random.random() < 0.5 else names

    def write(self, path: str) -> None:
        place = os.fsencode(self.folder / path)
        os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120  names that are not UTF-8
        self.clips += 1
        defect = self.draw(list(DEFECTS)) if self.random.random() < self.bad else ""
        with open(place, "wb") as file:  # noqa: PTH123
            file.write(DEFECTS[defect](self.clips) if defect else sound(self.clips))

    def write_folder(self, said: list[tuple[str, str]]) -> None:
        layout = self.draw(
            [*["{0}/{1}_{2}.wav"] * 5, "{0}/{1}/{2}.wav", "{0}/{1}/{2}.wav", "{1}/{0}/{2}.wav", "all/{0}/{1}/{2}.wav",
             "{0}/train/{1}_{2}.wav", "{1}/{0}_{2}.wav", "{1}_{0}/{2}_x.wav", "{0}_{1}_{2}.wav",
             "{0}/{1}_{2}_\udcff.wav"]
        )  # fmt: skip
        for label, speaker in said:
            for number in range(2):
                self.write(layout.format(label, speaker, number))
        self.folder.mkdir(exist_ok=True)
        if self.random.random() < 0.1:
            (self.folder / "labels.txt").write_text("laughing\nvery_angry\ncolère\n")

    def write_manifest(self, said: list[tuple[str, str]]) -> None:
        self.folder.mkdir(exist_ok=True)
        split = self.random.random() < 0.15
        lines = ["path,emotion,speaker" + (",split" if split else "")]
        for label, speaker in said:
            for number in range(2):
                path = f"clips/{len(lines)}é.wav"
                self.write(path.replace("é", "e\u0301") if self.random.random() < 0.3 else path)
                written = path.replace("/", "\\") if self.random.random() < 0.1 else path
                name = f"{speaker}.0" if speaker.isdigit() and number else speaker
                part = self.draw(["train", "train", "dev", "test"]) if self.random.random() < 0.2 else "train"
                lines.append(f'{written},"{label}",{name}' + (f",{part}" if split else ""))
        if self.random.random() < 0.05:
            lines.append("clips/absent.wav,anger,anna" + (",train" if split else ""))
        text = "\n".join(["sep=,", *lines] if self.random.random() < 0.2 else lines)
        (self.folder / "manifest.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
        known = "\n".join(sorted({each.split("#")[0] for each in LABELS}))
        (self.folder / "labels.txt").write_text(known)


def exit_code(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


def verdicts(seed: int, capfd: pytest.CaptureFixture[str]) -> tuple[int, int, str]:
    """Exit codes of data check and of distill --dry-run, and why it was refused."""
    with tempfile.TemporaryDirectory() as place:
        corpus = Generated(seed, Path(place) / "mine")
        words = (str(corpus.folder), "--corpus", corpus.kind)
        capfd.readouterr()
        checked = exit_code("data", "check", *words, "--jobs", "1", "--json")
        said = capfd.readouterr()
        if checked < 2:
            found = json.loads(said.out)
            assert found["passed"] == (checked == 0)
            assert any(finding["severity"] == "error" for finding in found["findings"]) == (checked == 1)
        distilled = exit_code(
            "distill", *words, *TINY, "--set", "experts.count=1", "--dry-run", "--out", str(Path(place) / "run")
        )
        refused = capfd.readouterr().err
        assert "Traceback" not in said.err + refused
        if checked == 1:
            assert f"error: {found['refusal']}" in refused
        if checked == 2:
            assert said.err == refused
        return checked, distilled, refused.splitlines()[0] if distilled else "accepted"


@pytest.mark.parametrize("seeds", [range(15), pytest.param(range(15, 200), marks=pytest.mark.slow)], ids=str)
def test_the_check_passes_what_distill_accepts(seeds: range, capfd: pytest.CaptureFixture[str]) -> None:
    reasons: Counter[str] = Counter()
    for seed in seeds:
        checked, distilled, reason = verdicts(seed, capfd)
        reasons[reason.split(":")[-1][:70]] += 1
        assert (checked == 0) == (distilled == 0), f"corpus {seed}: {reason}"
    assert len(seeds) / 4 < reasons["accepted"] < 3 * len(seeds) / 4, reasons
