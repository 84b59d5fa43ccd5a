"""Listening for a long time: a soak on a virtual microphone, and false alarms; JSON on stdout, words on stderr.

    python tests/soak.py soak MODEL --minutes 60
    python tests/soak.py false-alarms MODEL --minutes 10

MODEL is a folder that train-on-device wrote; speech is the demo corpus's. The soak starts the real program, plays
speech and silence into a null sink of PulseAudio at their own pace, and exits with 1 when a block was dropped, memory
grew by 1 MB or more, the 95th percentile from the end of speech to the answer is 700 ms or more, or the processor's
share is 5 % of a core or more. False alarms are counted through the same listener, faster than time.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile
from virtual_microphone import VirtualMicrophone, virtual_microphone

from edgeser_device.machine import describe_machine

RATE = 16000
PAUSE = 1.5
"""Seconds of silence after each clip of the soak."""
WARM_UP = 20.0
"""Seconds after which memory is what it will be; a soak is longer."""
LIMITS = {"dropped_blocks": 1, "rss_growth_mb": 1.0, "latency_ms_p95": 700.0, "cpu_share": 0.05}
"""What must stay below; see the module."""
AUDIBLE_DB = 30.0
"""Speech ends with the last 10 ms that are less than this under the loudest 10 ms of its clip."""
TEST_SPEAKERS = ("f5", "m5")


def main() -> int:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("soak", "false-alarms"))
    parser.add_argument("model", type=Path)
    parser.add_argument("--minutes", type=float, default=None, help="2 for the soak, 10 for false alarms")
    arguments = parser.parse_args()
    if arguments.what == "soak":
        found = soak(arguments.model, arguments.minutes or 2)
    else:
        found = false_alarms(arguments.model, arguments.minutes or 10)
    print(json.dumps({"machine": describe_machine(), **found}, indent=1))
    broken = [f"{name} is {found[name]}" for name in found.get("broken", ())]
    print("; ".join(broken) or "within all limits", file=sys.stderr)
    return 1 if broken else 0


# The soak ------------------------------------------------------------------------------------------------------------


def soak(model: Path, minutes: float) -> dict[str, Any]:
    """Play speech and silence for so long; what the program did, needed and answered."""
    with tempfile.TemporaryDirectory() as folder, virtual_microphone() as microphone:
        played, truth = write_soak(Path(folder, "soak.wav"), 60 * minutes)
        with (Path(folder) / "stderr").open("w+") as errors, Listening(model, microphone, errors) as program:
            microphone.wait_for_listener()
            player = subprocess.Popen(["paplay", "--device=vsink", str(played)], env=microphone.env)
            memory = program.watch(player)
            time.sleep(3)
            counters, cpu = program.counters(), program.cpu_share()
        events = [json.loads(line) for line in program.lines]
    found = compare([event for event in events if event["final"]], truth)
    late = [row for at, row in memory if at >= WARM_UP]
    half = max(1, len(late) // 4)
    growth = median(late[-half:]) - median(late[:half])
    result = {
        "minutes": minutes,
        "spoken": len(truth),
        **found,
        "events": len(events),
        "dropped_blocks": counters["dropped_blocks"],
        "overflows": counters["overflows"],
        "callback_share_max": counters["callback_share_max"],
        "late_callbacks": counters["late_callbacks"],
        "rss_mb": round(late[-1], 2),
        "rss_growth_mb": round(growth, 3),
        "cpu_share": round(cpu, 4),
    }
    return {**result, "broken": [name for name, limit in LIMITS.items() if not result[name] < limit]}


class Listening:
    """``edgeser listen`` as a process, watched."""

    def __init__(self, model: Path, microphone: VirtualMicrophone, errors: Any) -> None:
        command = [sys.executable, "-m", "edgeser", "listen", str(model), "--json", "--web-address", "127.0.0.1:0"]
        self._errors = errors
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed by __exit__; a full pipe would stop the program
        self._process = subprocess.Popen(
            command, env=microphone.env | {"OMP_NUM_THREADS": "1"}, stdout=self._output, stderr=errors, text=True
        )
        self._began: tuple[float, float] | None = None
        self.lines: list[str] = []

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._output.seek(0)
        self.lines = self._output.read().splitlines()
        self._output.close()

    def watch(self, player: subprocess.Popen[bytes]) -> list[tuple[float, float]]:
        """(seconds, resident MB) each second for as long as something is played."""
        start, found = time.monotonic(), []
        while player.poll() is None:
            if self._process.poll() is not None:
                self._errors.seek(0)
                raise RuntimeError(f"edgeser ended: {self._errors.read()}")
            if self._began is None and time.monotonic() - start > WARM_UP / 2:
                self._began = time.monotonic(), self._cpu_seconds()
            status = Path(f"/proc/{self._process.pid}/status").read_text()
            found.append((time.monotonic() - start, int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024))
            time.sleep(1)
        return found

    def cpu_share(self) -> float:
        """Seconds of processor for each second, since the program was warm."""
        began, used = self._began
        return (self._cpu_seconds() - used) / (time.monotonic() - began)

    def counters(self) -> dict[str, float]:
        """What /metrics says."""
        self._errors.seek(0)
        url = re.search(r"page: (\S+)", self._errors.read())[1]
        with urllib.request.urlopen(f"{url}metrics", timeout=30) as answer:
            return dict(read_metrics(answer.read().decode()))

    def _cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


def read_metrics(text: str) -> Iterator[tuple[str, float]]:
    """(name, value) of every sample, named as in the program."""
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.split()
            yield name.removeprefix("edgeser_").removesuffix("_total"), float(value)


def demo_clips(speakers: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """(emotion, 16-bit samples that begin and end with sound) of the demo corpus's speakers."""
    folder = Path(str(files("edgeser.corpora"))) / "demo_data"
    found = []
    for path in sorted(folder.glob("*.ogg")):
        speaker, emotion, _ = path.stem.split("_")
        if speaker in speakers:
            samples = np.round(soundfile.read(path, dtype="float32")[0] * 32767).astype(np.int16)
            inside = np.flatnonzero(samples)
            found.append((emotion, samples[inside[0] : inside[-1] + 1]))
    return found


