"""The ways to record from a device: PortAudio, by the package sounddevice, or ``arecord`` of alsa-utils without it.

    stream = open_portaudio(None, 16000, queue, wrong=frozenset())

A backend tries rates and channels until the device accepts them; its stream puts blocks into the queue.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from edgeser_device.errors import MicrophoneError
from edgeser_device.listen.capture.blocks import BLOCK_SECONDS, BlockQueue
from edgeser_export.utilities.children import silenced
from edgeser_export.utilities.errors import MissingExtra

USUAL_RATES = (48_000, 44_100, 32_000, 96_000)
"""Hz that nearly every device knows, tried after its own."""
NARROW_RATES = (8_000, 11_025)
"""Hz of telephones and headsets: too few for the models, and worth a sentence of their own."""


@dataclass(frozen=True)
class Attempt:
    """One way to open a device."""

    rate: int
    channels: int


Stream: TypeAlias = "ArecordStream | PortAudioStream"
"""An open device, with its name and rate in Hz, that puts blocks into the queue."""
Try: TypeAlias = Callable[[Attempt], Stream]
"""Opens the device in one way; raises OSError or a subclass of it where the device refuses."""
Open: TypeAlias = Callable[[str | None, int, BlockQueue, frozenset[int]], Stream]
"""(device's name or number, wanted rate in Hz, queue, rates that are known to be wrong) -> stream."""


def attempts(wanted: int, own: int | None, wrong: frozenset[int] = frozenset()) -> Iterator[Attempt]:
    """The ways to open a device, best first: the model's rate, the device's own, the usual ones; mono before stereo.

    Args:
        wanted: The model's rate in Hz. No lower one is tried: the upper bands would be empty.
        own: The device's own rate in Hz; None if it is not known.
        wrong: Rates that the device accepted and did not keep.
    """
    rates = [wanted, *((own,) if own else ()), *USUAL_RATES]
    for rate in dict.fromkeys(rates):
        if rate >= wanted and rate not in wrong:
            yield Attempt(rate, 1)
            yield Attempt(rate, 2)


def open_first(name: str, wanted: int, own: int | None, wrong: frozenset[int], opener: Try) -> Stream:
    """The stream of the first attempt that the device accepts.

    Raises:
        MicrophoneError: It accepts none.
    """
    refusal = "it accepts no rate"
    for attempt in attempts(wanted, own, wrong):
        try:
            return opener(attempt)
        except OSError as error:
            refusal = refusal if refusal != "it accepts no rate" else str(error)
    for rate in NARROW_RATES:
        try:
            opener(Attempt(rate, 1)).close()
        except OSError:
            continue
        raise MicrophoneError(
            f"the microphone {name} records at {rate} Hz only, the model needs {wanted}",
            "use another microphone; edgeser doctor lists those that are here",
        )
    raise MicrophoneError(
        f"the microphone {name} cannot be opened: {' '.join(refusal.split())}",
        "close the program that uses it, or choose another one: edgeser doctor lists them",
    )


INACCURATE = re.compile(r"rate is not accurate \(requested = \d+Hz, got = (\d+)Hz\)")
"""With this remark arecord goes on, at another rate than it was asked for."""
START_SECONDS = 5.0


class ArecordRefusal(OSError):
    """arecord ended, or records at another rate."""


class ArecordStream:
    """A device that arecord records from."""

    def __init__(self, device: str, attempt: Attempt, queue: BlockQueue) -> None:
        self.name, self.rate = device, attempt.rate
        self._channels, self._queue = attempt.channels, queue
        command = ["arecord", "-D", device, "-t", "raw", "-f", "S16_LE", "--buffer-time=500000"]
        self._process = subprocess.Popen(
            [*command, "-r", str(attempt.rate), "-c", str(attempt.channels)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._remarks = b""
        self._began = threading.Event()
        for work in (self._read, self._listen_to_remarks):
            threading.Thread(target=work, name=f"arecord {work.__name__}", daemon=True).start()
        self._began.wait(START_SECONDS)
        remarks = self._remarks.decode(errors="replace")
        other = INACCURATE.search(remarks)
        if other is None and not self.ended and self._began.is_set():
            return
        self.close()
        if other is not None:
            raise ArecordRefusal(f"it records at {other[1]} Hz")
        raise ArecordRefusal(remarks.strip().splitlines()[-1] if remarks.strip() else "arecord delivers no sound")

    @property
    def ended(self) -> bool:
        """Whether arecord ended."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End arecord."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        size = 2 * self._channels * round(BLOCK_SECONDS * self.rate)
        while self._process.stdout is not None and len(data := self._process.stdout.read(size)) == size:
            samples = np.frombuffer(data, "<i2").reshape(-1, self._channels).astype(np.float32) / np.float32(32768)
            self._queue.put(samples, self.rate)
            self._began.set()
        self._process.wait()
        self._began.set()

    def _listen_to_remarks(self) -> None:
        while self._process.stderr is not None and (line := self._process.stderr.readline()):
            self._remarks = (self._remarks + line)[-4096:]


def open_arecord(device: str | None, rate: int, queue: BlockQueue, wrong: frozenset[int]) -> Stream:
    """Open ALSA's ``device``; a number is a card; None for the default.

    Raises:
        MicrophoneError: arecord is not installed, or the device cannot be opened.
    """
    if shutil.which("arecord") is None:
        raise MicrophoneError("neither PortAudio nor arecord is installed", "sudo apt install libportaudio2 alsa-utils")
    name = "default" if device is None else f"hw:{device}" if device.isdigit() else device
    return open_first(name, rate, None, wrong, lambda attempt: ArecordStream(name, attempt, queue))


LATENCY_SECONDS = 0.1
"""Seconds of sound that PortAudio may buffer: a busy board must not lose samples."""
NO_DEVICE = "plug one in, and look at arecord -l; edgeser listen --wav FILE needs none"


class PortAudioRefusal(OSError):
    """PortAudio's errors are no OSErrors."""


class PortAudioStream:
    """A device that PortAudio records from; ``ended`` where that is known: one may also fall silent without a word."""

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
