"""The one reader: whole, in blocks and by the check it says and gives the same, whatever the file's disguise."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings

from edgeser.corpora.check import inspect
from edgeser_device.data.audio import OFFSET_BLOCKS, Mixdown, decode, read_audio, read_blocks, resample, trim_silence
from edgeser_device.data.recordings import ENDINGS, OTHER_ENDINGS, find_audio
from edgeser_device.errors import AudioError

RATE = 16000
IN_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
NAMED = "WAV WAVEX RF64 W64 FLAC OGG MP3 AIFF AU CAF NIST AVR IRCAM PAF PVF SVX SDS"
UNWRITTEN = {"MPEG_LAYER_I", "MPEG_LAYER_II", "DWVW_12"}
"""What libsndfile reads and cannot write."""
FORMS = [
    (form, subtype)
    for form in NAMED.split()
    for subtype in soundfile.available_subtypes(form)
    if subtype not in UNWRITTEN and (form, subtype) != ("WAV", "MPEG_LAYER_III")
]
STATING = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "OGG", "MP3"}
"""Formats in which a file that was cut says so."""


def voice(seconds: float = 1.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Syllables between faint noise, float32 (n,), without an offset: each block is a whole number of periods long."""
    times = np.arange(round(seconds * rate)) / rate
    loud = np.clip(np.sin(2 * np.pi * 2 * times), 0, 1) * (abs(times / seconds - 0.5) < 0.3)
    noise = np.random.default_rng(seed).normal(0, 1e-5, len(times))
    return (0.3 * loud * np.sin(2 * np.pi * 125 * times) + noise).astype(np.float32)


def encoded(samples: np.ndarray, rate: int = RATE, form: str = "WAV", subtype: str = "FLOAT") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def said_by(read: Callable[[], np.ndarray]) -> np.ndarray | str:
    """Samples, or why there are none."""
    try:
        return read()
    except AudioError as error:
        return f"{error.message}; {error.hint}"


def verdicts(path: Path, rate: int = RATE) -> np.ndarray | str:
    """What all ways to read a file agree on: its samples at ``rate`` Hz, or why there are none."""
    whole = said_by(lambda: read_audio(path, rate))
    joined = said_by(lambda: np.concatenate(list(read_blocks(path, rate))))
    facts = inspect(path)
    if isinstance(whole, str):
        assert joined == whole
        assert whole == f"{path} {facts.problem}"
        return whole
    decoded = decode(path)
    assert np.array_equal(joined, whole)
    assert np.array_equal(decoded.mono if decoded.rate == rate else resample(decoded.mono, decoded.rate, rate), whole)
    assert facts.problem is None
    assert (facts.cut, facts.offset) == (decoded.cut, float(decoded.mixdown.offset))
    return whole


# Formats -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "subtype"), FORMS)
@pytest.mark.parametrize("rate", [8000, 16000])
def test_every_form_is_read_alike(tmp_path: Path, form: str, subtype: str, rate: int) -> None:
    path = tmp_path / "clip"
    path.write_bytes(encoded(voice(rate=rate), rate, form, subtype))
    found = verdicts(path)
    assert not isinstance(found, str)
    assert len(found) == pytest.approx(RATE, abs=2500)  # frames of the worst codecs are long
    assert np.abs(found).max() == pytest.approx(0.3, abs=0.05)


