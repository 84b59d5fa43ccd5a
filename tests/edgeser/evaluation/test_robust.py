"""Corrupted sound: what each kind does, that it repeats, and a run measured in all of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeser.cli.entry import main
from edgeser.config.settings import Settings
from edgeser.config.values import changed
from edgeser.corpora.demo import FOLDER
from edgeser.distill.pipeline import distill
from edgeser.evaluation.corruptions import CORRUPTIONS, CorruptedReader, Sound
from edgeser.evaluation.evaluate import Plan, evaluate
from edgeser.evaluation.robust import keep_robust, measure_robust, summed
from edgeser.evaluation.scoring import Score
from edgeser.representation.logmel import LogMelReader
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.data.audio import read_audio
from edgeser_device.frontend import FrontendSpec

RATE = 16_000
VOICES = tuple(sorted(FOLDER.glob("f1_*.ogg")))[:6]
LEVELS = [(kind, level) for kind, row in CORRUPTIONS.items() for level in row]
CLIP = next(FOLDER.glob("m1_anger_01.ogg"))


def corrupted(kind: str, level: str, sound: Sound, seed: int = 0) -> Sound:
    return CORRUPTIONS[kind][level](sound, RATE, np.random.default_rng(seed), VOICES)


def ratio_db(sound: Sound, other: Sound) -> float:
    return float(10 * np.log10(np.mean(sound.astype(float) ** 2) / np.mean((other - sound).astype(float) ** 2)))


@pytest.mark.parametrize(("kind", "level"), LEVELS)
def test_each_keeps_length_and_type_and_changes_the_sound(kind: str, level: str) -> None:
    sound = read_audio(CLIP, RATE)
    found = corrupted(kind, level, sound)
    assert (found.shape, found.dtype) == (sound.shape, np.float32)
    assert np.isfinite(found).all()
    assert not np.array_equal(found, sound)


@given(
    st.sampled_from(LEVELS),
    st.sampled_from([160, 400, 4001, 17_000]),
    st.sampled_from([0.0, 1e-4, 1.0]),
    st.integers(0, 3),
)
def test_any_sound_of_a_hundredth_of_a_second_or_more_passes(
    which: tuple[str, str], count: int, level: float, seed: int
) -> None:
    sound = (level * np.random.default_rng(seed).uniform(-1, 1, count)).astype(np.float32)
    found = corrupted(*which, sound, seed)
    assert found.shape == (count,)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("kind", ["babble", "music", "white", "pink"])
@pytest.mark.parametrize("db", [20, 10, 5])
def test_other_sounds_are_as_much_quieter_as_they_say(kind: str, db: int) -> None:
    sound = read_audio(CLIP, RATE)
    assert ratio_db(sound, corrupted(kind, f"{db} dB", sound)) == pytest.approx(db, abs=0.05)


@pytest.mark.parametrize("percent", [1, 5, 20])
def test_clipping_cuts_its_share_of_the_samples(percent: int) -> None:
    sound = read_audio(CLIP, RATE)
    found = corrupted("clipping", f"{percent} %", sound)
    assert np.mean(np.abs(found) == np.abs(found).max()) == pytest.approx(percent / 100, abs=0.001)


def test_levels_and_rooms_are_as_they_say() -> None:
    sound = read_audio(CLIP, RATE)
    np.testing.assert_allclose(corrupted("gain", "-20 dB", sound), sound / 10, rtol=1e-5)
    assert np.abs(corrupted("gain", "+10 dB", 5 * sound)).max() == 1
    click = np.zeros(RATE, dtype=np.float32)
    click[0] = 1
    echo = corrupted("room", "0.5 s", click).astype(float) ** 2
    begins, ends = echo[:1600].sum() - echo[0], echo[6400:8000].sum()
    assert 10 * np.log10(begins / ends) == pytest.approx(60 * 0.4 / 0.5, abs=4)
    assert echo[8001:].max() < 1e-20


def test_a_codec_keeps_what_it_can() -> None:
    sound = read_audio(CLIP, RATE)
    spectrum = np.abs(np.fft.rfft(corrupted("codec", "mu-law 8 kHz", sound)))
    middle = len(spectrum) // 2
    assert spectrum[round(1.05 * middle) :].sum() < 0.02 * spectrum[:middle].sum()
    lags = np.correlate(corrupted("codec", "MP3 64 kbit/s", sound), sound[:4000], "valid")
    assert lags.max() > 0.9 * float(np.dot(sound[:4000], sound[:4000]))


def test_a_recording_sounds_the_same_each_time_and_other_levels_have_other_keys() -> None:
    own = LogMelReader(FrontendSpec())
    readers = [CorruptedReader(own, kind, level, VOICES) for kind, level in LEVELS]
    assert len({each.key for each in [own, *readers]}) == len(LEVELS) + 1
    for reader in readers[::4]:
        np.testing.assert_array_equal(reader(CLIP), reader(CLIP))
        assert reader(CLIP).shape[0] == own.shape[0]


def test_the_mean_error_is_over_all_levels() -> None:
    empty = np.zeros(1, dtype=np.int64)
    clean = [Score(0.8, empty.astype(float), empty[:, None], empty)]
    found = summed(clean, {"room": {"a": {"uar": 0.6}, "b": {"uar": 0.8}}, "gain": {"c": {"uar": 0.7}}})
    assert found["mce"] == pytest.approx(0.3)
    assert found["relative"] == pytest.approx(1.5)
    perfect = [Score(1.0, empty.astype(float), empty[:, None], empty)]
    assert summed(perfect, {"room": {"a": {"uar": 0.6}}})["relative"] is None


@pytest.mark.slow
def test_a_run_is_measured_in_all_ways(tiny: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = distill(changed(tiny, {"method": "random"}), tmp_path / "run", Workers(1), resume=False, warn=lambda _: None)
    evaluate(run, Plan((0,), ("distilled",)), Workers(1))
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", str(run.folder), "--seeds", "2", "--robust", "--jobs", "1", "--json"])
    assert caught.value.code == 0
    found = json.loads(capsys.readouterr().out)["robust"]
    assert {(kind, level) for kind in CORRUPTIONS for level in found[kind]} == set(LEVELS)
    assert found["clean"]["uar"] == pytest.approx(Run(run.folder).metrics()["distilled"]["uar_mean"])
    assert all(0 <= each["unchanged"] <= 1 for kind in CORRUPTIONS for each in found[kind].values())
    assert found["seeds"] == [0, 1]
    again = measure_robust(run, (0, 1), Workers(1))
    assert again == found
    evaluate(run, Plan((0, 1), ("distilled", "random")), Workers(1))
    assert keep_robust(run, again)["robust"] == found
    with pytest.raises(SystemExit) as caught:
        main(["report", str(run.folder), "--json"])
    assert caught.value.code == 0
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "mu-law 8 kHz" in page
    assert "--robust --seeds 2" in page
