"""A long recording as a list of its utterances, each with its time and its emotion, in memory that does not grow.

for row in segments_of(recogniser, Path("evening.wav")):
    row.began, row.ended, row.emotion
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeser_device.data.audio import read_blocks
from edgeser_device.listen.gate import open_gate
from edgeser_device.listen.live import Listener, ListenSettings
from edgeser_device.model.predict import Recogniser
from edgeser_device.model.voice import State


@dataclass(frozen=True)
class Segment:
    """One utterance of a recording.

    Attributes:
        file: The recording.
        began: Second at which it begins.
        ended: Second at which the last of it was heard.
        emotion: The most probable one; None where the state names none.
        state: What may be said; see :data:`edgeser_device.model.voice.State`.
        probabilities: Probability of each emotion, averaged over the windows.
    """

    file: Path
    began: float
    ended: float
    emotion: str | None
    state: State
    probabilities: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "file": str(self.file), "probabilities": dict(self.probabilities)}


def segments_of(recogniser: Recogniser, path: Path) -> Iterator[Segment]:
    """The utterances of a recording, as ``edgeser listen`` finds them, at the level that the file has.

    The file is read in pieces, so an hour takes no more memory than a minute.

    Raises:
        AudioError: It cannot be read.
    """
    rate = recogniser.frontend.rate
    listener = Listener(recogniser, open_gate(None, rate), ListenSettings(gain_db=0.0))

    def events() -> Iterator[Any]:
        for block in read_blocks(path, rate):
            yield from listener.push(block, behind=True)
        yield from listener.finish()

    for event in events():
        if event.final:
            yield Segment(path, event.began, event.ended, event.emotion, event.state, event.probabilities)
