"""Features: cached by content and front-end, normalised by the training clips, and what happens to bad files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeser.cache import read_recordings
from edgeser.corpora import load_corpus, make_split
from edgeser.corpora.errors import ConflictingCopies, CorpusError
from edgeser.representation.base import Features
from edgeser.representation.logmel import LogMelReader, extract
from edgeser.workers import Workers
from edgeser_device.data.audio import read_audio
from edgeser_device.frontend import FrontendSpec, centre_window, clip_log_mel, windows
from edgeser_export.utilities.outside import cache_folder

SPEC = FrontendSpec()
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGESER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_tone(path: Path, seed: int, seconds: float = 0.4, rate: int = 16000, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(int(seconds * rate)) / rate
    tone = 0.2 * np.sin(2 * np.pi * (200 + 40 * seed) * times)
    soundfile.write(path, tone + np.random.default_rng(seed).normal(0, 0.02, len(times)), rate, **options)
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two classes, five speakers, two clips each."""
    seed = 0
    for emotion in ("anger", "neutral"):
        for speaker in "abcde":
            for take in (1, 2):
                seed += 1
                write_tone(tmp_path / "corpus" / emotion / f"{speaker}_{take}.wav", seed, 0.2 + 0.05 * seed)
    return tmp_path / "corpus"


def features_of(folder: Path, spec: FrontendSpec = SPEC) -> Features:
    found = load_corpus("folder", folder)
    return extract(found, make_split(found), spec, Workers(1))


