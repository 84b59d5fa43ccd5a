"""Devices that record on this machine, for ``edgeser doctor``: their rates and how loud they are now."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeser_device.listen.capture.backends import load_sounddevice
from edgeser_device.listen.gate import level_db
from edgeser_export.utilities.children import silenced
from edgeser_export.utilities.errors import EdgeserError
from edgeser_export.utilities.words import counted

RATES = (8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000)
METER_SECONDS = 0.5
"""Seconds for which each device is listened to."""
WIDTH = 10
MODEL_RATE = 16_000


@dataclass(frozen=True)
class DeviceInfo:
    """A device that records.

    Attributes:
        number: The number that ``--device`` takes.
        name: The name that ``--device`` takes, too.
        rates: Hz that it accepts in mono.
        level_db: Its level now in dB, full scale 0; None where it could not be opened.
        default: Whether it is what one gets without ``--device``.
    """

    number: int
    name: str
    rates: tuple[int, ...]
    level_db: float | None
    default: bool

    def words(self) -> str:
        """Describe the device in one line, with a level meter."""
        words = f"{self.name}{' (default)' if self.default else ''}:"
        if self.level_db is None:
            return f"{words} cannot be opened"
        filled = round(WIDTH * min(1.0, max(0.0, 1 + self.level_db / 70)))
        rates = ", ".join(f"{rate / 1000:g}" for rate in self.rates)
        return f"{words} {rates} kHz [{'#' * filled}{'.' * (WIDTH - filled)}] {self.level_db:.0f} dB"

    def fault(self) -> str:
        """Advice that lets a model listen to it; empty where one can already."""
        if self.level_db is None:
            return "end the program that holds it (fuser -v /dev/snd/*), or plug it in again"
        fast = max(self.rates, default=0) >= MODEL_RATE
        return "" if fast else f"the models need {MODEL_RATE} Hz: use another microphone"


def list_devices() -> tuple[DeviceInfo, ...]:
    """Every device that records, by PortAudio.

    Raises:
        MissingExtra: sounddevice is not installed.
        MicrophoneError: PortAudio is not installed.
    """
    sounddevice = load_sounddevice()
    with silenced():
        rows = [row for row in sounddevice.query_devices() if row["max_input_channels"] > 0]
        default = sounddevice.default.device[0]
        return tuple(_look_at(sounddevice, row, row["index"] == default) for row in rows)


def _look_at(sounddevice: Any, row: Any, default: bool) -> DeviceInfo:
    rates = tuple(rate for rate in RATES if _accepts(sounddevice, row["index"], rate))
    return DeviceInfo(row["index"], row["name"], rates, _level(sounddevice, row["index"], rates), default)


def _accepts(sounddevice: Any, device: int, rate: int) -> bool:
    try:
        sounddevice.check_input_settings(device=device, samplerate=rate, channels=1, dtype="float32")
    except (sounddevice.PortAudioError, ValueError):
        return False
    return True


def _level(sounddevice: Any, device: int, rates: tuple[int, ...]) -> float | None:
    heard: list[Any] = []
    rate = MODEL_RATE if MODEL_RATE in rates else max(rates, default=0)
    if not rate:
        return None
    try:
        settings = {"device": device, "samplerate": rate, "channels": 1, "dtype": "float32"}
        with sounddevice.InputStream(**settings, callback=lambda data, *_: heard.append(data.copy())):
            time.sleep(METER_SECONDS)
    except sounddevice.PortAudioError:
        return None
    return round(level_db(np.concatenate(heard)[:, 0]), 1) if heard else None


def describe_devices() -> list[tuple[str, str, str]]:
    """Lines for ``edgeser doctor``: (what was looked at, what was found, what to do; empty where all is well).

    The first one says whether anything can be listened to; each device has one of its own below it.
    """
    try:
        found = list_devices()
    except EdgeserError as error:
        if shutil.which("arecord"):
            return [("microphone", f"arecord only ({error.message})", "")]
        return [("microphone", error.message, error.hint)]
    if not found:
        return [("microphone", "none", "plug one in, and look at arecord -l")]
    usable = sum(not device.fault() for device in found)
    hint = "" if usable else "see the lines below"
    lines = [(f"microphone {device.number}", device.words(), device.fault()) for device in found]
    return [("microphone", f"{usable} of {counted(len(found), 'device')} can be used", hint), *lines]
