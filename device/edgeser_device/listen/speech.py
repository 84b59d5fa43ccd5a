"""Begin and end of speech: from the gate's probability and the level of each chunk to stretches of chunks.

    boundaries = Boundaries(SpeechSettings(), spec.trim_db)
    for chunk in chunks:
        turn = boundaries.push(gate(chunk), level_db(chunk))    # None, Begin(chunk) or End(first, last, chunk)

``Boundaries`` counts chunks: it knows neither sound nor clock. ``Edges`` finds soft beginnings and ends, which belong
to speech although the gate does not take them for it. A recording is trimmed by level alone, so a breath or the end of
a sigh counts there, while a gate often gives them no more than it gives to noise. Here a chunk sounds when it is no
further under the loudest one than a recording's edges may be, and well above the quietest of the last seconds, which is
what the room sounds like. Nothing counts that is far from what the gate takes for speech.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from edgeser_device.errors import ListenError
from edgeser_device.listen.gate import CHUNK_SECONDS, SILENCE_DB


@dataclass(frozen=True)
class SpeechSettings:
    """When somebody speaks.

    Attributes:
        threshold: Probability of speech, above 0 to 1, with which it begins; it goes on down to 0.15 less.
        onset: Seconds above the threshold before it is believed.
        pause: Seconds below before speech has ended: longer pauses cut, shorter ones do not.
        tail: Seconds after the last speech within which a sound that fades still belongs to it.
        margin: Seconds kept before the first and after the last of it; the silence in them is trimmed again as in
            every recording.
        longest: Seconds after which speech without a pause is judged and begun anew.
    """

    threshold: float = 0.5
    onset: float = 0.096
    pause: float = 0.448
    tail: float = 0.48
    margin: float = 0.448
    longest: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ListenError(f"a gate's threshold of {self.threshold:g}", "give a number above 0 and not above 1")
        if not 0.1 <= self.pause <= 5:
            raise ListenError(f"a pause of {self.pause:g} s between utterances", "give 0.1 to 5 seconds")
        if not 1 <= self.longest <= 60:
            raise ListenError(f"utterances of up to {self.longest:g} s", "give 1 to 60 seconds")


@dataclass(frozen=True)
class Begin:
    """Speech began: ``chunk`` is the first one that counts, margin included."""

    chunk: int


@dataclass(frozen=True)
class End:
    """Speech ended.

    Attributes:
        first: The first chunk that counts.
        last: The last one in which speech was heard.
        chunk: The first one after it that does not count; margin included, so it may not have come yet.
    """

    first: int
    last: int
    chunk: int


ABOVE_ROOM_DB = 10.0
"""A room's own noise swings by less in 32 ms."""
ROOM_SECONDS = 5.0
"""Seconds that are remembered; the quietest chunk of them is what the room sounds like."""
REACH_SECONDS = 1.0
"""Seconds by which speech may have begun before the gate heard it."""


class Edges:
    """Levels of the last chunks, which say what sounds."""

    def __init__(self, below_peak_db: float) -> None:
        """Start with nothing heard; ``below_peak_db`` is the front-end's ``trim_db``."""
        self._below = below_peak_db
        self._length = round(ROOM_SECONDS / CHUNK_SECONDS)
        self.restart()

    def restart(self) -> None:
        """Silence came before the next chunk, or nothing."""
        self._levels = deque([SILENCE_DB], maxlen=self._length)
        self._peak = SILENCE_DB

    def push(self, level: float) -> bool:
        """Take the level of the next chunk, dB; whether it sounds."""
        sounding = self._sounds(level)
        self._levels.append(level)
        self._peak = max(self._peak, level)
        return sounding

    def reach_back(self, since: int, gap: int) -> int:
        """Speech begins: how many chunks before the last ``since`` sound, with gaps of less than ``gap`` chunks."""
        levels = list(self._levels)
        self._peak = max(levels[-since:])
        before = levels[: len(levels) - since][::-1][: round(REACH_SECONDS / CHUNK_SECONDS)]
        reached = 0
        for distance, level in enumerate(before, start=1):
            if distance - reached > gap:
                break
            if self._sounds(level):
                reached = distance
        return reached

    def _sounds(self, level: float) -> bool:
        return level >= max(self._peak - self._below, min(self._levels) + ABOVE_ROOM_DB)


Turn: TypeAlias = Begin | End
FADED = 3
"""Chunks without sound after which a fading one is over: a recording's silence is found by frames of four."""
HYSTERESIS = 0.15
"""A probability may fall so far below the threshold inside of speech; Silero's own example uses the same."""


class Boundaries:
    """Counts chunks; see the module."""

    def __init__(self, settings: SpeechSettings, below_peak_db: float = 40.0) -> None:
        """Start with nothing heard; ``below_peak_db`` is the front-end's ``trim_db``."""
        self._settings, self._edges = settings, Edges(below_peak_db)
        self._onset, self._pause, self._tail, self._margin, self._longest = (
            max(1, round(seconds / CHUNK_SECONDS))
            for seconds in (settings.onset, settings.pause, settings.tail, settings.margin, settings.longest)
        )
        self.number = 0
        """Chunks so far."""
        self._above = 0
        self._last, self._heard = -1, -1
        self._first: int | None = None
        self._earliest = 0

    @property
    def open(self) -> bool:
        """Whether somebody speaks."""
        return self._first is not None

    @property
    def kept_before(self) -> int:
        """Chunks that must be remembered while nobody speaks: speech may turn out to have begun so long ago."""
        return self._margin + self._onset + round(REACH_SECONDS / CHUNK_SECONDS)

    def push(self, probability: float, level: float = SILENCE_DB) -> Turn | None:
        """Take the next chunk's probability of speech, and its level in dB."""
        number, self.number = self.number, self.number + 1
        settings, sounding = self._settings, self._edges.push(level)
        if self._first is None:
            self._above = self._above + 1 if probability >= settings.threshold else 0
            if self._above < self._onset:
                return None
            return self._begin(number + 1 - self._onset, number, self._onset)
        if probability >= max(0.01, settings.threshold - HYSTERESIS):
            self._last = self._heard = number
        elif sounding and number - self._heard <= self._tail:
            self._last = number
        # A sound that fades within the pause costs no time; one that goes on is waited for, but not for a pause more.
        ended = number - self._heard >= self._pause and number - self._last >= FADED
        if ended or number + 1 - self._first >= self._longest:
            return self.close()
        return None

    def close(self) -> End:
        """End the speech that is open, because the sound does."""
        end = End(self._first or 0, self._last, self._last + 1 + self._margin)
        self._first, self._above, self._earliest = None, 0, min(self.number, end.chunk)
        return end

    def finish(self) -> Begin | None:
        """Speech that began in the last chunks, too late to be believed before the sound ended."""
        if self._first is not None or not self._above:
            return None
        return self._begin(self.number - self._above, self.number - 1, 1)

    def _begin(self, first: int, last: int, since: int) -> Begin:
        """Speech began at chunk ``first`` by the gate, and may have sounded before the last ``since`` chunks."""
        kept = max(self._earliest, first - self._margin) - self._edges.reach_back(since, self._pause)
        self._first, self._last, self._heard = max(self._earliest, kept), last, last
        return Begin(self._first)

    def restart(self) -> None:
        """Nothing before the next chunk belongs to what comes."""
        self._above, self._earliest = 0, self.number
        self._edges.restart()
