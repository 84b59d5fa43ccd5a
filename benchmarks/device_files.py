"""Rows of benchmarks/device.py about a model's files: what eight bits cost, and how fast and small they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import personal
from device_training import HERE, ONE_THREAD, Place

from edgeser_device.bench.bench import file_of, run_bench
from edgeser_device.frontend import FrontendSpec
from edgeser_device.kit.kit import Kit, read_kit
from edgeser_device.model.model import load_model
from edgeser_device.personal.fine_tune import uar
from edgeser_export.runtimes import Model as LoadedModel
from edgeser_export.runtimes import load
from edgeser_export.writers.formats import FORMATS

Outputs = Callable[[np.ndarray], np.ndarray]
"""Windows, float32 (windows, 1, mels, frames), to probabilities (windows, classes)."""


@cache
def speech(corpus: str, folder: Path, kit: Path) -> personal.Speech:
    """The test speakers' clips as windows, normalised as the kit's student reads them."""
    return personal.read_speech(read_kit(kit), corpus, folder, "test")


def judged(place: Place, corpus: str, kit: Kit, sides: Mapping[str, Outputs]) -> dict[str, Any]:
    """UAR of each side on the test speakers, and the share of clips of which it says what the first one says."""
    clips = speech(corpus, place.folders[corpus], kit.path)
    by_clip = {name: averaged(outputs(clips.windows), clips) for name, outputs in sides.items()}
    first = next(iter(by_clip.values())).argmax(1)
    return {
        "uar": {name: uar(each, clips.classes) for name, each in by_clip.items()},
        "agreement": {name: float((each.argmax(1) == first).mean()) for name, each in by_clip.items()},
        "clips": len(clips.classes),
    }


def averaged(each: np.ndarray, clips: personal.Speech) -> np.ndarray:
    total = np.zeros((len(clips.classes), each.shape[1]))
    np.add.at(total, clips.owners, each)
    return total / np.bincount(clips.owners)[:, None]


def rounded(place: Place, corpus: str) -> dict[str, Any]:
    """Every file of one model a seed against the float32 one of its runtime, on the test speakers."""
    lines, sizes = [], {}
    for seed in range(len(place.runs[corpus])):
        path = place.kit(corpus, seed)
        model = load_model(place.model(path))
        files = {name: model.file(name) for name in FORMATS}
        sides = {name: partial(_said, load(data), model.frontend) for name, data in files.items()}
        lines.append(judged(place, corpus, read_kit(path), sides))
        sizes = {name: len(data) for name, data in files.items()}
    means = {
        name: {key: float(np.mean([line[key][name] for line in lines])) for key in ("uar", "agreement")}
        for name in FORMATS
    }
    return {"each": lines, "files": means, "bytes": sizes}


def _said(loaded: LoadedModel, spec: FrontendSpec, windows: np.ndarray) -> np.ndarray:
    return loaded(windows * np.float32(spec.std) + np.float32(spec.mean))


def inference(place: Place, repeat: int = 400) -> dict[str, Any]:
    """Each file in its runtime, in a fresh process, on one thread; and the front-end in turn with librosa's."""
    model = load_model(place.model(place.kit("ravdess", 0)))
    found = [run_bench(model, None, (1,), repeat).to_json()["results"] for _ in range(place.repeat)]
    keys = ("model_ms_p50", "peak_rss_mb", "frontend_ms_p50", "load_ms")
    names = [file_of(row)[0] for row in found[0]]
    rows = {
        name: {key: float(np.median([rows[number][key] for rows in found])) for key in keys}
        for number, name in enumerate(names)
    }
    pairs = [_frontends() for _ in range(place.repeat)]
    middle = sorted(pairs, key=lambda pair: pair["ratio"])[len(pairs) // 2]
    return {"files": rows, "frontend": middle, "frontends": pairs}


def _frontends() -> dict[str, float]:
    command = [sys.executable, str(HERE / "device_files.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | ONE_THREAD)
    return json.loads(done.stdout)


def frontends(seconds: int = 60) -> dict[str, Any]:
    """Milliseconds for one second of sound, ours and librosa's in turn, medians; and how far the numbers differ.

    "first" is the first call in the process, after the imports; "in_a_row" are medians of half of the seconds one after
    the other, as a recording is computed, when the numbers of the other have left the processor's cache. "in_pieces"
    are medians for one hop, as a microphone gives it, whose frame reaches back into the sound before.
    """
    import librosa

    from edgeser_device.frontend import FrontendSpec, FrontendStream

    spec = FrontendSpec()
    sound = (np.random.default_rng(1).standard_normal((seconds, spec.rate)) * 0.1).astype(np.float32)
    settings = {"n_fft": spec.n_fft, "hop_length": spec.hop, "center": False, "n_mels": spec.mels}

    def theirs(samples: np.ndarray) -> np.ndarray:
        mel = librosa.feature.melspectrogram(y=samples, sr=spec.rate, fmin=spec.fmin, fmax=spec.fmax, **settings)
        return librosa.power_to_db(mel, amin=1e-10, top_db=None)

    calls = {"edgeser": FrontendStream(spec).push, "librosa": theirs}
    first = {name: _milliseconds(call, sound[:1])[0] for name, call in calls.items()}
    medians, in_a_row = (_medians(calls, np.array_split(sound, pieces)) for pieces in (seconds, 2))
    flat = sound.reshape(-1)[: 20 * spec.rate]
    frames = np.lib.stride_tricks.sliding_window_view(flat, spec.n_fft)[:: spec.hop]
    fresh = {"edgeser": FrontendStream(spec).push, "librosa": theirs}
    pieces = {"edgeser": frames[:, -spec.hop :], "librosa": frames}
    in_pieces = {name: float(np.median(_milliseconds(fresh[name], pieces[name]))) for name in fresh}
    difference = float(np.abs(FrontendStream(spec).push(sound[0])[:, :20] - theirs(sound[0])[:, :20]).max())
    return {
        **medians,
        "ratio": medians["librosa"] / medians["edgeser"],
        "in_a_row": {**in_a_row, "ratio": in_a_row["librosa"] / in_a_row["edgeser"]},
        "in_pieces": {**in_pieces, "ratio": in_pieces["librosa"] / in_pieces["edgeser"]},
        "first": first,
        "largest_difference_db": difference,
    }


def _medians(calls: Mapping[str, Callable[[np.ndarray], object]], pieces: list[np.ndarray]) -> dict[str, float]:
    """Milliseconds of a call; each of the calls in turn has a piece of the seconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for piece in pieces:
        for name, call in calls.items():
            times[name] += _milliseconds(call, piece)
    return {name: float(np.median(each)) for name, each in times.items()}


def _milliseconds(call: Callable[[np.ndarray], object], sounds: np.ndarray) -> list[float]:
    times = []
    for each in sounds:
        began = time.perf_counter()
        call(each)
        times.append(1000 * (time.perf_counter() - began))
    return times


def own_clips(place: Place, kits: int = 3) -> dict[str, Any]:
    """benchmarks/personal.py on the first kits, each test speaker as the owner."""
    paths = [place.kit("ravdess", seed) for seed in range(min(kits, len(place.runs["ravdess"])))]
    clips = personal.read_speech(read_kit(paths[0]), "ravdess", place.folders["ravdess"], "test")
    found = []
    for number, path in enumerate(paths):
        folder = place.model(path)
        rows = personal.measure_kit(read_kit(path), folder, clips, draws=1, judged=number == 0)
        found += [{"kit": path.name, **row} for row in rows]
    return {"rows": personal.summarise(found)}


if __name__ == "__main__":
    print(json.dumps(frontends()))