@IN_FOLDER
@given(
    rate=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 96000]),
    length=st.integers(1, 40_000),
    gains=st.lists(st.sampled_from([-1.0, -0.3, 0.0, 0.3, 1.0]), min_size=1, max_size=6),
    offsets=st.lists(st.sampled_from([0.0, 0.0, -0.005, 0.2]), min_size=6, max_size=6),
    zeros=st.integers(0, 20_000),
)
def test_the_whole_and_its_blocks_are_the_same_samples(
    tmp_path: Path, rate: int, length: int, gains: list[float], offsets: list[float], zeros: int
) -> None:
    sound = voice(length / rate, rate)[:, None] * np.array(gains) + np.array(offsets[: len(gains)])
    sound[length // 3 : length // 3 + zeros] = 0
    path = tmp_path / "clip.wav"
    path.write_bytes(encoded(sound.astype(np.float32), rate))
    assert not isinstance(verdicts(path), str)


@IN_FOLDER
@given(
    form=st.sampled_from([each for each in FORMS if each[0] in STATING | {"FLAC", "CAF"}]),
    kept=st.floats(0.001, 0.95),
)
@example(form=("WAV", "PCM_16"), kept=0.5)
@example(form=("OGG", "OPUS"), kept=0.5)
def test_a_file_that_was_cut_is_refused_by_all_or_said_to_be_cut(
    tmp_path: Path, form: tuple[str, str], kept: float
) -> None:
    data = encoded(voice(2.0), RATE, *form)
    path = tmp_path / "clip.wav"
    path.write_bytes(data[: max(1, int(kept * len(data)))])
    found = verdicts(path)
    if not isinstance(found, str):
        cut = decode(path)
        assert cut.cut is not None
        path.write_bytes(data)
        whole = decode(path)
        assert whole.cut is None
        there = np.concatenate(cut.pieces)[:-4096]  # what follows a cut decides the last samples before it
        assert np.array_equal(there, np.concatenate(whole.pieces)[: len(there)])


@IN_FOLDER
@given(place=st.integers(0, 60), value=st.integers(0, 255), form=st.sampled_from(["WAV", "AIFF", "AU", "FLAC", "OGG"]))
def test_a_damaged_header_has_one_verdict(tmp_path: Path, place: int, value: int, form: str) -> None:
    data = bytearray(encoded(voice(0.2), RATE, form, "VORBIS" if form == "OGG" else "PCM_16"))
    data[place] = value
    path = tmp_path / "clip.wav"
    path.write_bytes(data)
    verdicts(path)


@pytest.mark.parametrize("length", [0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFF000 + 36])
def test_a_length_that_was_not_known_is_no_cut(tmp_path: Path, length: int) -> None:
    data = bytearray(encoded(voice(), RATE, "WAV", "PCM_16"))
    place = data.index(b"data") + 4
    data[place : place + 4] = length.to_bytes(4, "little")
    path = tmp_path / "piped.wav"
    path.write_bytes(data)
    assert len(verdicts(path)) == RATE
    assert inspect(path).cut is None


def test_a_header_that_is_wrong_by_its_own_length_is_no_cut(tmp_path: Path) -> None:
    data = bytearray(encoded(voice(), RATE, "WAV", "PCM_16"))
    place = data.index(b"data") + 4
    data[place : place + 4] = len(data).to_bytes(4, "little")
    path = tmp_path / "sloppy.wav"
    path.write_bytes(data)
    assert len(verdicts(path)) == RATE
    assert inspect(path).cut is None


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 73148\n")
    assert "is a pointer of git-lfs" in str(verdicts(path))
    assert "git lfs pull" in str(inspect(path).problem)


# Names ---------------------------------------------------------------------------------------------------------------


@given(name=st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & set(b"\0/.")))
@IN_FOLDER
def test_any_name_is_read(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / (os.fsdecode(name) + ".wav")
    path.write_bytes(encoded(voice(0.1)))
    assert len(verdicts(path)) == 1600
    assert path in find_audio(tmp_path)
    path.unlink()


def test_endings_are_looked_for_in_any_case_and_hidden_files_are_not(tmp_path: Path) -> None:
    for name in ("a.WAV", "b.opus", "c.m4a", "d.txt", ".e.wav", "__MACOSX/f.wav", "g/h.Aiff"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in find_audio(tmp_path)] == ["a.WAV", "b.opus", "h.Aiff"]
    assert [path.name for path in find_audio(tmp_path, OTHER_ENDINGS)] == ["c.m4a"]
    assert not ENDINGS & OTHER_ENDINGS


# Offsets -------------------------------------------------------------------------------------------------------------


@IN_FOLDER
@given(
    offset=st.floats(0.004, 0.6).flatmap(lambda size: st.sampled_from([size, -size])),
    gain=st.floats(0.05, 1.0),
    rate=st.sampled_from([16000, 44100]),
    channels=st.sampled_from([1, 2]),
)
@example(offset=0.005, gain=1.0, rate=16000, channels=1)
def test_an_offset_makes_no_difference(tmp_path: Path, offset: float, gain: float, rate: int, channels: int) -> None:
    clean = np.repeat(gain * voice(2.0, rate)[:, None], channels, axis=1).astype(np.float32)
    path = tmp_path / "clip.wav"
    path.write_bytes(encoded(clean, rate))
    expected = verdicts(path)
    path.write_bytes(encoded((clean + offset).astype(np.float32), rate))
    found = verdicts(path)
    assert np.abs(found - expected).max() < 1e-5
    assert len(trim_silence(found, 40.0)) == len(trim_silence(expected, 40.0)) < 0.8 * len(found)
    assert inspect(path).offset == pytest.approx(offset, abs=1e-5)


def test_nothing_but_an_offset_is_silence(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(encoded(np.full((RATE, 2), 0.25, np.float32)))
    assert not verdicts(path).any()
    assert inspect(path).silent


def test_digital_silence_beside_an_offset_stays_digital_silence(tmp_path: Path) -> None:
    sound = np.concatenate([np.zeros(RATE), voice(2.0) + 0.02, np.zeros(RATE)]).astype(np.float32)
    path = tmp_path / "clip.wav"
    path.write_bytes(encoded(sound))
    found = verdicts(path)
    assert not found[: RATE - 512].any()
    assert np.abs(found[RATE : 3 * RATE] - voice(2.0)).max() < 1e-5


@pytest.mark.parametrize("offset", [0.0, 1e-5])
def test_a_recording_without_an_offset_is_left_as_it_is(tmp_path: Path, offset: float) -> None:
    path = tmp_path / "clip.wav"
    sound = voice(2.0) + np.float32(offset)
    path.write_bytes(encoded(sound))
    assert np.array_equal(verdicts(path), sound)


# Channels ------------------------------------------------------------------------------------------------------------


@IN_FOLDER
@given(
    others=st.lists(st.sampled_from(["zero", "constant", "hiss"]), min_size=1, max_size=5),
    place=st.integers(0, 5),
)
def test_the_one_channel_with_a_voice_is_used(tmp_path: Path, others: list[str], place: int) -> None:
    good = voice()
    made = {
        "zero": np.zeros_like(good),
        "constant": np.full_like(good, 0.4),
        "hiss": np.random.default_rng(1).normal(0, 1e-4, len(good)).astype(np.float32),
    }
    channels = [made[other] for other in others]
    channels.insert(place, good)
    path = tmp_path / "clip.wav"
    path.write_bytes(encoded(np.stack(channels, axis=1)))
    assert np.array_equal(verdicts(path), good)
    assert inspect(path).used == (min(place, len(others)) + 1,)


@IN_FOLDER
@given(dead=st.lists(st.booleans(), min_size=3, max_size=6).filter(lambda dead: 0 < sum(dead) < len(dead)))
def test_dead_channels_are_left_out_of_the_average(tmp_path: Path, dead: list[bool]) -> None:
    sound = np.stack([voice(seed=seed) for seed in range(len(dead))], axis=1) * np.float32(0.5)
    sound[:, dead] = 0.1
    path = tmp_path / "clip.wav"
    path.write_bytes(encoded(sound))
    assert np.array_equal(verdicts(path), sound[:, ~np.array(dead)].mean(axis=1, dtype=np.float32))
    assert inspect(path).used == tuple(number for number, each in enumerate(dead, 1) if not each)


@IN_FOLDER
@given(gain=st.floats(0.6, 1.0), pairs=st.integers(1, 3))
def test_opposite_channels_do_not_cancel(tmp_path: Path, gain: float, pairs: int) -> None:
    good = voice()
    path = tmp_path / "clip.wav"
    path.write_bytes(encoded(np.stack([good, -np.float32(gain) * good] * pairs, axis=1)))
    assert np.array_equal(verdicts(path), good)


@IN_FOLDER
@given(gain=st.floats(0.3, 1.0), delay=st.integers(0, 8), hiss=st.floats(0, 0.01))
def test_ordinary_stereo_is_averaged(tmp_path: Path, gain: float, delay: int, hiss: float) -> None:
    noise = np.random.default_rng(2).normal(0, hiss, (RATE, 2))
    stereo = (np.stack([voice(), gain * np.roll(voice(), delay)], axis=1) + noise).astype(np.float32)
    path = tmp_path / "clip.wav"
    path.write_bytes(encoded(stereo))
    expected = stereo.mean(axis=1, dtype=np.float32)
    found = verdicts(path)
    assert np.array_equal(found, expected) or np.abs(found + inspect(path).offset - expected).max() < 1e-6


# Scale ---------------------------------------------------------------------------------------------------------------


@IN_FOLDER
@given(scale=st.sampled_from([2.0**7, 2.0**15, 2.0**23, 2.0**31]))
def test_samples_of_another_scale_are_refused(tmp_path: Path, scale: float) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(encoded((voice() * scale).astype(np.float32)))
    assert "full scale is 1" in str(verdicts(path))


def test_sound_that_was_mixed_too_loud_is_read(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(encoded(voice() * 10))
    assert verdicts(path).max() == pytest.approx(3, abs=0.1)


# Streams -------------------------------------------------------------------------------------------------------------


def followed(sound: np.ndarray, block: int = 512) -> np.ndarray:
    mixdown = Mixdown(OFFSET_BLOCKS)
    return np.concatenate([mixdown.follow(part) for part in np.split(sound, range(block, len(sound), block))])


def test_a_stream_of_ordinary_stereo_is_averaged_and_zeros_stay() -> None:
    sound = np.concatenate([np.zeros(RATE), voice(2.5), np.zeros(RATE)]).astype(np.float32)
    stereo = np.stack([sound, 0.7 * sound], axis=1).astype(np.float32)
    assert np.array_equal(followed(stereo), stereo.mean(axis=1, dtype=np.float32))
    assert np.array_equal(followed(sound[:, None]), sound)


@pytest.mark.parametrize("other", [0.0, -1.0])
def test_a_dead_or_opposite_channel_of_a_stream_is_left_out_at_once(other: float) -> None:
    sound = voice(2.0)
    assert np.array_equal(followed(np.stack([other * sound, sound], axis=1).astype(np.float32)), sound * (other or 1))


@pytest.mark.parametrize("offset", [-0.02, 0.005])
def test_the_offset_of_a_stream_is_known_after_three_seconds(offset: float) -> None:
    sound = np.tile(voice(2.0), 5)
    found = followed((sound + offset)[:, None].astype(np.float32))
    assert np.abs(found[4 * RATE :] - sound[4 * RATE :]).max() < 2e-5