def entries(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.f32"))


def test_a_cached_entry_is_read_with_the_same_bits(corpus: Path, empty_cache: Path) -> None:
    path = corpus / "anger" / "a_1.wav"
    fresh = read_recordings([path], LogMelReader(SPEC), Workers(1))[path]
    (entry,) = entries(empty_cache)
    written = entry.stat().st_mtime_ns
    again = read_recordings([path], LogMelReader(SPEC), Workers(1))[path]
    assert np.array_equal(fresh, again)
    assert np.array_equal(fresh, clip_log_mel(read_audio(path, SPEC.rate), SPEC))
    assert entry.stat().st_mtime_ns == written


def test_what_the_cache_says_is_believed(corpus: Path, empty_cache: Path) -> None:
    """Otherwise the test above would pass without a cache."""
    path = corpus / "anger" / "a_1.wav"
    read_recordings([path], LogMelReader(SPEC), Workers(1))
    np.full((64, 3), 7, dtype="<f4").tofile(entries(empty_cache)[0])
    assert np.array_equal(
        read_recordings([path], LogMelReader(SPEC), Workers(1))[path], np.full((64, 3), 7, dtype=np.float32)
    )


@pytest.mark.parametrize("damage", [b"", b"\0" * 100])
def test_an_entry_of_an_impossible_length_is_computed_again(corpus: Path, empty_cache: Path, damage: bytes) -> None:
    path = corpus / "anger" / "a_1.wav"
    fresh = read_recordings([path], LogMelReader(SPEC), Workers(1))[path]
    entries(empty_cache)[0].write_bytes(damage)
    assert np.array_equal(read_recordings([path], LogMelReader(SPEC), Workers(1))[path], fresh)


@pytest.mark.parametrize(
    ("change", "count"),
    [({"hop": 256}, 2), ({"mels": 40}, 2), ({"trim_db": 60.0}, 2), ({"mean": 3.0, "std": 2.0}, 1), ({"frames": 50}, 1)],
)
def test_the_key_holds_what_changes_the_levels_and_nothing_else(
    corpus: Path, empty_cache: Path, change: dict[str, float], count: int
) -> None:
    path = corpus / "anger" / "a_1.wav"
    read_recordings([path], LogMelReader(SPEC), Workers(1))
    other = replace(SPEC, **change)
    assert np.array_equal(
        read_recordings([path], LogMelReader(other), Workers(1))[path],
        clip_log_mel(read_audio(path, other.rate), other),
    )
    assert len(entries(empty_cache)) == count


def test_a_changed_recording_is_computed_again_and_a_moved_one_is_not(corpus: Path, empty_cache: Path) -> None:
    path = corpus / "anger" / "a_1.wav"
    before = read_recordings([path], LogMelReader(SPEC), Workers(1))[path]
    moved = path.rename(path.with_name("a_9.wav"))
    assert np.array_equal(read_recordings([moved], LogMelReader(SPEC), Workers(1))[moved], before)
    assert len(entries(empty_cache)) == 1
    write_tone(moved, seed=77)
    assert not np.array_equal(read_recordings([moved], LogMelReader(SPEC), Workers(1))[moved], before)
    assert len(entries(empty_cache)) == 2


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("EDGESER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "edgeser"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "edgeser"


def test_two_processes_compute_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More files than one piece of 64, without a cache to agree through."""
    paths = [write_tone(tmp_path / f"{seed}.wav", seed, seconds=0.1) for seed in range(70)]
    monkeypatch.setenv("EDGESER_CACHE", str(tmp_path / "one"))
    alone = read_recordings(paths, LogMelReader(SPEC), Workers(1))
    for entry in entries(tmp_path / "one"):
        entry.unlink()
    together = read_recordings(paths, LogMelReader(SPEC), Workers(2))
    assert list(alone) == list(together) == paths
    assert all(np.array_equal(alone[path], together[path]) for path in paths)


def test_the_normalisation_comes_from_the_training_clips_alone(corpus: Path) -> None:
    found = features_of(corpus)
    crops = np.stack([centre_window(levels, 96) for levels in found.train.levels]).astype(np.float64)
    assert found.train.frontend.mean == pytest.approx(crops.mean(), rel=1e-6)
    assert found.train.frontend.std == pytest.approx(crops.std(), rel=1e-6)
    assert abs(found.train.crops.mean()) < 1e-4
    assert abs(found.train.crops.std() - 1) < 1e-4
    assert found.dev.frontend == found.test.frontend == found.train.frontend
    for part in ("dev", "test"):
        for seed, path in enumerate({utterance.path for utterance in getattr(found, part).utterances}):
            noise = np.random.default_rng([seed, len(part)]).normal(0, 0.3, 16000)
            soundfile.write(path, noise, 16000)
    again = features_of(corpus)
    assert again.train.frontend == found.train.frontend
    assert not np.array_equal(again.test.crops, found.test.crops)


def test_parts_hold_one_crop_a_clip_and_all_windows(corpus: Path) -> None:
    long = write_tone(corpus / "anger" / "a_1.wav", 5, seconds=6.0)
    found = features_of(corpus)
    assert found.corpus.labels == ("anger", "neutral")
    for part in (found.train, found.dev, found.test):
        assert part.crops.shape == (len(part), 1, 64, 96)
        assert part.crops.dtype == np.float32
        assert [found.corpus.labels[label] for label in part.labels] == [each.emotion for each in part.utterances]
        x, owners = part.windows()
        assert np.bincount(owners, minlength=len(part)).tolist() == [
            len(windows(levels, found.train.frontend)) for levels in part.levels
        ]
        assert x.shape == (len(owners), 1, 64, 96)
    owner = next(part for part in (found.train, found.dev, found.test) if any(u.path == long for u in part.utterances))
    assert len(owner.windows()[0]) > len(owner)


def test_bytes_are_those_of_the_training_recordings(corpus: Path) -> None:
    found = features_of(corpus)
    assert found.size == sum(utterance.path.stat().st_size for utterance in found.train.utterances)


def test_bad_recordings_are_listed_and_left_out(corpus: Path) -> None:
    split = make_split(load_corpus("folder", corpus))
    speaker = split.describe()["train"]["speakers"][0]
    empty, noise, nan = (corpus / "anger" / f"{speaker}_{take}.wav" for take in (7, 8, 9))
    empty.touch()
    noise.write_bytes(b"RIFF but not really" * 10)
    soundfile.write(nan, np.array([0.1, np.nan, 0.2] * 4000), 16000, subtype="FLOAT")
    found = features_of(corpus)
    assert {path.name for path, _ in found.unreadable} == {empty.name, noise.name, nan.name}
    reasons = dict(found.unreadable)
    assert "0 bytes" in reasons[empty]
    assert "decoded" in reasons[noise]
    assert "not finite" in reasons[nan]
    assert not {empty, noise, nan} & {utterance.path for utterance in found.train.utterances}
    assert len(found.train) == len(split.train)


def test_a_class_without_a_readable_recording_is_an_error(corpus: Path) -> None:
    for path in (corpus / "anger").iterdir():
        path.write_bytes(b"")
    with pytest.raises(CorpusError, match=r"no recording of 'anger'.*cannot be read") as caught:
        features_of(corpus)
    assert f"edgeser data check {corpus} --corpus folder" in caught.value.hint


def test_a_part_without_a_readable_recording_is_an_error(corpus: Path) -> None:
    for utterance in make_split(load_corpus("folder", corpus)).test:
        utterance.path.write_bytes(b"")
    with pytest.raises(CorpusError, match="the test part has no recording"):
        features_of(corpus)


def test_a_class_that_is_readable_in_no_clip_of_the_test_part_is_an_error(corpus: Path) -> None:
    for utterance in make_split(load_corpus("folder", corpus)).test:
        if utterance.emotion == "neutral":
            utterance.path.write_bytes(b"")
    with pytest.raises(CorpusError, match="the test part has no recording of 'neutral'"):
        features_of(corpus)


def test_one_recording_with_two_emotions_is_refused(corpus: Path) -> None:
    samples, rate = soundfile.read(corpus / "anger" / "a_1.wav", dtype="int16")
    soundfile.write(corpus / "neutral" / "a_9.flac", samples, rate)
    with pytest.raises(ConflictingCopies, match=r"different emotions: anger/a_1\.wav, neutral/a_9\.flac"):
        features_of(corpus)


def test_silence_is_no_copy(corpus: Path) -> None:
    for emotion in ("anger", "neutral"):
        soundfile.write(corpus / emotion / "a_9.wav", np.zeros(16000), 16000)
    features_of(corpus)


@pytest.mark.parametrize(
    ("rate", "channels", "options"),
    [
        (8000, 1, {"subtype": "PCM_16"}),
        (44100, 2, {"subtype": "PCM_24"}),
        (16000, 1, {"subtype": "FLOAT"}),
        (48000, 1, {"format": "FLAC"}),
        (22050, 2, {"format": "OGG"}),
    ],
)
def test_every_usual_kind_of_recording_gives_nearly_the_same_levels(
    tmp_path: Path, rate: int, channels: int, options: dict[str, str]
) -> None:
    """A tone that every rate can carry: below 3 kHz the levels agree within what 16 bits and Ogg lose."""

    def tone(at: int) -> np.ndarray:
        times = np.arange(at) / at
        return sum(0.1 * np.sin(2 * np.pi * pitch * times) for pitch in (300, 700, 1100, 1900, 2600))

    soundfile.write(tmp_path / "plain.wav", tone(16000), 16000, subtype="FLOAT")
    other = tmp_path / "other"
    soundfile.write(other, np.stack([tone(rate)] * channels, axis=1), rate, **{"format": "WAV", **options})
    found = read_recordings([tmp_path / "plain.wav", other], LogMelReader(SPEC), Workers(1))
    plain, levels = found.values()
    loud = plain[:, 3:-3] > -15
    assert loud.any()
    assert abs(plain.shape[1] - levels.shape[1]) <= 1
    shared = slice(3, min(plain.shape[1], levels.shape[1]) - 3)
    assert np.abs(levels[:, shared] - plain[:, shared])[plain[:, shared] > -15].max() < 1.0
