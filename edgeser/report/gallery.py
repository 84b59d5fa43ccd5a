"""Distilled items as pictures and sounds, each beside the recording that is nearest to it.

    recordings = read_recordings(run, workers, folder="")
    gallery = make_gallery(run.distilled(), recordings, most=16)

Distances are those of the audit's copy test: root mean square differences of log-mels at the same mean level and at
the best circular shift, in dB.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser.errors import RunError
from edgeser.privacy.copies import best_shifts, shifted, shifted_distances
from edgeser.privacy.item_sounds import sound_of, spread_over, wav_bytes
from edgeser.privacy.material import read_again
from edgeser.representation.base import Part
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.data.distilled import DistilledSet
from edgeser_device.frontend import FrontendSpec
from edgeser_export.utilities.progress import progress_bar

MOST_REFERENCES = 300
"""Recordings whose distance to the nearest one of another speaker is measured, spread over the corpus."""
LIGHTEST, STRONGEST = 1, 99
"""Percentiles of the log-mels that are drawn darkest and brightest."""


@dataclass(frozen=True)
class Recordings:
    """The training recordings of a run.

    Attributes:
        part: Their log-mels, labels and speakers.
        folder: The folder of the corpus.
        classes: Names of the classes.
    """

    part: Part
    folder: Path
    classes: tuple[str, ...]

    def name(self, number: int) -> str:
        """Path of a recording below the corpus's folder."""
        base = self.folder if self.folder.is_dir() else self.folder.parent
        return Path(os.path.relpath(self.part.utterances[number].path, base)).as_posix()


@dataclass(frozen=True)
class Shown:
    """One log-mel of the page.

    Attributes:
        title: The name of the log-mel.
        notes: Lines below it.
        picture: A data URI of a PNG.
        sound: A data URI, or empty.
    """

    title: str
    notes: tuple[str, ...]
    picture: str
    sound: str


@dataclass(frozen=True)
class Gallery:
    """Pairs of items and recordings.

    Attributes:
        pairs: Each item, with the recording nearest to it, or None where recordings are left out.
        total: Log-mels that the set holds.
        distances: Least and median distance of all items to their nearest recordings in dB, and of recordings to the
            nearest one of another speaker; empty where recordings are left out.
        seconds: Length of one log-mel.
        hertz: Lowest and highest frequency.
    """

    pairs: tuple[tuple[Shown, Shown | None], ...]
    total: int
    distances: Mapping[str, Mapping[str, float]]
    seconds: float
    hertz: tuple[float, float]


def read_recordings(run: Run, workers: Workers, folder: str) -> Recordings:
    """The training recordings' log-mels, from the cache or computed again.

    Args:
        run: A finished run.
        workers: The processes that compute log-mels.
        folder: The present folder of the corpus, if it was moved.

    Raises:
        RunError: They are gone, or are not those that the run was made of.
    """
    hint = (
        f"run: edgeser report {run.folder} --folder DIR, with the folder of the recordings; "
        "--no-recordings makes the report without them"
    )
    material = read_again(run, workers, folder, RunError, hint)
    return Recordings(material.features.train, material.corpus.folder, material.corpus.labels)


