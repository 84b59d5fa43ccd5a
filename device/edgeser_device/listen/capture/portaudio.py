"""Recording through PortAudio, by the package sounddevice."""

from __future__ import annotations

import re
from typing import Any

from edgeser_device.errors import MicrophoneError
from edgeser_device.listen.capture.backend import Attempt, Stream, open_first
from edgeser_device.listen.capture.blocks import BLOCK_SECONDS, BlockQueue
from edgeser_export.errors import MissingExtra
from edgeser_export.quiet import silenced

LATENCY_SECONDS = 0.1
"""What PortAudio may buffer: a busy board must not lose samples."""
NO_DEVICE = "plug one in, and look at arecord -l; edgeser listen --wav FILE needs none"


class PortAudioRefusal(OSError):
    """PortAudio's errors are no OSErrors."""


class PortAudioStream:
    """See :class:`edgeser_device.listen.capture.backend.Stream`."""

    def __init__(self, sounddevice: Any, device: int, name: str, attempt: Attempt, queue: BlockQueue) -> None:
        self.name, self.rate = name, attempt.rate
        self.ended = False

        def record(samples: Any, _frames: int, _time: Any, flags: Any) -> None:
            queue.put(samples, attempt.rate)
            if flags.input_overflow:
                queue.count_overflow()

        self._stream = sounddevice.InputStream(
            samplerate=attempt.rate,
            channels=attempt.channels,
            dtype="float32",
            device=device,
            blocksize=round(BLOCK_SECONDS * attempt.rate),
            latency=LATENCY_SECONDS,
            callback=record,
            finished_callback=self._end,
        )
        self._stream.start()

    def _end(self) -> None:
        self.ended = True

    def close(self) -> None:
        """Stop recording; a device that is gone is not asked for what it still has."""
        self._stream.close(ignore_errors=True)


def load_sounddevice() -> Any:
    """The package, with a list of devices that is up to date.

    Raises:
        MissingExtra: It is not installed.
        MicrophoneError: PortAudio itself is not.
    """
    try:
        with silenced():
            import sounddevice
    except ImportError as error:
        raise MissingExtra("sounddevice", "mic") from error
    except OSError as error:
        raise MicrophoneError(
            "the library PortAudio is not installed", "sudo apt install libportaudio2, or alsa-utils for arecord"
        ) from error
    return sounddevice


def open_portaudio(device: str | None, rate: int, queue: BlockQueue, wrong: frozenset[int]) -> Stream:
    """Open the input ``device``, by name, part of a name or number; None for the system's default.

    Raises:
        MissingExtra: sounddevice is not installed.
        MicrophoneError: PortAudio is missing; there is no such device; it cannot be opened.
    """
    sounddevice = load_sounddevice()
    with silenced():
        # PortAudio lists devices once, when it starts: what was plugged in since is seen by starting it anew.
        sounddevice._terminate()
        sounddevice._initialize()
        found = _find(sounddevice, device)

        def opener(attempt: Attempt) -> Stream:
            try:
                return PortAudioStream(sounddevice, found["index"], found["name"], attempt, queue)
            except sounddevice.PortAudioError as error:
                raise PortAudioRefusal(str(error)) from error

        return open_first(found["name"], rate, round(found["default_samplerate"]), wrong, opener)


def _find(sounddevice: Any, device: str | None) -> Any:
    wanted = int(device) if device is not None and re.fullmatch("[0-9]{1,9}", device) else device
    inputs = [row for row in sounddevice.query_devices() if row["max_input_channels"] > 0]
    if not inputs:
        raise MicrophoneError("no microphone was found", NO_DEVICE)
    names = "choose one of: " + ", ".join(f"{row['index']} {row['name']}" for row in inputs)
    try:
        return sounddevice.query_devices(wanted, "input")
    except (sounddevice.PortAudioError, ValueError) as error:
        if device is None:
            raise MicrophoneError("no microphone is the default one", f"{names}, with --device") from error
        raise MicrophoneError(f"there is no microphone {device!r}, or more than one", names) from error
