"""Sources of sound: a recording, or a microphone that may come and go, behind the same few members.

    for sound in Microphone(None, "portaudio", 16000, counters).sounds():
        if sound is not None:                       # None: nothing came for half a second
            listener.push(sound.samples, sound.arrived, sound.behind)

A device is opened at the model's rate or at its own, then resampled with a state that lives from block to block. What
has piled up is taken at once. A device that goes away is tried again, after 0.5, 1, 2 and at most 30 seconds. Some USB
microphones accept 16 kHz and record at 48: ``ClockCheck`` notices a device that does not keep its rate.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.audio import OFFSET_BLOCKS, Mixdown, channels_of, read_blocks
from edgeser_device.errors import ListenError, MicrophoneError
from edgeser_device.listen.capture.backends import Open, Stream, load_sounddevice, open_arecord, open_portaudio
from edgeser_device.listen.capture.blocks import Block, BlockQueue
from edgeser_device.listen.events import Condition, Counters
from edgeser_export.utilities.errors import EdgeserError, find_row


class Recording:
    """A file as a source.

    Attributes:
        condition: Whether sound arrives.
        words: One line that says the same.
        source: The file's path as text.
    """

    condition: Condition = "listening"

    def __init__(self, path: Path, rate: int, realtime: bool, loop: bool = False) -> None:
        """A file.

        Args:
            path: Anything that libsndfile reads.
            rate: The model's, in Hz.
            realtime: Whether sound comes as fast as it was spoken.
            loop: Whether it begins again when it ends.
        """
        self._path, self._rate, self._realtime, self._loop = path, rate, realtime, loop
        self.source = str(path)
        self.words = f"listening to {path}"

    def sounds(self) -> Iterator[Sound | None]:
        """The whole file; errors as :func:`edgeser_device.data.audio.read_blocks`."""
        while True:
            for samples in read_blocks(self._path, self._rate, self._realtime):
                yield Sound(samples, time.monotonic(), behind=False)
            if not self._loop:
                return

    def close(self) -> None:
        """Nothing to stop."""


FIRST_SECONDS, LONG_SECONDS = 1.0, 5.0
"""The first second is not counted: buffers fill. After five more the rate is known."""
TOLERANCE = 0.3
"""Crystals are wrong by 0.01 %, a rate that was not taken by a factor of 2.7 or 3; load makes the last block late."""


class ClockCheck:
    """Counts samples against the clock, once."""

    def __init__(self, rate: int) -> None:
        """Check a device that says it records at ``rate`` Hz."""
        self._rate = rate
        self._first: float | None = None
        self._base: float | None = None
        self._samples = 0
        self.measured: float | None = None
        """Hz; None until it is known."""

    @property
    def wrong(self) -> bool:
        """Whether another rate was measured than the device stated."""
        return self.measured is not None and abs(self.measured / self._rate - 1) > TOLERANCE

    def push(self, samples: int, captured: float) -> None:
        """So many samples, the last of which came at ``captured`` seconds."""
        if self.measured is not None:
            return
        if self._first is None:
            self._first = captured
        if self._base is None:
            if captured - self._first >= FIRST_SECONDS:
                self._base = captured
            return
        self._samples += samples
        if captured - self._base >= LONG_SECONDS:
            self.measured = self._samples / (captured - self._base)


BACKENDS: Mapping[str, Open] = {"portaudio": open_portaudio, "arecord": open_arecord}
"""PortAudio first."""
TICK_SECONDS = 0.5
STALL_SECONDS = 2.0
"""Without a block for so long, a device is gone, whatever the system says."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds before a device is tried again; doubled each time."""
MUTE_SECONDS = 5.0
"""Digital silence for so long is told to the user."""
GAP_SECONDS = 1.0
"""Silence put in the place of what was lost, so that what was being said is answered."""


@dataclass(frozen=True)
class Sound:
    """Sound at the model's rate.

    Attributes:
        samples: Float32 (n,), mono, full scale 1.0.
        arrived: When the last of it was recorded, by ``time.monotonic``.
        behind: Whether more than two blocks had piled up.
    """

    samples: NDArray[np.float32]
    arrived: float
    behind: bool


def choose_backend() -> str:
    """PortAudio where it is installed, else arecord."""
    if find_spec("sounddevice") is None:
        return "arecord"
    try:
        load_sounddevice()
    except MicrophoneError:
        return "arecord"
    return "portaudio"


