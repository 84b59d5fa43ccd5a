"""Where speech begins and ends: from the gate's probability of each chunk to stretches of chunks.

    boundaries = Boundaries(SpeechSettings())
    for number, probability in enumerate(...):
        turn = boundaries.push(probability, sounding)   # None, Begin(first chunk) or End(first, last and next chunk)

Pure counting, without sound and without a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from edgeser_device.errors import ListenError
from edgeser_device.listen.gate import CHUNK_SECONDS


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


Turn: TypeAlias = Begin | End
FADED = 3
"""Chunks without sound after which a fading one is over: a recording's silence is found by frames of four."""
HYSTERESIS = 0.15
"""How far below the threshold a probability may fall inside of speech; Silero's own example uses the same."""


class Boundaries:
    """Counts chunks; see the module."""

    def __init__(self, settings: SpeechSettings) -> None:
        self.settings = settings
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
    def onset(self) -> int:
        """Chunks of speech before it is believed."""
        return self._onset

    @property
    def pause(self) -> int:
        """Chunks without speech that end it."""
        return self._pause

    @property
    def kept_before(self) -> int:
        """Chunks that must be remembered while nobody speaks, besides those that :meth:`reach_back` is given."""
        return self._margin + self._onset

    def push(self, probability: float, sounding: bool = False) -> Turn | None:
        """Take the next chunk's probability of speech, and whether it sounds: :mod:`edgeser_device.listen.edges`."""
        number, self.number = self.number, self.number + 1
        settings = self.settings
        if self._first is None:
            self._above = self._above + 1 if probability >= settings.threshold else 0
            if self._above < self._onset:
                return None
            return self._begin(number + 1 - self._onset, number)
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
        return self._begin(self.number - self._above, self.number - 1)

    def reach_back(self, chunks: int) -> Begin:
        """The speech that has just begun began ``chunks`` earlier than the gate says."""
        self._first = max(self._earliest, (self._first or 0) - chunks)
        return Begin(self._first)

    def _begin(self, first: int, last: int) -> Begin:
        self._first, self._last, self._heard = max(self._earliest, first - self._margin), last, last
        return Begin(self._first)

    def restart(self) -> None:
        """Nothing before the next chunk belongs to what comes."""
        self._above, self._earliest = 0, self.number
