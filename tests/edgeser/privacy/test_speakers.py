"""Linkage finds voices that are there, is at chance on lots, and asks about no clip that it learnt."""

from __future__ import annotations

import numpy as np
import pytest

from edgeser.privacy import figures
from edgeser.privacy import speakers as speakers_module
from edgeser.privacy.speakers import Linked, Voices, linkage_figures, sex_figures, too_few_clips

SPEAKERS, EACH = 6, 30


@pytest.fixture(scope="module")
def voices() -> Voices:
    """Six speakers with a spectrum of their own, three of them women, whose spectra are alike."""
    random = np.random.default_rng(0)
    speakers = np.repeat(np.arange(SPEAKERS), EACH)
    women = speakers >= 3
    spectra = 0.6 * random.standard_normal((SPEAKERS, 16))
    spectra[3:, :4] += 1.5
    clips = spectra[speakers][:, :, None] + random.standard_normal((len(speakers), 16, 20))
    return Voices(clips.astype(np.float32), speakers, women)


def test_stored_clips_and_mixtures_are_linked_to_their_speakers(voices: Voices) -> None:
    random = np.random.default_rng(1)
    single = random.permutation(SPEAKERS * EACH)[:24][:, None]
    several = np.stack([random.permutation(SPEAKERS)[:2] * EACH + random.integers(EACH, size=2) for _ in range(24)])
    found = linkage_figures(
        voices,
        {
            "subset": Linked(voices.clips[single[:, 0]], single, "is"),
            "mixed": Linked(voices.clips[several].mean(1), several, "began as"),
        },
    )
    assert found["real"]["top_1"]["low"] > 0.8
    assert found["real"]["equal_error"]["high"] < 0.15
    subset, mixed = found["sets"]["subset"], found["sets"]["mixed"]
    assert subset["chance"] == pytest.approx(1 / SPEAKERS)
    assert mixed["chance"] == pytest.approx(2 / SPEAKERS)
    for each in (subset, mixed):
        assert each["applied"]["top_1"]["low"] > each["chance"] + 0.2
        assert each["retrained"]["top_1"]["low"] > found["chance"]["top_1"]
        assert each["applied"]["equal_error"]["high"] < 0.4


def test_noise_with_speakers_by_lot_is_at_chance(voices: Voices) -> None:
    random = np.random.default_rng(2)
    noise = random.standard_normal((60, 16, 20)).astype(np.float32)
    lots = random.permutation(SPEAKERS * EACH)[:60][:, None]
    found = linkage_figures(voices, {"noise": Linked(noise, lots, "by lot")})["sets"]["noise"]
    for name in ("applied", "retrained"):
        assert found[name]["top_1"]["low"] <= 1 / SPEAKERS <= found[name]["top_1"]["high"] + 0.05
        assert found[name]["equal_error"]["low"] <= 0.5 <= found[name]["equal_error"]["high"] + 0.05


def test_items_of_one_speaker_can_be_learnt_from(voices: Voices) -> None:
    first = np.arange(4)[:, None]  # all of one speaker: the classifier can only name that one
    found = linkage_figures(voices, {"one": Linked(voices.clips[:4], first, "is")})["sets"]["one"]
    assert found["retrained"]["top_1"]["value"] == pytest.approx(1 / SPEAKERS, abs=0.03)


def test_sex_is_inferred_where_the_corpus_tells_it(voices: Voices) -> None:
    random = np.random.default_rng(3)
    chosen = random.permutation(SPEAKERS * EACH)[:40][:, None]
    noise = random.standard_normal((40, 16, 20)).astype(np.float32)
    found = sex_figures(
        voices, {"subset": Linked(voices.clips[chosen[:, 0]], chosen, "is"), "noise": Linked(noise, chosen, "by lot")}
    )
    assert found is not None
    assert found["real"]["accuracy"]["low"] > 0.9
    assert found["sets"]["subset"]["applied"]["auc"]["low"] > 0.9
    noisy = found["sets"]["noise"]["applied"]["auc"]
    assert noisy["low"] <= 0.5 <= noisy["high"]


def test_intervals_draw_whole_speakers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that hears the speaker and knows nothing of sex: 95 % intervals hold chance in most corpora."""
    monkeypatch.setattr(speakers_module, "_Judge", lambda *_: _by_level)
    monkeypatch.setattr(figures, "REPEATS", 200)
    random, count, each, missed = np.random.default_rng(5), 14, 24, 0
    speakers = np.repeat(np.arange(count), each)
    for _ in range(60):
        levels = 2 * random.standard_normal(count)[speakers] + 0.2 * random.standard_normal(len(speakers))
        clips = np.broadcast_to(levels[:, None, None], (len(speakers), 2, 2)).astype(np.float32)
        females = random.permutation(np.arange(count) % 2 == 1)[speakers]
        chosen = np.flatnonzero(np.arange(len(speakers)) % each < 12)[:, None]
        found = sex_figures(Voices(clips, speakers, females), {"it": Linked(clips[chosen[:, 0]], chosen, "is")})
        assert found is not None
        area = found["sets"]["it"]["applied"]["auc"]
        missed += not area["low"] <= 0.5 <= area["high"]
    assert missed <= 10


def _by_level(features: np.ndarray) -> np.ndarray:
    sure = 1 / (1 + np.exp(-features[:, 0]))
    return np.stack([1 - sure, sure], axis=1)


def test_items_of_one_speaker_are_drawn_together() -> None:
    """Top-1 is right for all items of half of the speakers: as uncertain as that many speakers are, not as items."""
    speakers = np.repeat(np.arange(8), 12)
    said = np.where(speakers % 2, speakers, (speakers + 1) % 8)
    others = np.stack([speakers, (speakers + 2) % 8], axis=1)
    for targets in (speakers[:, None], others):
        found = speakers_module._figures(np.eye(8)[said] * 0.9 + 0.0125, targets)["top_1"]
        assert found["value"] == 0.5
        assert found["high"] - found["low"] > 0.5


def test_speakers_without_clips_of_their_own_are_counted() -> None:
    speakers = np.repeat(np.arange(3), 8)
    assert too_few_clips(speakers, np.array([0, 1, 2, 3, 3, 8])) == ""
    assert "of 1 of 3 speakers fewer than 4" in too_few_clips(speakers, np.arange(5))
    assert "of 3 of 3 speakers" in too_few_clips(speakers, np.arange(24))


def test_where_the_corpus_does_not_tell_there_is_no_figure(voices: Voices) -> None:
    assert sex_figures(Voices(voices.clips, voices.speakers), {}) is None