class Microphone:
    """A microphone as a source, with the attributes of :class:`Recording`; see the module."""

    def __init__(self, device: str | None, backend: str | None, rate: int, counters: Counters) -> None:
        """Open it.

        Args:
            device: Name, part of a name or number; None for the default.
            backend: A row of ``BACKENDS``; None for the first that works here.
            rate: The model's, in Hz.
            counters: The numbers that it adds to.

        Raises:
            MicrophoneError: There is none, it cannot be opened, or does not record at ``rate`` or more.
            ListenError: There is no such backend.
            MissingExtra: The backend's package is not installed.
        """
        self._open = find_row(BACKENDS, backend or choose_backend(), "backend", ListenError)
        self._device, self._rate = device, rate
        self._counters = counters
        self._queue = BlockQueue(counters)
        self._wrong: frozenset[int] = frozenset()
        self._zeros = 0.0
        self.condition: Condition = "listening"
        self.words = ""
        self._stream = self._start()

    @property
    def source(self) -> str:
        """The device and its rate."""
        return f"{self._stream.name}, {self._stream.rate} Hz"

    def close(self) -> None:
        """Stop recording."""
        self._stream.close()

    def sounds(self) -> Iterator[Sound | None]:
        """Sound as it comes, for ever; None at least twice a second when there is none."""
        last = time.monotonic()
        while True:
            blocks = self._queue.take(TICK_SECONDS)
            if blocks:
                last = blocks[-1].captured
                yield self._sound(blocks)
                if self._clock.wrong:
                    yield from self._reopen_at_another_rate()
            elif self._stream.ended or time.monotonic() - last > STALL_SECONDS:
                yield from self._lose_and_return()
                last = time.monotonic()
            else:
                yield None

    def _start(self) -> Stream:
        self._queue.clear()
        stream = self._open(self._device, self._rate, self._queue, self._wrong)
        self._mixdown = Mixdown(OFFSET_BLOCKS)
        self._clock = ClockCheck(stream.rate)
        self._resampler = _resampler(stream.rate, self._rate)
        self._tell("listening", f"listening to {stream.name} at {stream.rate} Hz")
        return stream

    def _sound(self, blocks: list[Block]) -> Sound:
        mono = np.concatenate([self._mixdown.follow(block.samples) for block in blocks])
        self._clock.push(len(mono), blocks[-1].captured)
        self._watch_for_zeros(mono)
        samples = mono if self._resampler is None else self._resampler.resample_chunk(mono, last=False)
        return Sound(np.ascontiguousarray(samples), blocks[-1].captured, behind=len(blocks) > 2)

    def _watch_for_zeros(self, samples: NDArray[np.float32]) -> None:
        if samples.any():
            self._zeros = 0.0
            if self.condition == "silent":
                self._tell("listening", f"listening to {self.source}")
            return
        self._zeros += len(samples) / self._stream.rate
        if self._zeros > MUTE_SECONDS and self.condition == "listening":
            self._tell("silent", f"{self.source} delivers digital silence; is it muted, or the wrong --device?")

    def _lose_and_return(self) -> Iterator[Sound | None]:
        name, wait = self._stream.name, FIRST_WAIT
        self._stream.close()
        self._counters.lost += 1
        yield Sound(np.zeros(round(GAP_SECONDS * self._rate), np.float32), time.monotonic(), behind=True)
        while True:
            self._tell("lost", f"the microphone {name} is gone; it is tried again")
            until = time.monotonic() + wait
            while time.monotonic() < until:
                yield None
                time.sleep(min(TICK_SECONDS, max(0.0, until - time.monotonic())))
            try:
                self._stream = self._start()
            except EdgeserError:
                wait = min(LONGEST_WAIT, 2 * wait)
                continue
            self._counters.reopened += 1
            return

    def _reopen_at_another_rate(self) -> Iterator[Sound | None]:
        self._wrong |= {self._stream.rate}
        self._stream.close()
        yield Sound(np.zeros(round(GAP_SECONDS * self._rate), np.float32), time.monotonic(), behind=True)
        self._stream = self._start()
        self._counters.reopened += 1

    def _tell(self, condition: Condition, words: str) -> None:
        self.condition, self.words = condition, words


def given_blocks(blocks: Iterable[NDArray[Any]], found: int, rate: int) -> Iterator[NDArray[np.float32]]:
    """Blocks that a program hands over, as a microphone's are taken.

    Args:
        blocks: Samples as :func:`edgeser_device.data.audio.hear_array` takes them, of any lengths.
        found: Their sampling rate in Hz.
        rate: The wanted one in Hz.

    Returns:
        Float32 (n,) each, mono, full scale 1.0.

    Raises:
        AudioError: A block is no sound.
    """
    mixdown, resampler = Mixdown(OFFSET_BLOCKS), _resampler(found, rate)
    for block in blocks:
        if len(block):
            mono = mixdown.follow(channels_of(block, found))
            yield mono if resampler is None else resampler.resample_chunk(mono, last=False)
    if resampler is not None:
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


Source: TypeAlias = Recording | Microphone
"""Something that is listened to."""


def _resampler(found: int, wanted: int) -> Any:
    if found == wanted:
        return None
    import soxr

    return soxr.ResampleStream(found, wanted, 1, dtype="float32", quality="HQ")
