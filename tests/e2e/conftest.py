"""A virtual microphone, and ``edgeser listen`` as a process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from soak import read_metrics
from virtual_microphone import MissingPackages, VirtualMicrophone, virtual_microphone

DEMO = Path(str(files("edgeser.corpora"))) / "demo_data"
RATE = 16000


@pytest.fixture
def microphone() -> Iterator[VirtualMicrophone]:
    """A microphone that the test speaks into."""
    try:
        with virtual_microphone() as found:
            yield found
    except MissingPackages as error:
        pytest.skip(str(error))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip of 16 bits that begins and ends with sound, so that nothing of it is lost between silences."""
    samples = np.round(soundfile.read(DEMO / "m1_anger_01.ogg", dtype="float32")[0] * 32767).astype(np.int16)
    inside = np.flatnonzero(samples)
    soundfile.write(tmp_path / "clip.wav", samples[inside[0] : inside[-1] + 1], RATE, subtype="PCM_16")
    return tmp_path / "clip.wav"


@pytest.fixture
def to_play(clip: Path) -> Path:
    """The clip between silences, as a player needs it: a sink swallows what comes first."""
    samples, _ = soundfile.read(clip, dtype="int16")
    silence = np.zeros(RATE, np.int16)
    path = clip.with_name("to_play.wav")
    soundfile.write(path, np.concatenate([silence, samples, silence]), RATE, subtype="PCM_16")
    return path


class Listening:
    """``edgeser listen MODEL`` beside the test."""

    def __init__(self, folder: Path, environment: dict[str, str], program: list[str], words: list[str]) -> None:
        self._out, self._err = folder / "listen.out", folder / "listen.err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [*program, "listen", *words], cwd=folder, env=environment, stdout=out, stderr=err
            )

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events so far."""
        return [json.loads(line) for line in self._out.read_text().splitlines() if line.endswith("}")]

    @property
    def finals(self) -> list[dict[str, Any]]:
        """The answers so far."""
        return [event for event in self.events if event["final"]]

    @property
    def said(self) -> str:
        """What it said on stderr."""
        return self._err.read_text()

    @property
    def url(self) -> str:
        """Its page."""
        self.wait_until(lambda: "page: " in self.said)
        found = re.search(r"page: (\S+)\n", self.said)
        assert found is not None
        return found[1]

    def counters(self) -> dict[str, float]:
        """What /metrics says."""
        with urllib.request.urlopen(f"{self.url}metrics", timeout=30) as answer:
            return dict(read_metrics(answer.read().decode()))

    def wait_until(self, true: Callable[[], object], timeout: float = 90) -> None:
        """Wait for something that the program does."""
        until = time.monotonic() + timeout
        while not true():
            assert self.process.poll() is None, f"it ended: {self.said}"
            assert time.monotonic() < until, f"it did not happen: {self.said}"
            time.sleep(0.1)

    def end(self) -> int:
        """Its exit code after SIGTERM."""
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture
def listening(tmp_path: Path, microphone: VirtualMicrophone) -> Iterator[Callable[..., Listening]]:
    """Start ``edgeser listen`` with the virtual microphone; returns when it listens."""
    started: list[Listening] = []

    def start(*words: object, program: list[str] | None = None, **more: str) -> Listening:
        python = program or [sys.executable, "-m", "edgeser"]
        found = Listening(tmp_path, microphone.env | more, python, [*map(str, words), "--json"])
        started.append(found)
        found.wait_until(lambda: "listening to" in found.said and microphone.listeners())
        return found

    yield start
    for found in started:
        if found.process.poll() is None:
            found.process.kill()
        found.process.wait()
