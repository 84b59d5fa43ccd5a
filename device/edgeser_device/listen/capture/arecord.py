"""Recording through ``arecord`` of alsa-utils: what is there where PortAudio is not."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading

import numpy as np

from edgeser_device.errors import MicrophoneError
from edgeser_device.listen.capture.backend import Attempt, Stream, open_first
from edgeser_device.listen.capture.blocks import BLOCK_SECONDS, BlockQueue

INACCURATE = re.compile(r"rate is not accurate \(requested = \d+Hz, got = (\d+)Hz\)")
"""With this remark arecord goes on, at another rate than it was asked for."""
START_SECONDS = 5.0


class ArecordRefusal(OSError):
    """arecord ended, or records at another rate."""


class ArecordStream:
    """See :class:`edgeser_device.listen.capture.backend.Stream`."""

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