def write_soak(path: Path, seconds: float) -> tuple[Path, list[dict[str, Any]]]:
    """A file of speech and silence, and where speech is in it: {emotion, begins, ends} in seconds."""
    random, clips = np.random.default_rng(0), demo_clips(TEST_SPEAKERS)
    place, truth = RATE, []
    with soundfile.SoundFile(path, "w", RATE, 1, subtype="PCM_16") as file:
        file.write(np.zeros(RATE, np.int16))
        while place < seconds * RATE:
            emotion, samples = clips[random.integers(len(clips))]
            truth.append({"emotion": emotion, "begins": place / RATE, "ends": (place + audible_end(samples)) / RATE})
            silence = np.zeros(round(PAUSE * RATE), np.int16)
            file.write(np.concatenate([samples, silence]))
            place += len(samples) + len(silence)
    return path, truth


def audible_end(samples: np.ndarray) -> int:
    """Samples up to the end of what can be heard of a clip."""
    step = RATE // 100
    frames = samples[: len(samples) // step * step].astype(np.float64).reshape(-1, step)
    power = (frames**2).mean(axis=1)
    return int(np.flatnonzero(power > power.max() * 10 ** (-AUDIBLE_DB / 10))[-1] + 1) * step


def compare(finals: list[dict[str, Any]], truth: list[dict[str, Any]]) -> dict[str, Any]:
    """Answers beside what was spoken.

    A clip begins with its first sample that is not zero, which is where its utterance begins in the stream: so the two
    clocks are compared without knowing when the player began.
    """
    offset = finals[0]["began"] - truth[0]["begins"] if finals else 0.0
    late, right = [], 0
    for clip in truth:
        inside = [event for event in finals if clip["begins"] - 0.1 <= event["began"] - offset < clip["ends"]]
        if inside:
            last = inside[-1]
            late.append(1000 * (last["t"] - offset - clip["ends"]) + last["latency_ms"])
            right += last["emotion"] == clip["emotion"]
    share = {f"latency_ms_p{p}": round(float(np.percentile(late, p)), 1) for p in (50, 95, 99)} if late else {}
    return {"answered": len(late), "right": right, **share, "latency_ms_max": round(max(late, default=0.0), 1)}


# False alarms --------------------------------------------------------------------------------------------------------


def false_alarms(model: Path, minutes: float) -> dict[str, Any]:
    """Noise, tones and silence, all that is not speech; what the program says of it."""
    with tempfile.TemporaryDirectory() as folder:
        rows = {}
        for name, samples in not_speech(60 * minutes):
            path = Path(folder, f"{name}.wav")
            soundfile.write(path, samples, RATE, subtype="PCM_16")
            command = [sys.executable, "-m", "edgeser", "listen", str(model), "--wav", str(path), "--json"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            events = [json.loads(line) for line in done.stdout.splitlines()]
            count = {
                state: sum(event["state"] == state for event in events)
                for state in ("no_speech", "too_short", "uncertain", "sure")
            }
            rows[name] = {"seconds": round(len(samples) / RATE), **count}
    sure = sum(row["sure"] for row in rows.values())
    return {"minutes": minutes, "rows": rows, "sure": sure, "broken": ["sure"] if sure else []}


def not_speech(seconds: float) -> Iterator[tuple[str, np.ndarray]]:
    """(name, float32 samples) of equal parts that are ``seconds`` long together."""
    random = np.random.default_rng(0)
    count = round(seconds / 8 * RATE)
    time_ = np.arange(count) / RATE
    swell = 10 ** (-np.interp(time_ % 10, (0, 5, 10), (45, 15, 45)) / 20)  # from -45 to -15 dB and back in ten seconds
    for name, power in (("white noise", 0), ("pink noise", 1), ("brown noise", 2)):
        yield name, (coloured(random, count, power) * swell).astype(np.float32)
    notes = 220 * 2 ** (random.choice([0, 2, 4, 5, 7, 9, 11, 12], size=count // 4000 + 1) / 12)
    pitch = np.repeat(notes, 4000)[:count]
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.005 * np.sin(2 * np.pi * 5.5 * time_))) / RATE
    fade = np.exp(-3 * (np.arange(count) % 4000) / 4000)
    yield "melody", (0.2 * fade * sum(np.sin(k * phase) / k for k in range(1, 7))).astype(np.float32)
    chords = np.repeat(220 * 2 ** (random.integers(0, 12, size=count // 16000 + 1) / 12), 16000)[:count]
    base = 2 * np.pi * np.cumsum(chords) / RATE
    yield "chords", (0.1 * sum(np.sin(base * ratio) for ratio in (1, 5 / 4, 3 / 2, 2))).astype(np.float32)
    yield "sweeps", (0.3 * np.sin(2 * np.pi * np.cumsum(100 * 60 ** ((time_ % 7) / 7)) / RATE)).astype(np.float32)
    hum = sum(np.sin(2 * np.pi * 50 * k * time_) / k for k in (1, 2, 3, 5))
    clicks = (random.random(count) < 1 / RATE) * 0.8
    yield "hum and clicks", (0.05 * hum + clicks).astype(np.float32)
    yield "silence", np.zeros(count, np.float32)


def coloured(random: np.random.Generator, count: int, power: int) -> np.ndarray:
    """Noise whose power falls with the frequency to ``power``, above 20 Hz, with a mean square of 1."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    frequency = np.maximum(np.fft.rfftfreq(count, 1 / RATE), 20)
    noise = np.fft.irfft(spectrum / frequency ** (power / 2), count)
    return noise / noise.std()


if __name__ == "__main__":
    raise SystemExit(main())