def make_gallery(distilled: DistilledSet, recordings: Recordings | None, most: int) -> Gallery:
    """Pictures and sounds of at most ``most`` items, spread over the classes.

    Args:
        distilled: The run's set.
        recordings: The recordings that nearest ones are looked for in; None leaves them out.
        most: Pairs; each takes about 40 kB of the page and a second of work.
    """
    items, spec = distilled.items(), distilled.frontend
    classes = [distilled.names[int(number)] for number in distilled.item_classes()]
    chosen = spread_over(len(items), most)
    nearest, near = _nearest(items, recordings, spec)
    clips = recordings.part.crops[:, 0] if recordings else items
    near_clips = shifted(clips[nearest[chosen]], best_shifts(items[chosen], clips[nearest[chosen]]))
    low, high = np.percentile(items, (LIGHTEST, STRONGEST))
    bounds = float(low), float(high)
    pairs: list[tuple[Shown, Shown | None]] = []
    with progress_bar("sounds", len(chosen)) as advance:
        for done, place in enumerate(chosen, start=1):
            item, part = divmod(int(place), distilled.samples_per_item)
            notes = (f"log-mel {part + 1} of {distilled.samples_per_item}",) if distilled.samples_per_item > 1 else ()
            own = _shown(f"item {item}, {classes[place]}", notes, items[place], spec, bounds)
            other = None
            if recordings is not None:
                number = int(nearest[place])
                utterance = recordings.part.utterances[number]
                where = (f"{utterance.emotion}, speaker {utterance.speaker}", recordings.name(number))
                other = _shown(f"nearest, {near[place]:.1f} dB away", where, near_clips[done - 1], spec, bounds)
            pairs.append((own, other))
            advance(done, "")
    return Gallery(
        pairs=tuple(pairs),
        total=len(items),
        distances=_distances(near, recordings, spec) if recordings else {},
        seconds=spec.frames * spec.seconds_per_frame,
        hertz=(spec.fmin, spec.fmax),
    )


def _nearest(
    items: NDArray[np.float32], recordings: Recordings | None, spec: FrontendSpec
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest recording of each item and its distance in dB; each item itself where there is none to look in."""
    if recordings is None:
        return np.arange(len(items)), np.zeros(len(items))
    found = float(spec.std) * shifted_distances(items, recordings.part.crops[:, 0])
    return found.argmin(1), found.min(1)


def _distances(
    near: NDArray[np.float64], recordings: Recordings, spec: FrontendSpec
) -> Mapping[str, Mapping[str, float]]:
    clips, speakers = recordings.part.crops[:, 0], np.array(recordings.part.speakers)
    chosen = spread_over(len(clips), MOST_REFERENCES)
    found = float(spec.std) * shifted_distances(clips[chosen], clips)
    others = np.where(speakers[chosen][:, None] == speakers[None], np.inf, found).min(1)
    found = others[np.isfinite(others)]
    rows = {"items": near} | ({"recordings": found} if len(found) else {})
    return {name: {"least": float(row.min()), "median": float(np.median(row))} for name, row in rows.items()}


def _shown(
    title: str, notes: tuple[str, ...], item: NDArray[np.float32], spec: FrontendSpec, bounds: tuple[float, float]
) -> Shown:
    return Shown(title, notes, picture_uri(item, bounds), sound_uri(sound_of(item, spec), spec.rate))


def picture_uri(item: NDArray[np.float32], bounds: tuple[float, float]) -> str:
    """A log-mel (mels, frames) as a PNG, low frequencies below; values at ``bounds`` are darkest and brightest."""
    from matplotlib.image import imsave

    data = io.BytesIO()
    unnamed: dict[str, Any] = {"Software": None}  # no version, so that the same item is the same picture
    imsave(
        data, item, cmap="magma", vmin=bounds[0], vmax=bounds[1], origin="lower", format="png", metadata=unnamed
    )  # fmt: skip
    return _data_uri("image/png", data.getvalue())


def sound_uri(sound: NDArray[np.float32], rate: int) -> str:
    """Samples as MP3, which every browser plays; as WAV, twenty times as large, where libsndfile writes no MP3."""
    import soundfile

    if "MP3" not in soundfile.available_formats():
        return _data_uri("audio/wav", wav_bytes(sound, rate))
    data = io.BytesIO()
    soundfile.write(data, sound, rate, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE")
    return _data_uri("audio/mpeg", data.getvalue())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def stand_in_names(speakers: Mapping[str, Any]) -> dict[str, str]:
    """Numbers for names of speakers, in the order of the names."""
    return {name: f"speaker {number}" for number, name in enumerate(sorted(speakers), start=1)}
