"""The queue, the rates, the clock: what can be tested without a device; the rest is tests/e2e/test_listening.py."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, fields

import numpy as np
import pytest

from edgeser_device.data.audio import OFFSET_BLOCKS
from edgeser_device.errors import ListenError, MicrophoneError
from edgeser_device.listen.capture import sources as microphone
from edgeser_device.listen.capture.backends import Attempt, attempts, open_first
from edgeser_device.listen.capture.blocks import NICENESS, BlockQueue, prefer_this_thread
from edgeser_device.listen.capture.sources import ClockCheck, Microphone
from edgeser_device.listen.events import Counters, prometheus_text


def block(value: float) -> np.ndarray:
    return np.full((512, 1), value, np.float32)


def test_a_full_queue_drops_the_oldest_and_counts_it() -> None:
    counters = Counters()
    queue = BlockQueue(counters, capacity=3)
    for value in range(5):
        queue.put(block(value), 16000)
    assert [one.samples[0, 0] for one in queue.take(0)] == [2, 3, 4]
    assert (counters.blocks, counters.dropped_blocks, counters.coalesced_blocks) == (5, 2, 2)
    assert queue.take(0) == []


def test_what_the_device_delivers_is_copied() -> None:
    queue, samples = BlockQueue(Counters()), block(1)
    queue.put(samples, 16000)
    samples[:] = 7
    assert queue.take(0)[0].samples.max() == 1


def test_a_reader_is_woken() -> None:
    queue = BlockQueue(Counters())
    thread = threading.Thread(target=lambda: (time.sleep(0.05), queue.put(block(1), 16000)))
    thread.start()
    assert len(queue.take(30)) == 1
    thread.join()


# Rates ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "wrong", "expected"),
    [
        (48000, (), [16000, 48000, 44100, 32000, 96000]),
        (44100, (16000,), [44100, 48000, 32000, 96000]),
        (8000, (), [16000, 48000, 44100, 32000, 96000]),
        (None, (), [16000, 48000, 44100, 32000, 96000]),
    ],
)
def test_the_rates_that_are_tried(own: int | None, wrong: tuple[int, ...], expected: list[int]) -> None:
    found = list(attempts(16000, own, frozenset(wrong)))
    assert [one.rate for one in found[::2]] == expected
    assert {one.channels for one in found[::2]} == {1}
    assert {one.channels for one in found[1::2]} == {2}


@dataclass
class Device:
    """Accepts some rates; no sound card here can be made to refuse any."""

    rates: tuple[int, ...]
    channels: int = 1

    def open(self, attempt: Attempt) -> OpenedDevice:
        if attempt.rate not in self.rates or attempt.channels != self.channels:
            raise OSError("Invalid sample rate [PaErrorCode -9997]")
        return OpenedDevice("USB", attempt.rate, attempt.channels)


@dataclass
class OpenedDevice:
    name: str
    rate: int
    channels: int
    ended: bool = False

    def close(self) -> None:
        self.ended = True


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (Device((16000, 48000)), (16000, 1)),
        (Device((44100, 48000)), (44100, 1)),
        (Device((48000,), channels=2), (48000, 2)),
    ],
)
def test_the_first_rate_that_is_accepted(device: Device, expected: tuple[int, int]) -> None:
    stream = open_first("USB", 16000, 44100, frozenset(), device.open)
    assert (stream.rate, stream.channels) == expected


def test_a_telephone_headset_is_refused_by_name() -> None:
    with pytest.raises(MicrophoneError, match="USB records at 8000 Hz only, the model needs 16000"):
        open_first("USB", 16000, 8000, frozenset(), Device((8000,)).open)


def test_a_device_that_cannot_be_opened_says_what_the_system_said() -> None:
    with pytest.raises(MicrophoneError, match=r"USB cannot be opened: Invalid sample rate \[PaErrorCode -9997\]"):
        open_first("USB", 16000, 48000, frozenset(), Device(()).open)


@pytest.mark.parametrize(
    ("real", "wrong"), [(16000, False), (15000, False), (48000, True), (8000, True), (44100, True)]
)
def test_a_device_that_does_not_keep_its_rate_is_found_out(real: int, wrong: bool) -> None:
    clock, samples = ClockCheck(16000), 0
    assert not clock.wrong
    while clock.measured is None:
        samples += 512
        clock.push(512, samples / real)
        assert samples < 10 * real
    assert clock.measured == pytest.approx(real, rel=0.02)
    assert clock.wrong is wrong


def test_backends_are_found_by_name() -> None:
    with pytest.raises(ListenError, match="no backend 'portaudoi'") as caught:
        Microphone(None, "portaudoi", 16000, Counters())
    assert "portaudio" in caught.value.hint


def test_a_microphone_takes_the_live_channel_and_removes_its_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stereo device of which one side is not connected, as I2S boards with one microphone are."""
    sound = np.random.default_rng(0).normal(0, 0.01, (OFFSET_BLOCKS + 10, 512)).astype(np.float32)

    def open_device(name: str | None, rate: int, queue: BlockQueue, wrong: frozenset[int]) -> OpenedDevice:
        return OpenedDevice("I2S", rate, 2)

    monkeypatch.setattr(microphone, "BACKENDS", {"i2s": open_device})
    device = Microphone(None, "i2s", 16000, Counters())
    sounds = device.sounds()
    for number, each in enumerate(sound):
        device._queue.put(np.stack([each + np.float32(0.02), np.zeros(512, np.float32)], axis=1), 16000)
        heard = next(sounds)
        assert heard is not None
        assert np.abs(heard.samples - each).max() < (1e-3 if number >= OFFSET_BLOCKS else 0.021)


# Counters ------------------------------------------------------------------------------------------------------------


def test_every_counter_is_described() -> None:
    for number in fields(Counters):
        assert number.metadata["kind"] in ("counter", "gauge")
        assert number.metadata["meaning"].endswith(".")


def test_prometheus_reads_the_counters() -> None:
    text = prometheus_text(Counters(blocks=3_000_000, level_db=-20.5).to_json())
    assert "# TYPE edgeser_blocks_total counter\nedgeser_blocks_total 3000000\n" in text
    assert "# TYPE edgeser_level_db gauge\nedgeser_level_db -20.5\n" in text
    assert text.endswith("\n")
    assert len([line for line in text.splitlines() if not line.startswith("#")]) == len(fields(Counters))


def test_a_block_wakes_who_waits():
    queue = BlockQueue(Counters())
    recorder = threading.Timer(0.2, lambda: queue.put(block(7), 16000))
    recorder.start()
    began, taken = time.monotonic(), []
    while not taken and time.monotonic() - began < 10:
        taken = queue.take(5.0)
    assert [found.samples[0, 0] for found in taken] == [7]
    assert time.monotonic() - began < 5
    assert queue.take(0.01) == []


def test_the_recording_thread_goes_before_others_where_it_may():
    found: list[tuple[bool, int]] = []

    def record() -> None:
        granted = prefer_this_thread()
        found.append((granted, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))

    before = os.getpriority(os.PRIO_PROCESS, 0)
    thread = threading.Thread(target=record)
    thread.start()
    thread.join()
    ((granted, niceness),) = found
    assert niceness == (NICENESS if granted else before)
    assert granted or os.geteuid() != 0
    BlockQueue(Counters()).put(block(1), 16000)  # from the main thread, which works all the time
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
